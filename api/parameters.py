"""The parameters of the routes: each knows its name, how to read its text, and what to say when it cannot.

One table entry serves the parser, the error message and the OpenAPI document.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any, Final, Literal

from api.problems import Refusal, bad_parameter
from market.settings import INTERVALS
from market.symbols import check_symbol
from market.venues import VENUES

EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)
_DIGITS: Final = re.compile(r"[0-9]{1,20}")
_LOST_PLUS: Final = re.compile(r" (?=\d\d(:?\d\d)?$)")
_MICROSECONDS: Final = ((11, 1_000_000, 1), (14, 1_000, 1), (17, 1, 1), (20, 1, 1_000))
"""Digits at most -> microseconds in the unit, as a fraction: seconds, milliseconds, microseconds, nanoseconds."""


@dataclass(frozen=True, slots=True)
class Parameter:
    """One parameter of a route.

    Attributes:
        name: As in the URL.
        about: For the reader of the documentation.
        allowed: What an acceptable value is, in words, for the error message.
        parse: Text -> value; raises ValueError.
        schema: Its JSON schema.
        where: Part of the path, or of the query (then optional).
        default: Value when absent.
    """

    name: str
    about: str
    allowed: str
    parse: Callable[[str], Any]
    schema: dict[str, Any]
    where: Literal["path", "query"] = "query"
    default: Any = None

    def read(self, text: str) -> Any:
        """Return the value of `text`.

        Raises:
            Refusal: It is not allowed; the text names parameter, value and what is.
        """
        try:
            return self.parse(text)
        except ValueError:
            raise bad_parameter(self.name, text, self.allowed) from None


def read_all(
    parameters: Iterable[Parameter], path: Mapping[str, str], query: Iterable[tuple[str, str]]
) -> dict[str, Any]:
    """Return parameter name -> value for every parameter of a route.

    Raises:
        Refusal: A parameter is unknown, given twice or not allowed, or start is after end.
    """
    known = {parameter.name: parameter for parameter in parameters}
    values = {parameter.name: parameter.default for parameter in known.values()}
    for name, text in path.items():
        values[name] = known[name].read(text)
    seen = set(path)
    for name, text in query:
        if name not in known or known[name].where == "path":
            names = ", ".join(each.name for each in known.values() if each.where == "query") or "none"
            raise Refusal(400, "unknown parameter", f"{name[:60]!r} is not one; this route takes {names}")
        if name in seen:
            raise bad_parameter(name, text, "given once")
        seen.add(name)
        values[name] = known[name].read(text)
    _check_range(values)
    return values


def _check_range(values: Mapping[str, Any]) -> None:
    start, end = values.get("start"), values.get("end")
    if start is not None and end is not None and start > end:
        detail = f"start={start.isoformat()} is after end={end.isoformat()}: allowed is start <= end"
        raise Refusal(400, "bad parameter", detail)


def parse_time(text: str) -> datetime:
    """Return the UTC time of ISO 8601 text or of an epoch number, rounded up to the stores' microseconds.

    The unit of a number follows from its digits: up to 11 seconds, 14 milliseconds, 17 microseconds, 20 nanoseconds.
    Text without an offset is UTC. A `+` that URL decoding turned into a space is understood.

    Raises:
        ValueError: It is neither.
    """
    try:
        if _DIGITS.fullmatch(text):
            times, over = next((times, over) for digits, times, over in _MICROSECONDS if len(text) <= digits)
            return EPOCH + timedelta(microseconds=-(-int(text) * times // over))
        moment = datetime.fromisoformat(_LOST_PLUS.sub("+", text) if "T" in text else text)
        return (moment if moment.tzinfo else moment.replace(tzinfo=UTC)).astimezone(UTC)
    except OverflowError as error:
        raise ValueError(text) from error


def parse_symbol(text: str) -> str:
    """Return the symbol in upper case.

    Raises:
        ValueError: It is not of the form BASE-QUOTE.
    """
    if not text.isprintable():
        raise ValueError(text)
    return check_symbol(text)


def split_wick_id(text: str) -> tuple[datetime, str, str, str]:
    """Return the primary key in a wick's id: event time, venue, symbol, trade id.

    Raises:
        ValueError: It is not an id that `reads.wick_id` makes.
    """
    microseconds, venue, symbol, trade_id = text.split("~", 3)
    if not microseconds.isascii() or not microseconds.isdigit() or not text.isprintable():
        raise ValueError(text)
    try:
        return EPOCH + timedelta(microseconds=int(microseconds)), venue, symbol, trade_id
    except OverflowError as error:
        raise ValueError(text) from error


def _limit(default: int, highest: int) -> Parameter:
    def parse(text: str) -> int:
        number = int(text) if re.fullmatch(r"[0-9]{1,9}", text) else 0
        if not 1 <= number <= highest:
            raise ValueError(text)
        return number

    return Parameter(
        "limit",
        f"How many at most, the newest in the range; default {default}",
        f"a whole number from 1 to {highest}",
        parse,
        {"type": "integer", "minimum": 1, "maximum": highest, "default": default},
        default=default,
    )


def _one_of(name: str, about: str, names: Iterable[str], default: str | None = None) -> Parameter:
    allowed = tuple(names)

    def parse(text: str) -> str:
        if text not in allowed:
            raise ValueError(text)
        return text

    schema: dict[str, Any] = {"type": "string", "enum": list(allowed)}
    if default is not None:
        schema["default"] = default
    return Parameter(name, about, "one of " + ",".join(allowed), parse, schema, default=default)


def _time(name: str, about: str) -> Parameter:
    words = "ISO 8601 (2026-01-31T12:00:00Z; UTC if without offset), or epoch s, ms, us or ns as a whole number"
    return Parameter(name, f"{about}: {words}", words, parse_time, {"type": "string"})


_A_SYMBOL: Final = ("a symbol of the form BASE-QUOTE", parse_symbol, {"type": "string", "example": "BTC-USDT"})

SYMBOL: Final = Parameter("symbol", "Ours, BASE-QUOTE", *_A_SYMBOL, where="path")
SYMBOL_FILTER: Final = Parameter("symbol", "Only this symbol", *_A_SYMBOL)
VENUE_FILTER: Final = _one_of("venue", "Only this venue", VENUES)
INTERVAL: Final = _one_of("interval", "Candle interval; default 1m", INTERVALS, default="1m")
START: Final = _time("start", "From here on, inclusive")
END: Final = _time("end", "Up to here, exclusive")
ROWS_LIMIT: Final = _limit(500, 5000)
PEERS_LIMIT: Final = _limit(50, 1000)
WICKS_LIMIT: Final = _limit(100, 1000)
WICK_ID: Final = Parameter(
    "id",
    "A wick's id, as /v1/wicks gives it",
    "the id of a wick, as /v1/wicks gives it",
    split_wick_id,
    {"type": "string"},
    where="path",
)
