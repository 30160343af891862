"""The questions the API asks the stores, and the answers as response shapes. No HTTP here."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Mapping, Sequence
from datetime import datetime, timedelta
from typing import Any, Final

from redis.asyncio import Redis
from sqlalchemy import ColumnElement, Select, Table, select, union_all
from sqlalchemy import text as sql

from api import metrics, models
from api.parameters import EPOCH
from api.problems import Refusal, unknown_symbol
from api.stores import Database, HotStore, Row, StoreAway, StoreSlow
from market import words
from market.venues import VENUES
from sinks import keys, tables

INDEX_S: Final = 1.0
"""How long the list of symbols is kept between two scans."""
SCAN_ROWS: Final = 1000
SCAN_ROUNDS: Final = 200
"""A scan looks at SCAN_ROWS x SCAN_ROUNDS keys at most, whoever else uses the Redis."""
READY_S: Final = 1.0

_CANDLE_COLUMNS: Final = [tables.candles.c[name] for name in models.Candle.__struct_fields__ if name != "open_ns"]
_STUDY_COLUMNS: Final = [tables.indicators.c[name] for name in ("open_time", "revision", *models.STUDIES)]
_WICK_COLUMNS: Final = [tables.wicks.c[name] for name in models.Wick.__struct_fields__ if name != "id"]
_MICROSECOND: Final = timedelta(microseconds=1)


class Reads:
    """Every read of the API, over one hot and one history store."""

    def __init__(self, hot: HotStore, history: Database) -> None:
        self.hot = hot
        self.history = history
        self._index = _SymbolIndex(hot)

    async def tickers(self) -> models.Tickers:
        """Return the newest state of all symbols, sorted by symbol."""
        symbols = await self._index.symbols()
        hashes = await self.hot.read(lambda redis: _hashes(redis, [keys.ticker(symbol) for symbol in symbols]))
        return models.Tickers([ticker_of(symbol, each) for symbol, each in zip(symbols, hashes, strict=True) if each])

    async def ticker(self, symbol: str) -> models.Ticker:
        """Return the newest state of one symbol."""
        [fields] = await self.hot.read(lambda redis: _hashes(redis, [keys.ticker(symbol)]))
        if not fields:
            raise unknown_symbol(symbol, "ticker")
        return ticker_of(symbol, fields)

    async def candles(
        self, symbol: str, interval: str, start: datetime | None, end: datetime | None, limit: int
    ) -> models.Candles:
        """Return the newest `limit` candles that open in `[start, end)`, ascending."""
        rows = await self._newest(tables.candles, _CANDLE_COLUMNS, symbol, interval, start, end, limit)
        candles = [models.Candle(iso(row[0]), epoch_ns(row[0]), *row[1:]) for row in rows]
        return models.Candles(symbol, interval, candles)

    async def indicators(
        self, symbol: str, interval: str, start: datetime | None, end: datetime | None, limit: int
    ) -> models.Indicators:
        """Return the newest `limit` indicator rows whose candles open in `[start, end)`, ascending."""
        rows = await self._newest(tables.indicators, _STUDY_COLUMNS, symbol, interval, start, end, limit)
        studies = [models.Studies(iso(row[0]), epoch_ns(row[0]), *row[1:]) for row in rows]
        return models.Indicators(symbol, interval, studies)

    async def correlations(self, symbol: str, interval: str, limit: int) -> models.Correlations:
        """Return a symbol's peers, the strongest |pearson| first."""
        scores, known = await self.hot.read(lambda redis: _scores(redis, symbol, interval))
        if not scores and not known:
            raise unknown_symbol(symbol, "correlations")
        ranked = sorted(scores, key=lambda pair: (-abs(pair[1]), pair[0]))
        return models.Correlations(symbol, interval, [models.Peer(peer, score) for peer, score in ranked[:limit]])

    async def wicks(
        self, symbol: str | None, venue: str | None, start: datetime | None, end: datetime | None, limit: int
    ) -> models.Wicks:
        """Return the newest `limit` wicks in `[start, end)`, newest first."""
        of = tables.wicks.c
        asked = [of.symbol == symbol] if symbol is not None else []
        asked += [of.venue == venue] if venue is not None else []
        statement = select(*_WICK_COLUMNS).where(*asked, *_between(of.event_time, start, end))
        newest_first = (of.event_time.desc(), of.symbol.desc(), of.venue.desc(), of.trade_id.desc())
        rows = await self.history.fetch(statement.order_by(*newest_first).limit(limit))
        if not rows and symbol is not None:
            await self._check_known(symbol, "wicks")
        return models.Wicks([models.Wick(**_wick_fields(row)) for row in rows])

    async def wick(self, id: tuple[datetime, str, str, str]) -> models.WickCase:  # noqa: A002 - the route's name
        """Return one wick with its evidence and the verdict in words."""
        event_time, venue, symbol, trade_id = id
        of = tables.wicks.c
        statement = select(*_WICK_COLUMNS, of.evidence).where(
            of.event_time == event_time, of.venue == venue, of.symbol == symbol, of.trade_id == trade_id
        )
        rows = await self.history.fetch(statement)
        if not rows:
            raise Refusal(404, "unknown wick", f"no wick of {symbol} on {venue} at {iso(event_time)} with this id")
        fields = _wick_fields(rows[0][:-1])
        return models.WickCase(**fields, why=why(models.Wick(**fields), rows[0][-1]), evidence=rows[0][-1])

    async def venues(self) -> models.Venues:
        """Return the state of every venue the flow reports on, in code order."""
        hashes = await self.hot.read(lambda redis: _hashes(redis, [keys.venue(name) for name in VENUES]))
        return models.Venues([venue_of(name, fields) for name, fields in zip(VENUES, hashes, strict=True) if fields])

    async def metrics(self) -> str:
        """Return what is counted of the venues, the writer and the forge, as `/metrics` answers it."""
        names = [keys.WRITER, keys.forge_metrics(0), *map(keys.venue, VENUES)]
        writer, first, *venues = await self.hot.read(lambda redis: _hashes(redis, names))
        count = min(_whole(first, "workers") or 1, metrics.MOST_WORKERS)
        others = [keys.forge_metrics(worker) for worker in range(1, count)]
        more = await self.hot.read(lambda redis: _hashes(redis, others)) if others else []
        known = {name: fields for name, fields in zip(VENUES, venues, strict=True) if fields}
        return metrics.exposition(known, writer, [first, *more])

    async def health(self) -> models.Health:
        """Return that the process is alive."""
        return models.Health("alive")

    async def readiness(self) -> models.Readiness:
        """Return that both stores answer within `READY_S`, or refuse naming the ones that do not."""
        answers = await asyncio.gather(
            self.hot.read(_ping, READY_S),
            self.history.fetch(select(sql("1")), READY_S),
            return_exceptions=True,
        )
        failed = [answer for answer in answers if isinstance(answer, BaseException)]
        for failure in failed:
            if not isinstance(failure, StoreAway | StoreSlow):
                raise failure
        if failed:
            raise Refusal(503, "not ready", "; ".join(map(str, failed)))
        return models.Readiness("ok", "ok")

    async def _newest(
        self,
        table: Table,
        columns: Sequence[ColumnElement[Any]],
        symbol: str,
        interval: str,
        start: datetime | None,
        end: datetime | None,
        limit: int,
    ) -> list[Row]:
        of = table.c
        asked = (of.symbol == symbol, of.interval == interval, *_between(of.open_time, start, end))
        rows = await self.history.fetch(select(*columns).where(*asked).order_by(of.open_time.desc()).limit(limit))
        if not rows:
            await self._check_known(symbol, table.name)
        rows.reverse()
        return rows

    async def _check_known(self, symbol: str, what: str) -> None:
        known = union_all(*(_any_row(table, symbol) for table in (tables.candles, tables.wicks)))
        if not await self.history.fetch(known.limit(1)):
            raise unknown_symbol(symbol, what)


