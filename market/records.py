"""What the operators hand to the sinks: candles, studies, wicks, correlations, newest state. No I/O here.

Arrays hold symbol and venue codes; sinks turn them into names. Times are int64 UTC epoch nanoseconds.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Final

import numpy as np

from market.schema import F64, I8, I64, Rows

CONFIRMED: Final = 0
WICK: Final = 1
UNVERIFIED: Final = 2
VERDICTS: Final = ("confirmed", "wick", "unverified")

CANDLE: Final = np.dtype(
    [
        ("symbol", "i4"),
        ("interval_s", "i4"),
        ("open_ns", "i8"),  # the candle is [open_ns, open_ns + interval)
        ("open", "f8"),
        ("high", "f8"),
        ("low", "f8"),
        ("close", "f8"),
        ("volume", "f8"),  # base currency
        ("quote_volume", "f8"),  # sum of price x size
        ("buy_volume", "f8"),  # base, taker bought
        ("vwap", "f8"),  # quote_volume / volume; the close where volume is 0
        ("trades", "i8"),
        ("venues", "i4"),  # how many venues traded in it
        ("wicks", "i4"),  # filtered trades, not in any other field
        ("revision", "i4"),  # 0 when it closed, +1 each time late trades amended it
        ("as_of_ns", "i8"),  # whole second of the candle clock that made it: its end, later if amended; 0: history
    ]
)

HOT: Final = np.dtype(
    [
        ("symbol", "i4"),
        ("price", "f8"),
        ("size", "f8"),
        ("side", "i1"),
        ("venue", "i1"),
        ("event_ns", "i8"),
        ("receive_ns", "i8"),
        ("bid", "f8"),
        ("bid_venue", "i1"),  # -1: none
        ("ask", "f8"),
        ("ask_venue", "i1"),
        ("reference", "f8"),
        ("spread_bps", "f8"),
        ("venues", "i4"),  # fresh ones behind the reference
        ("verdict", "i1"),  # of the trade that set price; -1 before the first
        ("seq", "i8"),  # rises by one an update of this symbol
    ]
)
"""Newest state of a symbol: `tk:SYMBOL`. NaN where nothing is known yet."""

STUDIES: Final = ("rsi_14", "macd", "macd_signal", "macd_histogram")
"""Indicator columns in table order, `indicators` in history and `ind:*` in Redis. NaN while warming up."""


@dataclass(slots=True)
class StudyBatch:
    """Closed or amended candles of one key group with their indicators, row by row.

    Attributes:
        candles: n rows of CANDLE, sorted by interval, open time, symbol.
        studies: column name (STUDIES) -> n float64.
    """

    candles: Rows
    studies: dict[str, F64]


@dataclass(slots=True)
class Wick:
    """A trade that one venue alone made, with the evidence that condemned it."""

    symbol: int
    venue: int
    trade_id: str
    event_ns: int
    receive_ns: int
    price: float
    size: float
    side: int
    reference: float
    """What the other venues said it was worth, in the quote currency, this venue's basis added."""
    deviation_bps: float
    dispersion_bps: float
    basis_bps: float
    witnesses: int
    """Live venues that did not follow."""
    evidence: dict[str, object] = field(default_factory=dict)
    """JSON object: per witness the nearest price, its distance in bps, its age in ms, its vote."""
    readmitted_ns: int = 0
    """When other venues confirmed it after all (watermark time); 0 = never."""


@dataclass(slots=True)
class WickBatch:
    """New wicks, and wicks re-admitted (the same trade again, `readmitted_ns` set)."""

    wicks: list[Wick]


@dataclass(slots=True)
class Correlation:
    """Pearson correlation of log returns between symbols over the window that ends with one candle.

    Attributes:
        interval_s: Candle interval in seconds.
        open_ns: Open time of the newest candle in the window.
        window: Returns used at most.
        symbols: k codes, ascending.
        matrix: k x k float64, symmetric, NaN where too few common returns or no variance.
    """

    interval_s: int
    open_ns: int
    window: int
    symbols: I64
    matrix: F64


@dataclass(slots=True)
class LetGo:
    """Symbols that the run has let go: nothing more comes of them.

    Attributes:
        symbols: Symbol codes; their names stay in the table until long after this has reached the sinks.
        of: What there is no more of: `ticks`, `tk` (HOT rows), `ind` (indicators) or `corr` (correlations).
    """

    symbols: list[int]
    of: str


@dataclass(slots=True)
class VenueStatus:
    """State of one venue: `venue:NAME`. Counts are since the session's start."""

    venue: int
    state: str
    messages: int
    rejects: int
    unknown_symbols: int
    refused: int
    reconnects: int
    gaps: int
    duplicates: int
    backlog_rows: int
    last_receive_ns: int
    clock_offset_ns: int
    """What is added to the venue's stamps: our clock minus theirs plus the least delay seen."""
    clock_error_ns: int
    """Uncertainty of the offset, nanoseconds."""
    watermark_ns: int
    lag_ns: int
    """Median over the last second of receive - event time: how late ticks come beyond the least delay."""
    last_reject: str = ""
    silent_symbols: int = 0
    """Symbols not heard now: subscribed and silent, or without a connection."""


@dataclass(slots=True)
class ReleasedTrades:
    """Of the trades that the forge released in one go, what its metrics need.

    Attributes:
        due_ns: n int64, receive time plus the window W: a release cannot be earlier.
        verdicts: 3 int64, trades by verdict.
        readmitted: How many earlier wicks were let back in.
    """

    due_ns: I64
    verdicts: I64
    readmitted: int


@dataclass(slots=True)
class ForgedTicks:
    """Ticks released by the forge, for the archive: columns beside TICK, row by row.

    Attributes:
        ticks: n rows of TICK in release order.
        release_ns: n int64.
        verdict: n int8, index into VERDICTS; -1 on quotes.
        reference: n float64.
        deviation_bps: n float64.
    """

    ticks: Rows
    release_ns: I64
    verdict: I8
    reference: F64
    deviation_bps: F64
