"""Real stores with a known market in them, and the API as a real process over them."""

from __future__ import annotations

import asyncio
import contextlib
import os
import secrets
import select
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, urlsplit

import httpx
import pytest
import redis
import sqlalchemy

from sinks import keys, tables
from tests.conftest import execute, of_database

ROOT = Path(__file__).parents[2]
OPEN = datetime(2026, 1, 31, 12, tzinfo=UTC)
MINUTE = timedelta(minutes=1)
CANDLE_ROWS = 600
REDIS_DATABASE = 9
WICK_TIME = datetime(2026, 1, 31, 12, 5, 0, 123456, tzinfo=UTC)
EVIDENCE = {
    "okx": {"nearest_bps": -151.2, "age_ms": 4.1, "vote": "did not follow"},
    "kraken": {"nearest_bps": -150.8, "age_ms": 9.0, "vote": "did not follow"},
    "bybit": {"nearest_bps": 0.0, "age_ms": 900.0, "vote": "silent"},
}


@dataclass
class Market:
    """Where the stores of these tests are."""

    redis_url: str
    database_url: str


@pytest.fixture(scope="session")
def market(redis_server_url: str, database_server_url: str, migrated_template: str) -> Iterator[Market]:
    """A small market in both stores, in databases of these tests' own: the answers are compared whole."""
    redis_url = with_redis_database(redis_server_url)
    name = f"mie_api_{secrets.token_hex(4)}"
    execute(database_server_url, f"CREATE DATABASE {name} TEMPLATE {migrated_template}")
    database_url = of_database(database_server_url, name)
    with redis.Redis.from_url(redis_url, decode_responses=True) as hot:
        hot.flushdb()
        fill_hot(hot)
        engine = sqlalchemy.create_engine(sqlalchemy.make_url(database_url).set(drivername="postgresql+psycopg"))
        with engine.begin() as connection:
            fill_history(connection)
        engine.dispose()
        yield Market(redis_url, database_url)
        hot.flushdb()
    execute(database_server_url, f"DROP DATABASE {name} WITH (FORCE)")


def with_redis_database(url: str) -> str:
    """The same Redis, but the database that no other test empties."""
    base = url.partition("?")[0]
    return f"{base}?db={REDIS_DATABASE}"