class _SymbolIndex:
    """The symbols that have a ticker, scanned at most once in `INDEX_S` however many ask."""

    def __init__(self, hot: HotStore) -> None:
        self._hot = hot
        self._lock = asyncio.Lock()
        self._symbols: list[str] = []
        self._scanned_s = float("-inf")

    async def symbols(self) -> list[str]:
        """Return the symbols, sorted."""
        async with self._lock:
            if time.monotonic() - self._scanned_s >= INDEX_S:
                found = await self._hot.read(_scan_tickers)
                self._symbols = sorted(key.removeprefix(keys.TICKER_PREFIX) for key in found)
                self._scanned_s = time.monotonic()
            return self._symbols


async def _scan_tickers(redis: Redis) -> set[str]:
    found: set[str] = set()
    cursor = 0
    for _ in range(SCAN_ROUNDS):
        cursor, names = await redis.scan(cursor, match=f"{keys.TICKER_PREFIX}*", count=SCAN_ROWS)
        found.update(str(name) for name in names)
        if cursor == 0:
            break
    return found


async def _ping(redis: Redis) -> bool:
    return await redis.ping()


async def _hashes(redis: Redis, names: Sequence[str]) -> list[dict[str, str]]:
    pipeline = redis.pipeline(transaction=False)
    for name in names:
        pipeline.hgetall(name)
    return await pipeline.execute() if names else []


async def _scores(redis: Redis, symbol: str, interval: str) -> tuple[list[tuple[str, float]], bool]:
    pipeline = redis.pipeline(transaction=False)
    pipeline.zrange(keys.correlations(symbol, interval), 0, -1, withscores=True)
    pipeline.exists(keys.ticker(symbol))
    scores, known = await pipeline.execute()
    return [(peer, float(score)) for peer, score in scores], bool(known)


