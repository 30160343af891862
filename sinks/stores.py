"""Where the stores are, and whether they answer. Starts nothing (`sinks.embedded` does)."""

from __future__ import annotations

import json
import os
import threading
from dataclasses import dataclass
from pathlib import Path
from typing import Final
from urllib.parse import parse_qs, urlsplit

import psycopg
import redis
from redis.backoff import NoBackoff
from redis.retry import Retry

from market.settings import Settings
from sinks.paths import lock

CHECK_S: Final = 5
_ADDRESSES: Final = "stores.json"


class StoreError(RuntimeError):
    """A store that cannot be used. Its text is one line for the user, without passwords."""


@dataclass(frozen=True, slots=True)
class Stores:
    """URLs of both stores."""

    redis: str
    database: str


def write_stores(data_dir: Path, **urls: str) -> None:
    """Note embedded stores (`redis=`, `database=`) for whoever reads them; keep what is noted already."""
    path = data_dir / "run" / _ADDRESSES
    path.parent.mkdir(parents=True, exist_ok=True)
    turn = lock(path.with_suffix(".lock"), wait_s=CHECK_S)  # several start at once: none may undo another's note
    try:
        unfinished = path.with_suffix(f".{os.getpid()}-{threading.get_ident()}.tmp")
        unfinished.write_text(json.dumps(_noted(data_dir) | urls))
        unfinished.rename(path)
    finally:
        if turn is not None:
            os.close(turn)


def read_stores(data_dir: Path) -> Stores | None:
    """Return the embedded stores that were started for `data_dir`, None if there are not both."""
    noted = _noted(data_dir)
    return Stores(noted["redis"], noted["database"]) if {"redis", "database"} <= noted.keys() else None


def resolve_stores(settings: Settings) -> tuple[str, str]:
    """Return the URLs of Redis and the database: from the settings, else the embedded ones that run.

    Raises:
        StoreError: A store is neither set nor running.
    """
    noted = _noted(settings.data_dir)
    found = {"redis": settings.redis_url, "database": settings.database_url}
    urls = {name: url or noted.get(name) for name, url in found.items()}
    for name, url in urls.items():
        if url is None:
            message = (
                f"MIE_{name.upper()}_URL is not set and no embedded {name} runs for {settings.data_dir}: "
                "set it, or start the engine first (python -m bytewax.run flows.mie)"
            )
            raise StoreError(message)
    return str(urls["redis"]), str(urls["database"])


def check_stores(redis_url: str, database_url: str) -> None:
    """Connect to both stores once.

    Raises:
        StoreError: One does not answer within CHECK_S; names setting, place and reason.
    """
    check_redis(redis_url)
    check_database(database_url)


def check_redis(url: str) -> None:
    """Connect to Redis once. Raises StoreError as `check_stores`."""
    try:
        client = redis.Redis.from_url(
            url, socket_timeout=CHECK_S, socket_connect_timeout=CHECK_S, retry=Retry(NoBackoff(), 0)
        )
        with client:
            client.ping()
    except (redis.RedisError, OSError, ValueError) as error:
        raise StoreError(_refusal("MIE_REDIS_URL", url, error)) from None


def check_database(url: str) -> None:
    """Connect to the database once. Raises StoreError as `check_stores`."""
    try:
        with psycopg.connect(url, connect_timeout=CHECK_S, options=f"-c statement_timeout={CHECK_S}s") as connection:
            connection.execute("SELECT 1")
    except (psycopg.Error, OSError, ValueError) as error:
        raise StoreError(_refusal("MIE_DATABASE_URL", url, error)) from None


def place(url: str) -> str:
    """Return where a URL leads, `host:port/database`, without user and password."""
    parts = urlsplit(url)
    query = parse_qs(parts.query)
    if parts.scheme == "unix":
        return parts.path
    host = parts.netloc.rpartition("@")[2] or query.get("host", ["localhost"])[0]
    return f"{host}{parts.path}"


def _refusal(setting: str, url: str, error: BaseException) -> str:
    parts = urlsplit(url)
    reason = " ".join(str(error).split()) or type(error).__name__
    if parts.password:
        reason = reason.replace(parts.password, "***")
    return f"{setting}: cannot use {parts.scheme} at {place(url)}: {reason}"


def _noted(data_dir: Path) -> dict[str, str]:
    try:
        noted: dict[str, str] = json.loads((data_dir / "run" / _ADDRESSES).read_text())
    except (FileNotFoundError, ValueError):
        return {}
    return noted
