"""Settings: read once from the environment, prefix `MIE_`, checked, frozen.

A bad or unknown setting is one line that names the setting, the value and what is allowed.
"""

from __future__ import annotations

import os
import re
from difflib import get_close_matches
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import ValidationError, field_validator
from pydantic_settings import BaseSettings, NoDecode, SettingsConfigDict

from market.symbols import check_symbol
from market.venues import VENUES

PREFIX = "MIE_"
INTERVALS: dict[str, int] = {
    "1s": 1, "5s": 5, "15s": 15, "30s": 30, "1m": 60, "3m": 180, "5m": 300, "15m": 900, "30m": 1800,
    "1h": 3600, "2h": 7200, "4h": 14400, "6h": 21600, "12h": 43200, "1d": 86400,
}  # fmt: skip
"""Candle interval names and their seconds; all divide a UTC day."""

INTERVAL_NAMES = {seconds: name for name, seconds in INTERVALS.items()}


class SettingError(ValueError):
    """A setting that cannot be used. Its text is one line for the user."""


class Settings(BaseSettings):
    """All settings of MIE, one environment variable each; the defaults run everything embedded."""

    model_config = SettingsConfigDict(env_prefix=PREFIX, frozen=True, extra="forbid")

    feed: str = "sim"
    """`sim`, `live` or `replay:PATH`."""
    sim_rate: int = 2000
    """The simulator's messages a second in all; 0 is as fast as they are read, from ready-made frames."""
    sim_seed: int = 1
    sim_ledger: bool = False
    """Let the simulator note every trade it sends in `<data_dir>/sim/trades.csv`: nothing may be lost."""
    venues: Annotated[tuple[str, ...], NoDecode] = VENUES
    universe_refresh_s: int = 300
    """How often the venues' lists are read again for halts, delistings and new listings; 0 is never."""
    symbols: str | None = None
    """Comma list of BASE-QUOTE or `top:N`; default `top:50`, in a replay all that the recording holds."""
    redis_url: str | None = None
    database_url: str | None = None
    data_dir: Path = Path(".mie")
    forge_window_ms: int = 150
    forge_min_witnesses: int = 1
    intervals: Annotated[tuple[str, ...], NoDecode] = ("1s", "1m", "5m", "15m", "1h", "4h", "1d")
    correlation_interval: str = "1m"
    correlation_window: int = 30
    """Returns in the Pearson window."""
    archive_dir: Path | None = None
    record_dir: Path | None = None
    record_max_mb: int = 10_240
    """Bound of `record_dir`; beyond it the oldest files are deleted."""
    replay_speed: str = "max"
    warm_candles: int = 250
    """Closed candles of the past a symbol and interval that indicators are warmed up with at the start; 0: none."""
    spool_max_mb: int = 1024
    """Bound of the write-ahead spool on disk while a store is away."""
    api_host: str = "127.0.0.1"
    api_port: int = 8000
    log_level: Literal["debug", "info", "warning", "error"] = "info"

    @field_validator("feed")
    @classmethod
    def _feed(cls, value: str) -> str:
        if value in ("sim", "live"):
            return value
        if value.startswith("replay:") and len(value) > len("replay:"):
            return value
        message = "sim, live or replay:PATH"
        raise ValueError(message)

    @field_validator("venues", mode="before")
    @classmethod
    def _venues(cls, value: Any) -> tuple[str, ...]:
        names = _comma_list(value)
        unknown = [name for name in names if name not in VENUES]
        if unknown or not names or len(set(names)) != len(names):
            message = f"a comma list of {','.join(VENUES)}"
            raise ValueError(message)
        return tuple(name for name in VENUES if name in names)

    @field_validator("symbols")
    @classmethod
    def _symbols(cls, value: str | None) -> str | None:
        if value is None or re.fullmatch(r"top:[1-9]\d{0,3}", value):
            return value
        try:
            names = [check_symbol(part) for part in value.split(",") if part.strip()]
        except ValueError:
            names = []
        if not names:
            message = "a comma list of BASE-QUOTE, or top:N"
            raise ValueError(message)
        return ",".join(sorted(set(names)))

    @field_validator("intervals", mode="before")
    @classmethod
    def _intervals(cls, value: Any) -> tuple[str, ...]:
        names = _comma_list(value)
        if not names or any(name not in INTERVALS for name in names):
            message = f"a comma list of {','.join(INTERVALS)}"
            raise ValueError(message)
        return tuple(sorted(set(names), key=INTERVALS.__getitem__))

    @field_validator("correlation_interval")
    @classmethod
    def _correlation_interval(cls, value: str) -> str:
        if value not in INTERVALS:
            message = f"one of {','.join(INTERVALS)}"
            raise ValueError(message)
        return value

    @field_validator("redis_url")
    @classmethod
    def _redis_url(cls, value: str | None) -> str | None:
        return _url(value, ("redis", "rediss", "unix"))

    @field_validator("database_url")
    @classmethod
    def _database_url(cls, value: str | None) -> str | None:
        return _url(value, ("postgresql", "postgres"))

    @field_validator("replay_speed")
    @classmethod
    def _replay_speed(cls, value: str) -> str:
        if value == "max":
            return value
        try:
            factor = float(value)
        except ValueError:
            factor = 0.0
        if not 0 < factor < 1e6:
            message = "max, or a factor above 0"
            raise ValueError(message)
        return value

    @field_validator("forge_window_ms")
    @classmethod
    def _window(cls, value: int) -> int:
        return _within(value, 100, 200)

    @field_validator("forge_min_witnesses")
    @classmethod
    def _witnesses(cls, value: int) -> int:
        return _within(value, 1, len(VENUES) - 1)

    @field_validator("universe_refresh_s")
    @classmethod
    def _refresh(cls, value: int) -> int:
        return _within(value, 0, 86_400)

    @field_validator("sim_rate")
    @classmethod
    def _rate(cls, value: int) -> int:
        return _within(value, 0, 1_000_000)

    @field_validator("correlation_window")
    @classmethod
    def _correlation_window(cls, value: int) -> int:
        return _within(value, 3, 10_000)

    @field_validator("warm_candles")
    @classmethod
    def _warm(cls, value: int) -> int:
        return _within(value, 0, 1000)

    @field_validator("spool_max_mb")
    @classmethod
    def _spool(cls, value: int) -> int:
        return _within(value, 1, 1_000_000)

    @field_validator("record_max_mb")
    @classmethod
    def _record(cls, value: int) -> int:
        return _within(value, 64, 100_000_000)

    @field_validator("api_port")
    @classmethod
    def _port(cls, value: int) -> int:
        return _within(value, 0, 65535)

    @property
    def replay_path(self) -> Path | None:
        """The recording to replay, or None."""
        return Path(self.feed.removeprefix("replay:")) if self.feed.startswith("replay:") else None

    @property
    def interval_seconds(self) -> tuple[int, ...]:
        """Candle intervals in seconds, ascending."""
        return tuple(INTERVALS[name] for name in self.intervals)

    @classmethod
    def from_env(cls) -> Settings:
        """Read the settings from the environment.

        Raises:
            SettingError: One is unknown or unusable; the message is one line.
        """
        known = {PREFIX + name.upper() for name in cls.model_fields}
        for name in sorted(os.environ):
            if name.upper().startswith(PREFIX) and name.upper() not in known:
                near = get_close_matches(name.upper(), known, n=1)
                hint = f"did you mean {near[0]}?" if near else f"known are {', '.join(sorted(known))}"
                message = f"{name} is not a setting of MIE: {hint}"
                raise SettingError(message)
        try:
            return cls()
        except ValidationError as error:
            raise SettingError(_one_line(error)) from None


def _one_line(error: ValidationError) -> str:
    first = error.errors()[0]
    name = str(first["loc"][0]) if first["loc"] else "?"
    text = str(first["msg"]).removeprefix("Value error, ").removeprefix("Input should be ")
    value = "(hidden)" if name.endswith("_url") else repr(first.get("input"))
    return f"{PREFIX}{name.upper()}={value}: allowed is {text}"


def _comma_list(value: Any) -> list[str]:
    if isinstance(value, str):
        return [part.strip() for part in value.split(",") if part.strip()]
    return list(value)


def _within(value: int, low: int, high: int) -> int:
    if not low <= value <= high:
        message = f"a whole number from {low} to {high}"
        raise ValueError(message)
    return value


def _url(value: str | None, schemes: tuple[str, ...]) -> str | None:
    if value is not None and not value.startswith(tuple(f"{scheme}://" for scheme in schemes)):
        message = f"a URL that starts with {' or '.join(scheme + '://' for scheme in schemes)}"
        raise ValueError(message)
    return value