def _between(column: ColumnElement[Any], start: datetime | None, end: datetime | None) -> list[ColumnElement[bool]]:
    bounds = [column >= start] if start is not None else []
    return bounds + ([column < end] if end is not None else [])


def _any_row(table: Table, symbol: str) -> Select[Any]:
    # Each branch has its own limit, so that the index is probed once and not read.
    return select(select(sql("1")).select_from(table).where(table.c.symbol == symbol).limit(1).subquery())


def iso(moment: datetime) -> str:
    """Return a UTC time as ISO 8601 text with microseconds and `Z`."""
    return moment.replace(tzinfo=None).isoformat(timespec="microseconds") + "Z"


def epoch_ns(moment: datetime) -> int:
    """Return a UTC time as epoch nanoseconds, exactly."""
    since = moment - EPOCH
    return (since.days * 86_400 + since.seconds) * 1_000_000_000 + since.microseconds * 1_000


def ticker_of(symbol: str, fields: Mapping[str, str]) -> models.Ticker:
    """Return the ticker in the fields of its hash."""
    event_ns, receive_ns = _stamp(fields, "event_ns"), _stamp(fields, "receive_ns")
    return models.Ticker(
        symbol=symbol,
        price=_number(fields, "price"),
        size=_number(fields, "size"),
        side=_word(fields, "side"),
        venue=_word(fields, "venue"),
        event_time=_iso_ns(event_ns),
        event_ns=event_ns,
        receive_time=_iso_ns(receive_ns),
        receive_ns=receive_ns,
        bid=_number(fields, "bid"),
        bid_venue=_word(fields, "bid_venue"),
        ask=_number(fields, "ask"),
        ask_venue=_word(fields, "ask_venue"),
        reference=_number(fields, "reference"),
        spread_bps=_number(fields, "spread_bps"),
        venues=_whole(fields, "venues"),
        verdict=_word(fields, "verdict"),
        seq=_whole(fields, "seq"),
    )


def venue_of(name: str, fields: Mapping[str, str]) -> models.Venue:
    """Return the venue in the fields of its hash."""
    last_ns = _stamp(fields, "last_receive_ns")
    return models.Venue(
        venue=name,
        state=_word(fields, "state"),
        messages=_whole(fields, "messages"),
        rejects=_whole(fields, "rejects"),
        unknown_symbols=_whole(fields, "unknown_symbols"),
        refused=_whole(fields, "refused"),
        silent_symbols=_whole(fields, "silent_symbols"),
        reconnects=_whole(fields, "reconnects"),
        gaps=_whole(fields, "gaps"),
        duplicates=_whole(fields, "duplicates"),
        backlog_rows=_whole(fields, "backlog_rows"),
        last_receive_time=_iso_ns(last_ns),
        last_receive_ns=last_ns,
        clock_offset_ns=_whole(fields, "clock_offset_ns"),
        clock_error_ns=_whole(fields, "clock_error_ns"),
        watermark_ns=_stamp(fields, "watermark_ns"),
        lag_ns=_whole(fields, "lag_ns"),
        last_reject=_word(fields, "last_reject"),
    )


def _word(fields: Mapping[str, str], name: str) -> str | None:
    return fields.get(name) or None


def _number(fields: Mapping[str, str], name: str) -> float | None:
    try:
        return float(fields.get(name, ""))  # NaN is written as null
    except ValueError:
        return None


def _whole(fields: Mapping[str, str], name: str) -> int | None:
    try:
        return int(fields.get(name, ""))
    except ValueError:
        return None


def _stamp(fields: Mapping[str, str], name: str) -> int | None:
    return _whole(fields, name) or None  # 0: never


def _iso_ns(ns: int | None) -> str | None:
    return None if ns is None else iso(EPOCH + ns // 1000 * _MICROSECOND)


def wick_id(event_time: datetime, venue: str, symbol: str, trade_id: str) -> str:
    """Return the id of a wick: its primary key as text, event time in epoch microseconds."""
    return f"{epoch_ns(event_time) // 1000}~{venue}~{symbol}~{trade_id}"


def _wick_fields(row: Row) -> dict[str, Any]:
    fields = dict(zip((column.name for column in _WICK_COLUMNS), row, strict=True))
    fields["id"] = wick_id(fields["event_time"], fields["venue"], fields["symbol"], fields["trade_id"])
    for name in ("event_time", "receive_time", "readmitted_time"):
        fields[name] = None if fields[name] is None else iso(fields[name])
    return fields


def why(wick: models.Wick, evidence: object) -> str:
    """Return in words why a trade was called a wick, and whether it was taken back."""
    text = words.why(wick, evidence)
    if wick.readmitted_time is None:
        return f"{text} It is kept out of candles, indicators and the price."
    return f"{text} Other venues confirmed it at {wick.readmitted_time}, so it was let back in."
