"""The two stores, as a reader sees them: bounded connections, a time limit on everything, read-only.

`Database` opens every session with `default_transaction_read_only` and, where the role exists and may be taken, as
`mie_reader`. A store that went away is connected anew by the next read; the URL is asked for again then, since
embedded stores that restart may have moved.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable, Coroutine
from pathlib import Path
from typing import Any, Final, TypeVar

import msgspec
import psycopg
from psycopg.conninfo import conninfo_to_dict
from psycopg.pq import TransactionStatus
from redis.asyncio import BlockingConnectionPool, Redis
from redis.asyncio.retry import Retry
from redis.backoff import NoBackoff
from redis.exceptions import RedisError
from redis.exceptions import TimeoutError as RedisTimeout
from sqlalchemy import SelectBase
from sqlalchemy.dialects.postgresql.psycopg import PGDialect_psycopg

from market.settings import Settings

log = logging.getLogger(__name__)

DATABASE_CONNECTIONS: Final = 8
REDIS_CONNECTIONS: Final = 16
CONNECT_S: Final = 2
STATEMENT_S: Final = 5.0
REDIS_S: Final = 2.0
READER_ROLE: Final = "mie_reader"
_SESSION: Final = (
    f"-c default_transaction_read_only=on -c statement_timeout={int(STATEMENT_S * 1000)} -c timezone=UTC "
    "-c application_name=mie-api"
)

T = TypeVar("T")
Row = tuple[Any, ...]
Url = Callable[[], str]


class StoreAway(Exception):
    """A store cannot be reached or refuses to serve. The text is one line and holds no URL."""

    def __init__(self, store: str, reason: str) -> None:
        lines = reason.strip().splitlines() or ["no reason given"]
        super().__init__(f"{store}: {lines[0]}")


class StoreSlow(Exception):
    """A store did not answer in time."""

    def __init__(self, store: str, seconds: float) -> None:
        super().__init__(f"{store}: no answer within {seconds:g} s")


class StoresMissing(Exception):
    """No store is configured and no embedded one is running. The text is one line for the user."""


def store_url(settings: Settings, store: str) -> str:
    """Return the URL of `redis` or `database`: the setting, else what a running flow's embedded stores published.

    Raises:
        StoresMissing: There is neither.
    """
    configured = getattr(settings, f"{store}_url")
    if configured is not None:
        return str(configured)
    published = _published(settings.data_dir).get(store)
    if not published:
        message = (
            f"no embedded stores are running in {settings.data_dir}: start the flow with make run, "
            "or set MIE_REDIS_URL and MIE_DATABASE_URL"
        )
        raise StoresMissing(message)
    return published


def check_url(store: str, url: str) -> None:
    """Check that a URL can be understood; nothing is connected to.

    Raises:
        StoresMissing: It cannot. The text does not repeat it: it may hold a password.
    """
    try:
        if store == HotStore.NAME:
            _client(url)
        else:
            conninfo_to_dict(url)
    except (ValueError, psycopg.Error):
        message = f"MIE_{store.upper()}_URL=(hidden): allowed is a URL that names host, port and database correctly"
        raise StoresMissing(message) from None


def _published(data_dir: Path) -> dict[str, str]:
    try:
        found = msgspec.json.decode((data_dir / "run" / "stores.json").read_bytes(), type=dict[str, Any])
    except (OSError, msgspec.DecodeError):
        return {}
    return {name: url for name, url in found.items() if isinstance(url, str)}


class _Link:
    """Says in the log when a store is lost and when it is back, once each."""

    def __init__(self, store: str) -> None:
        self._store = store
        self._is_up = True

    def lost(self, reason: object) -> None:
        if self._is_up:
            log.warning("%s is away: %s", self._store, (str(reason).strip() or "no reason given").splitlines()[0])
        self._is_up = False

    def up(self) -> None:
        if not self._is_up:
            log.warning("%s is back", self._store)
        self._is_up = True


class Database:
    """Reads from PostgreSQL over at most `DATABASE_CONNECTIONS` sessions, opened when first needed."""

    NAME: Final = "database"

    def __init__(self, url: Url) -> None:
        self._url = url
        self._slots = asyncio.Semaphore(DATABASE_CONNECTIONS)
        self._idle: list[psycopg.AsyncConnection[Row]] = []
        self._warned = False
        self._link = _Link(self.NAME)

    async def fetch(self, statement: SelectBase, seconds: float = STATEMENT_S + 1) -> list[Row]:
        """Return all rows of a SELECT as tuples.

        Raises:
            StoreAway: No connection, or the server refuses the query.
            StoreSlow: No answer within `seconds`, or the server's own statement limit struck.
        """
        compiled = statement.compile(dialect=_DIALECT)
        return await _within(seconds, self.NAME, self._fetch(str(compiled), dict(compiled.params)))

    async def close(self) -> None:
        """Close the idle sessions."""
        while self._idle:
            await self._idle.pop().close()

    async def _fetch(self, query: str, values: dict[str, Any]) -> list[Row]:
        try:
            async with self._slots:
                rows = await self._fetch_held(query, values)
        except psycopg.errors.QueryCanceled:
            raise StoreSlow(self.NAME, STATEMENT_S) from None
        except (psycopg.Error, StoresMissing) as error:
            self._link.lost(error)
            raise StoreAway(self.NAME, str(error)) from error
        self._link.up()
        return rows

    async def _fetch_held(self, query: str, values: dict[str, Any]) -> list[Row]:
        while self._idle:
            connection = self._idle.pop()
            try:
                return await self._run(connection, query, values)
            except psycopg.OperationalError:
                if not connection.closed:
                    raise
                # The server went away since this session's last use: the others are as stale, drop them as we go.
        return await self._run(await self._connect(), query, values)

    async def _run(self, connection: psycopg.AsyncConnection[Row], query: str, values: dict[str, Any]) -> list[Row]:
        try:
            cursor = await connection.execute(query, values)
            return await cursor.fetchall()
        finally:
            if connection.info.transaction_status == TransactionStatus.IDLE:
                self._idle.append(connection)
            else:
                await connection.close()

    async def _connect(self) -> psycopg.AsyncConnection[Row]:
        url = self._url()
        options = f"{conninfo_to_dict(url).get('options') or ''} {_SESSION}"
        connection = await psycopg.AsyncConnection.connect(
            url, autocommit=True, connect_timeout=CONNECT_S, options=options
        )
        try:
            await connection.execute(f"SET ROLE {READER_ROLE}")
        except psycopg.errors.DatabaseError as error:
            if connection.closed:
                raise
            self._warn(str(error).splitlines()[0])
        except BaseException:  # cancelled: nobody else knows this session
            await connection.close()
            raise
        return connection

    def _warn(self, reason: str) -> None:
        if not self._warned:
            self._warned = True
            log.warning("reading as the login role, transactions read-only: %s", reason)


_DIALECT: Final = PGDialect_psycopg()  # type: ignore[no-untyped-call]


class HotStore:
    """Reads from Redis over at most `REDIS_CONNECTIONS` connections; `read` is the only way in."""

    NAME: Final = "redis"

    def __init__(self, url: Url) -> None:
        self._url = url
        self._connected_to = ""
        self._client: Redis | None = None
        self._link = _Link(self.NAME)

    async def read(self, question: Callable[[Redis], Awaitable[T]], seconds: float = REDIS_S) -> T:
        """Return what `question` reads with the client.

        Raises:
            StoreAway: No connection, or Redis refuses the command.
            StoreSlow: No answer within `seconds`.
        """
        return await _within(seconds, self.NAME, self._ask(question))

    async def close(self) -> None:
        """Close all connections."""
        if self._client is not None:
            await self._client.aclose()
            self._client = None

    async def _ask(self, question: Callable[[Redis], Awaitable[T]]) -> T:
        try:
            answer = await question(await self._connected())
        except RedisTimeout:
            raise StoreSlow(self.NAME, REDIS_S) from None
        except (RedisError, StoresMissing) as error:
            self._link.lost(error)
            raise StoreAway(self.NAME, str(error)) from error
        self._link.up()
        return answer

    async def _connected(self) -> Redis:
        url = self._url()
        if self._client is None or url != self._connected_to:
            stale, self._client, self._connected_to = self._client, _client(url), url
            if stale is not None:
                await stale.aclose()
        return self._client


def _client(url: str) -> Redis:
    pool = BlockingConnectionPool.from_url(
        url,
        max_connections=REDIS_CONNECTIONS,
        timeout=REDIS_S,
        socket_timeout=REDIS_S,
        socket_connect_timeout=CONNECT_S,
        retry=Retry(NoBackoff(), 1),  # once, at once: a pooled connection may be older than the server
        decode_responses=True,
        encoding_errors="replace",
    )
    return Redis.from_pool(pool)


async def _within(seconds: float, store: str, work: Coroutine[Any, Any, T]) -> T:
    # Not asyncio.timeout: a cancelled psycopg query first asks the server to stop, for up to 5 s if that hangs too.
    task = asyncio.create_task(work)
    task.add_done_callback(_forget)
    try:
        await asyncio.wait({task}, timeout=seconds)
        if not task.done():
            raise StoreSlow(store, seconds)
        return task.result()
    finally:
        task.cancel()


def _forget(task: asyncio.Task[Any]) -> None:
    if not task.cancelled():
        task.exception()