def fill_hot(hot: redis.Redis) -> None:
    """Tickers, correlations and venues; one ticker is nearly unknown, one foreign key is in the way."""
    hot.hset(keys.ticker("BTC-USDT"), mapping=ticker_fields())
    hot.hset(keys.ticker("ETH-USDT"), mapping={**ticker_fields(), "price": "2000.5", "side": ""})
    hot.hset(keys.ticker("NEW-USDT"), mapping={"bid": "1.25", "bid_venue": "okx", "price": "nan", "event_ns": "0"})
    hot.set("other:tk:", "not ours")
    hot.zadd(keys.correlations("BTC-USDT", "1m"), {"ETH-USDT": 0.8, "XRP-USDT": -0.93, "SOL-USDT": 0.1})
    hot.hset(keys.WRITER, mapping={"candles": 601, "redis_state": "up"})
    for worker, trades in enumerate((100, 40)):
        counted = {"workers": 2, "confirmed": trades, "le_0.01": trades // 2, "le_inf": trades, "sum_ns": 7}
        hot.hset(keys.forge_metrics(worker), mapping=counted)
    for name in ("okx", "binance"):
        hot.hset(
            keys.venue(name),
            mapping={"state": "live", "messages": 12, "last_receive_ns": 1769860800123456789, "silent_symbols": 3},
        )


def ticker_fields() -> dict[str, str]:
    return {
        "price": "60000.1", "size": "0.5", "side": "buy", "venue": "binance",
        "event_ns": "1769860800123456789", "receive_ns": "1769860800223456789",
        "bid": "60000", "bid_venue": "okx", "ask": "60000.2", "ask_venue": "kraken",
        "reference": "60000.05", "spread_bps": "0.033", "venues": "6", "verdict": "confirmed", "seq": "42",
    }  # fmt: skip


def fill_history(connection: sqlalchemy.Connection) -> None:
    """CANDLE_ROWS 1m candles of BTC-USDT with indicators, one candle of ETH-USDT, three wicks."""
    candles = [candle("BTC-USDT", OPEN + row * MINUTE, 60_000.0 + row) for row in range(CANDLE_ROWS)]
    connection.execute(tables.candles.insert(), [*candles, candle("ETH-USDT", OPEN, 2_000.0)])
    studies = [
        {"symbol": "BTC-USDT", "interval": "1m", "open_time": OPEN + row * MINUTE, "revision": 0, "rsi_14": rsi}
        for row, rsi in enumerate([None, 51.5, 52.5])
    ]
    connection.execute(tables.indicators.insert(), studies)
    connection.execute(tables.wicks.insert(), wicks())


def candle(symbol: str, open_time: datetime, price: float) -> dict[str, Any]:
    prices = {"open": price, "high": price + 2, "low": price - 2, "close": price + 1, "vwap": price + 0.5}
    counts = {"volume": 3.0, "quote_volume": 3 * price, "buy_volume": 1.0, "trades": 7, "venues": 5, "wicks": 1}
    return {"symbol": symbol, "interval": "1m", "open_time": open_time, **prices, **counts, "revision": 0}


def wicks() -> list[dict[str, Any]]:
    first = {
        "event_time": WICK_TIME, "symbol": "BTC-USDT", "venue": "binance", "trade_id": "a/b 1",
        "receive_time": WICK_TIME + timedelta(milliseconds=3), "price": 60913.5, "size": 0.01, "side": "buy",
        "reference": 60000.0, "deviation_bps": 151.1, "dispersion_bps": 2.04, "basis_bps": -0.5, "witnesses": 2,
        "evidence": EVIDENCE, "readmitted_time": None,
    }  # fmt: skip
    later = {**first, "event_time": WICK_TIME + MINUTE, "venue": "okx", "trade_id": "7", "price": 0.00000012345}
    return [first, {**later, "readmitted_time": WICK_TIME + 2 * MINUTE}, {**later, "trade_id": "8", "witnesses": 1}]


@dataclass
class Api:
    """A running `python -m api`."""

    process: subprocess.Popen[str]
    address: str
    client: httpx.Client

    def get(self, path: str, **query: object) -> Any:
        """Return the JSON of a success."""
        reply = self.client.get(path, params={name: str(value) for name, value in query.items()})
        assert reply.status_code == 200, reply.text
        return reply.json()

    def problem(self, path: str, **query: object) -> tuple[int, str, str]:
        """Return status, error and detail of anything else."""
        reply = self.client.get(path, params={name: str(value) for name, value in query.items()})
        body = reply.json()
        assert set(body) == {"error", "detail"}
        assert "\n" not in body["detail"]
        assert "Traceback" not in reply.text
        return reply.status_code, body["error"], body["detail"]


def environment(**settings: object) -> dict[str, str]:
    """The environment of a child: ours, but of MIE's settings only these."""
    kept = {name: value for name, value in os.environ.items() if not name.startswith("MIE_")}
    return kept | {f"MIE_{name.upper()}": str(value) for name, value in settings.items()}


@contextlib.contextmanager
def running(**settings: object) -> Iterator[Api]:
    """`python -m api` on a port of its own choice, ended by SIGTERM."""
    command = [sys.executable, "-m", "api"]
    process = subprocess.Popen(
        command, cwd=ROOT, env=environment(api_port=0, **settings), text=True, stdout=subprocess.PIPE
    )
    with process:
        assert process.stdout is not None
        try:
            readable, _, _ = select.select([process.stdout], [], [], 30)
            line = process.stdout.readline() if readable else ""
            assert line.startswith("serving on http://"), line
            address = line.split()[-1]
            with httpx.Client(base_url=address, timeout=20) as client:
                yield Api(process, address, client)
        finally:
            process.send_signal(signal.SIGTERM)
            assert process.wait(10) == 0


@pytest.fixture(scope="session")
def api(market: Market) -> Iterator[Api]:
    with running(redis_url=market.redis_url, database_url=market.database_url) as started:
        yield started


def until(condition: Callable[[], object], seconds: float = 20) -> None:
    """Poll until a condition about another process holds."""
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, "the condition never held"
        time.sleep(0.01)


@dataclass
class Relay:
    """A TCP door to a store that can be shut, or jammed: open, but nothing passes."""

    target: str
    jammed: bool = False
    port: int = 0
    _open: list[asyncio.Transport] = field(default_factory=list)
    _server: asyncio.Server | None = None
    _loop: asyncio.AbstractEventLoop = field(default_factory=asyncio.new_event_loop)

    def __post_init__(self) -> None:
        self._thread = threading.Thread(target=self._loop.run_forever)
        self._thread.start()
        self.open()

    def _do(self, work: Any) -> None:
        asyncio.run_coroutine_threadsafe(work, self._loop).result(10)

    def open(self) -> None:
        async def listen() -> None:
            self._server = await asyncio.start_server(self._serve, "127.0.0.1", self.port)
            self.port = self._server.sockets[0].getsockname()[1]

        self._do(listen())

    def shut(self) -> None:
        async def drop() -> None:
            assert self._server is not None
            self._server.close()
            for transport in self._open:
                transport.abort()
            self._open.clear()

        self._do(drop())

    def end(self) -> None:
        async def rest() -> None:
            others = asyncio.all_tasks() - {asyncio.current_task()}
            for task in others:
                task.cancel()
            await asyncio.gather(*others, return_exceptions=True)

        self.shut()
        self._do(rest())
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join(10)
        self._loop.close()

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        back_reader, back_writer = await connect(self.target)
        self._open += [writer.transport, back_writer.transport]
        with contextlib.suppress(OSError, asyncio.CancelledError):
            await asyncio.gather(self._pump(reader, back_writer), self._pump(back_reader, writer))

    async def _pump(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while block := await reader.read(65536):
            if not self.jammed:
                writer.write(block)
        writer.close()


async def connect(url: str) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
    """Connect to the store of a URL: a Unix socket, or host and port."""
    parts = urlsplit(url)
    folder = parse_qs(parts.query).get("host")
    if parts.scheme == "unix" or folder:
        return await asyncio.open_unix_connection(f"{folder[0]}/.s.PGSQL.5432" if folder else parts.path)
    return await asyncio.open_connection(parts.hostname, parts.port or DEFAULT_PORTS[parts.scheme])


DEFAULT_PORTS = {"redis": 6379, "postgresql": 5432, "postgres": 5432}


@pytest.fixture
def doors(market: Market) -> Iterator[tuple[Relay, Relay]]:
    """Relays before Redis and PostgreSQL."""
    made = Relay(market.redis_url), Relay(market.database_url)
    yield made
    for relay in made:
        relay.end()


def through(relay: Relay) -> str:
    """The URL of the relay's store, through the relay."""
    parts = urlsplit(relay.target)
    user, at, _ = parts.netloc.rpartition("@")
    netloc = f"{user}{at}127.0.0.1:{relay.port}"
    if parts.scheme == "unix":
        return f"redis://{netloc}?db={REDIS_DATABASE}"
    query = parts.query if parts.scheme.startswith("redis") else ""
    return parts._replace(netloc=netloc, query=query).geturl()


def taken_port() -> socket.socket:
    return socket.create_server(("127.0.0.1", 0))
