"""The shapes of the responses: public names, documented field by field, the source of the OpenAPI schemas.

Times come twice where the store has them: `*_time` as ISO 8601 UTC with microseconds, `*_ns` as epoch nanoseconds
(beyond 2**53: read them as 64-bit integers). A number that is not known is null.
"""

from __future__ import annotations

from typing import Annotated, Any, Final

import msgspec
from msgspec import Meta

from sinks import tables

Time = Annotated[str, Meta(description="ISO 8601, UTC, microseconds", extra_json_schema={"format": "date-time"})]
Nanoseconds = Annotated[int, Meta(description="UTC epoch nanoseconds")]
Number = float | None


class Problem(msgspec.Struct):
    """Every answer that is not a success."""

    error: Annotated[str, Meta(description="A fixed phrase per cause")]
    detail: Annotated[str, Meta(description="One line: what was asked, what is wrong, what is allowed")]


class Ticker(msgspec.Struct):
    """The newest validated state of a symbol, over all venues."""

    symbol: str
    price: Annotated[Number, Meta(description="Last trade that is no wick")]
    size: Annotated[Number, Meta(description="Its size, base currency")]
    side: Annotated[str | None, Meta(description="Its taker's side: buy, sell, or null")]
    venue: Annotated[str | None, Meta(description="Where it was made")]
    event_time: Time | None
    event_ns: Nanoseconds | None
    receive_time: Time | None
    receive_ns: Nanoseconds | None
    bid: Annotated[Number, Meta(description="Best bid of all fresh venues")]
    bid_venue: str | None
    ask: Annotated[Number, Meta(description="Best ask of all fresh venues")]
    ask_venue: str | None
    reference: Annotated[Number, Meta(description="What the fresh venues together say it is worth")]
    spread_bps: Annotated[Number, Meta(description="ask - bid, in 1/10000 of their middle; negative when crossed")]
    venues: Annotated[int | None, Meta(description="Fresh venues behind the reference")]
    verdict: Annotated[str | None, Meta(description="Of the last trade: confirmed or unverified")]
    seq: Annotated[int | None, Meta(description="Rises with every update of the symbol")]


class Tickers(msgspec.Struct):
    """All tickers, by symbol."""

    tickers: list[Ticker]


class Candle(msgspec.Struct):
    """One candle `[open_time, open_time + interval)` of all venues' validated trades."""

    open_time: Time
    open_ns: Nanoseconds
    open: float
    high: float
    low: float
    close: float
    volume: Annotated[float, Meta(description="Base currency")]
    quote_volume: Annotated[float, Meta(description="Sum of price x size")]
    buy_volume: Annotated[float, Meta(description="Base currency, taker bought")]
    trades: int
    vwap: Annotated[float, Meta(description="quote_volume / volume; the close where volume is 0")]
    venues: Annotated[int, Meta(description="How many venues traded in it")]
    wicks: Annotated[int, Meta(description="Filtered trades, in no other field")]
    revision: Annotated[int, Meta(description="0 when it closed, +1 each time late trades amended it")]


class Candles(msgspec.Struct):
    """The newest candles in a range, oldest first."""

    symbol: str
    interval: str
    candles: list[Candle]


STUDIES: Final = tuple(str(column.name) for column in tables.indicators.columns if column.nullable)
"""Indicator names, as the history table has them: a new indicator appears here by itself."""

Studies: Any = msgspec.defstruct(
    "Studies",
    [
        ("open_time", Time),
        ("open_ns", Nanoseconds),
        ("revision", Annotated[int, Meta(description="That of the candle it was computed from")]),
        *((name, Annotated[Number, Meta(description="null while warming up")]) for name in STUDIES),
    ],
    namespace={"__doc__": "Indicators on one closed candle."},
    module=__name__,
)


class Indicators(msgspec.Struct):
    """The newest indicators in a range, oldest first."""

    symbol: str
    interval: str
    indicators: list[Studies]


class Peer(msgspec.Struct):
    """How a symbol moves with another."""

    symbol: str
    pearson: Annotated[float, Meta(description="Correlation of log returns over the window, -1 to 1")]


class Correlations(msgspec.Struct):
    """A symbol's peers, the strongest |pearson| first."""

    symbol: str
    interval: str
    peers: list[Peer]


class Wick(msgspec.Struct):
    """A trade that one venue alone made, filtered from candles, indicators and the hot price."""

    id: Annotated[str, Meta(description="Stable; what /v1/wicks/{id} takes")]
    event_time: Time
    receive_time: Time
    symbol: str
    venue: str
    trade_id: Annotated[str, Meta(description="The venue's own")]
    price: float
    size: float
    side: str | None
    reference: Annotated[float, Meta(description="What the other venues said it was worth, this venue's basis added")]
    deviation_bps: Annotated[float, Meta(description="Distance of price from reference")]
    dispersion_bps: Annotated[float, Meta(description="How far apart the venues usually are")]
    basis_bps: Annotated[float, Meta(description="This venue's usual premium")]
    witnesses: Annotated[int, Meta(description="Live venues that did not follow")]
    readmitted_time: Annotated[Time | None, Meta(description="When others confirmed it after all; null = never")]


class Wicks(msgspec.Struct):
    """Wicks, newest first."""

    wicks: list[Wick]


class WickCase(Wick):
    """A wick with the evidence that condemned it."""

    why: Annotated[str, Meta(description="The verdict in words")]
    evidence: Annotated[Any, Meta(description="Each witness's nearest price, its distance, age and vote, as stored")]


class Venue(msgspec.Struct):
    """State of one venue's link. Counts are since its session started."""

    venue: str
    state: Annotated[str | None, Meta(description="connecting, live, stale, down or ended")]
    messages: int | None
    rejects: Annotated[int | None, Meta(description="Frames and rows that could not be read")]
    unknown_symbols: int | None
    refused: Annotated[int | None, Meta(description="Subscriptions the venue refused")]
    silent_symbols: Annotated[int | None, Meta(description="Symbols not heard now: silent, or without a connection")]
    reconnects: int | None
    gaps: int | None
    duplicates: int | None
    backlog_rows: int | None
    last_receive_time: Time | None
    last_receive_ns: Nanoseconds | None
    clock_offset_ns: Annotated[int | None, Meta(description="Added to the venue's stamps, nanoseconds")]
    clock_error_ns: Annotated[int | None, Meta(description="Uncertainty of the offset, nanoseconds")]
    watermark_ns: Nanoseconds | None
    lag_ns: Annotated[int | None, Meta(description="Median of receive - event time over the last second, nanoseconds")]
    last_reject: str | None


class Venues(msgspec.Struct):
    """Every venue the flow reports on."""

    venues: list[Venue]


class Health(msgspec.Struct):
    """The process is alive; nothing is said about the stores."""

    status: str


class Readiness(msgspec.Struct):
    """Both stores answered."""

    redis: str
    database: str
