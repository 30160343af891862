"""The hot store: messages to Redis commands. What each key holds is described in `docs/redis.md`.

Spooled messages are written together with the spool's position, in one MULTI, so that a crash on either side neither
loses nor repeats a publication or a stream entry. Redis' own position is the truth: it is read at every connect.
Newest state (`tk:*`, `venue:*`, `metrics:*`) is written as it comes.
"""

from __future__ import annotations

import logging
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, Final

import msgspec
import redis
from redis.backoff import NoBackoff
from redis.connection import ConnectionInterface
from redis.retry import Retry

from market.settings import INTERVALS
from sinks import keys
from sinks.encode import Message

log = logging.getLogger(__name__)

TIMEOUT_S: Final = 5.0
"""Connecting, and each answer of Redis, take at most this long."""
REPLIES: Final = 1_000
"""Commands sent before their replies are read."""
_NEVER: Final = (-1, -1)
_UNFIT: Final = (ValueError, TypeError, KeyError, IndexError)
"""What a message that cannot be read raises; trying again would hold up all that come after it."""

Command = tuple[Any, ...]


class RedisStore:
    """One connection to Redis and the commands of each message kind.

    Every method raises `redis.RedisError` (or OSError) if Redis does not do as asked; the store is then to be closed
    and connected again.
    """

    name = "redis"

    def __init__(self, url: str) -> None:
        self._url = url
        self._client: redis.Redis | None = None
        self._newest: dict[str, tuple[int, int]] = {}
        """`ind:*` key -> (open_ns, revision) of the candle it is about; one entry a symbol and interval."""
        self.failed_messages = 0
        self.failed_commands = 0

    def connect(self) -> None:
        """Connect, or raise."""
        self.close()
        client = redis.Redis.from_url(
            self._url,
            socket_timeout=TIMEOUT_S,
            socket_connect_timeout=TIMEOUT_S,
            retry=Retry(NoBackoff(), 0),
            single_connection_client=True,
        )
        try:
            client.ping()
        except BaseException:
            client.close()
            raise
        self._client = client
        self._newest.clear()

    def close(self) -> None:
        """Close the connection."""
        if self._client is not None:
            self._client.close()
            self._client = None

    def positions(self, spools: Sequence[str]) -> dict[str, int]:
        """Return how far each spool is in Redis, 0 for one it does not know."""
        replies = self._send([("GET", keys.SPOOL_POSITION_PREFIX + spool) for spool in spools])
        return {spool: int(reply or 0) for spool, reply in zip(spools, replies, strict=True)}

    def forget(self, spool: str) -> None:
        """Delete the position of a spool that is no more."""
        self._send([("DEL", keys.SPOOL_POSITION_PREFIX + spool)])

    def write(self, spool: str, messages: Iterable[Message], position: int) -> None:
        """Write spooled messages and the position behind them, all or nothing.

        Correlations go ahead in transactions of their own, one a symbol's whole set: they are too large for one, and
        writing them again changes nothing.
        """
        commands: list[Command] = []
        for message in messages:
            try:
                commands += self._commands(message)
            except _UNFIT as error:
                self.failed_messages += 1
                log.error("redis: a %s message is left out: %r", message.kind, error)
        commands.append(("SET", keys.SPOOL_POSITION_PREFIX + spool, position))
        self._transaction(commands)

    def write_hot(self, rows: Sequence[Mapping[str, Any]]) -> None:
        """Write newest state, one HSET a symbol.

        Args:
            rows: Columns of `hot` messages, a row a symbol.
        """
        self._send([("HSET", keys.ticker(row["symbol"]), *_fields(row, "symbol")) for row in rows])

    def delete_hot(self, symbols: Sequence[str]) -> None:
        """Delete the newest state of symbols that the run has let go."""
        self._send([("DEL", keys.ticker(symbol)) for symbol in symbols])

    def write_venues(self, rows: Sequence[Mapping[str, Any]]) -> None:
        """Write the state of venues, one HSET a venue."""
        self._send([("HSET", keys.venue(row["venue"]), *_fields(row, "venue")) for row in rows])

    def write_forge(self, rows: Sequence[Mapping[str, Any]]) -> None:
        """Write what workers' forges have counted, one HSET a worker."""
        self._send([("HSET", keys.forge_metrics(row["worker"]), *_fields(row, "worker")) for row in rows])

    def write_status(self, status: Mapping[str, Any]) -> None:
        """Write the writer's own state."""
        self._send([("HSET", keys.WRITER, *_fields(status, ""))])

    def _commands(self, message: Message) -> list[Command]:
        if message.kind == "candles":
            return self._candles(message)
        if message.kind == "wicks":
            return _wicks(message)
        if message.kind == "correlation":
            self._replace_correlations(message)
        if message.kind == "let_go":
            return self._let_go(message)
        return []

    def _candles(self, message: Message) -> list[Command]:
        rows = message.rows()
        studies = message.study_columns()
        indicators = [dict(zip(studies, values, strict=True)) for values in zip(*studies.values(), strict=True)]
        self._learn_newest({keys.indicators(row["symbol"], row["interval"]) for row in rows})
        commands: list[Command] = []
        for row, values in zip(rows, indicators or [{}] * len(rows), strict=True):
            symbol, interval = row["symbol"], row["interval"]
            text = msgspec.json.encode({**row, "indicators": values})
            commands.append(("PUBLISH", keys.candle_channel(symbol, interval), text))
            stream = keys.candle_stream(interval)
            entry = ("symbol", symbol, "open_ns", row["open_ns"], "revision", row["revision"], "candle", text)
            commands.append(("XADD", stream, "MAXLEN", "~", keys.CANDLE_STREAM_LENGTH, "*", *entry))
            age = (row["open_ns"], row["revision"])
            key = keys.indicators(symbol, interval)
            if age >= self._newest.get(key, _NEVER):
                self._newest[key] = age
                newest = {"open_ns": age[0], "revision": age[1], "close": row["close"], **values}
                commands.append(("HSET", key, *_fields(newest, "")))
        return commands

    def _let_go(self, message: Message) -> list[Command]:
        """Delete the keys of symbols of which nothing more comes."""
        name = {"ind": keys.indicators, "corr": keys.correlations}
        commands: list[Command] = []
        for row in message.rows():
            gone = [name[row["of"]](row["symbol"], interval) for interval in INTERVALS]
            for key in gone:
                self._newest.pop(key, None)
            commands.append(("DEL", *gone))
        return commands

    def _learn_newest(self, wanted: set[str]) -> None:
        """Read what the hashes already hold: an amended older candle must not replace newer indicators."""
        unknown = [key for key in wanted if key not in self._newest]
        replies = self._send([("HMGET", key, "open_ns", "revision") for key in unknown])
        for key, (open_ns, revision) in zip(unknown, replies, strict=True):
            self._newest[key] = _NEVER if open_ns is None else (int(open_ns), int(revision or 0))

    def _replace_correlations(self, message: Message) -> None:
        symbols, interval = message.texts["symbols"], message.texts["interval"][0]
        peers: list[list[Any]] = [[] for _ in symbols]
        columns = (message.numbers[name].to_list() for name in ("first", "second", "pearson"))
        for first, second, pearson in zip(*columns, strict=True):
            peers[first] += (pearson, symbols[second])
            peers[second] += (pearson, symbols[first])
        for symbol, scores in zip(symbols, peers, strict=True):
            key = keys.correlations(symbol, interval)
            self._transaction([("DEL", key), *([("ZADD", key, *scores)] if scores else [])])

    def _transaction(self, commands: Sequence[Command]) -> None:
        replies = self._send([("MULTI",), *commands, ("EXEC",)])
        for command, reply in zip(commands, replies[-1], strict=True):
            if isinstance(reply, redis.ResponseError):
                # Done but for this command, position included: say so and go on, or it would fail for ever.
                self.failed_commands += 1
                log.error("redis: %s %s failed: %s", command[0], command[1], reply)

    def _send(self, commands: Sequence[Command]) -> list[Any]:
        """Send commands and return their replies, some REPLIES at a time so that no socket buffer fills on both sides.

        Raises:
            redis.RedisError: One was refused (inside MULTI: nothing was done), or the connection failed.
        """
        if self._client is None:
            message = "not connected"
            raise redis.ConnectionError(message)
        connection = self._client.connection
        assert connection is not None
        replies: list[Any] = []
        try:
            for first in range(0, len(commands), REPLIES):
                replies += _exchange(connection, commands[first : first + REPLIES])
        except BaseException:
            self.close()  # Replies may be left unread: this connection cannot be used again.
            raise
        return replies


def _exchange(connection: ConnectionInterface, commands: Sequence[Command]) -> list[Any]:
    packed = b"".join(connection.pack_commands(commands))  # type: ignore[no-untyped-call]
    connection.send_packed_command([packed])  # type: ignore[no-untyped-call]
    return [connection.read_response() for _ in commands]


def _wicks(message: Message) -> list[Command]:
    commands: list[Command] = []
    for row in message.rows():
        evidence = msgspec.Raw(row.pop("evidence").encode())
        text = msgspec.json.encode({**row, "side": row["side"] or None, "evidence": evidence})
        entry = ("symbol", row["symbol"], "venue", row["venue"], "trade_id", row["trade_id"], "wick", text)
        commands.append(("PUBLISH", keys.wick_channel(row["symbol"]), text))
        commands.append(("XADD", keys.WICK_STREAM, "MAXLEN", "~", keys.WICK_STREAM_LENGTH, "*", *entry))
    return commands


def _fields(row: Mapping[str, Any], left_out: str) -> list[Any]:
    """Return field, value, ... for HSET; an unknown number (NaN, None) is the empty string."""
    fields: list[Any] = []
    for name, value in row.items():
        if name != left_out:
            fields += (name, "" if value is None or value != value else value)
    return fields
