"""Ticks as columns: the one layout that every part of MIE shares.

Holds the dtype of a tick, its flags, the `TickBatch` that travels through the dataflow, and the array aliases.
It refuses to know any venue, file format or store.

A **tick** is one market row, a **trade** or a **quote** (best bid and ask). A **batch** is some milliseconds of
ticks as one structured NumPy array: contiguous, so it crosses a pipe in one write and is split by one gather.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Final

import numpy as np
import numpy.typing as npt

I8 = npt.NDArray[np.int8]
I64 = npt.NDArray[np.int64]
F64 = npt.NDArray[np.float64]
Bool = npt.NDArray[np.bool_]
Rows = npt.NDArray[np.void]
"""A structured array; the docstring of whoever takes or returns one names its dtype."""

TRADE: Final = 0
QUOTE: Final = 1
KINDS: Final = ("trade", "quote")

NS_PER_S: Final = 1_000_000_000

BUY: Final = 1
SELL: Final = -1
NO_SIDE: Final = 0
SIDES: Final = {BUY: "buy", SELL: "sell", NO_SIDE: None}

UNSTAMPED: Final = 1
"""Flag: the venue gave no usable time, `exchange_ns` is 0 and `event_ns` equals `receive_ns`."""
REPLAYED: Final = 2
"""Flag: history that the venue repeats after a subscription; it predates it."""
BACKFILL: Final = 4
"""Flag: fetched over REST to fill a gap."""
LAGGING: Final = 8
"""Flag, set on sequencing: unstamped, received while the venue's stamped ticks came late; it may be old itself."""

TRADE_ID_BYTES: Final = 40
"""Room for a trade id as text: decimal (19 digits), object id (24 hex) or UUID (36)."""

TICK: Final = np.dtype(
    [
        ("symbol", "i4"),  # code in the SymbolTable
        ("venue", "i1"),  # code in market.venues
        ("kind", "i1"),  # TRADE or QUOTE
        ("side", "i1"),  # the taker's: BUY, SELL or NO_SIDE
        ("flags", "u1"),  # UNSTAMPED | REPLAYED | BACKFILL | LAGGING
        ("price", "f8"),  # trades; NaN on quotes
        ("size", "f8"),  # trades, base currency (contracts on derivatives); NaN on quotes
        ("bid", "f8"),  # quotes; NaN on trades and where the side is absent
        ("bid_size", "f8"),
        ("ask", "f8"),
        ("ask_size", "f8"),
        ("trade_id", f"S{TRADE_ID_BYTES}"),  # as the venue writes it, ASCII; empty on quotes
        ("exchange_ns", "i8"),  # the venue's stamp as sent, UTC epoch nanoseconds; 0 if UNSTAMPED
        ("receive_ns", "i8"),  # ours, at the socket
        ("event_ns", "i8"),  # the stamp on our corrected clock; 0 until sequenced
    ]
)
"""One tick, 120 bytes. Times are int64 UTC epoch nanoseconds, prices and sizes float64 (decimals up to 15 digits)."""

END_OF_INPUT: Final = np.iinfo(np.int64).max
"""The watermark of a partition that has ended: it holds nobody back any more."""


def empty_ticks(rows: int = 0) -> Rows:
    """Return `rows` TICK rows with NaN prices and zeros elsewhere."""
    ticks = np.zeros(rows, TICK)
    for column in ("price", "size", "bid", "bid_size", "ask", "ask_size"):
        ticks[column] = np.nan
    return ticks


@dataclass(slots=True)
class TickBatch:
    """Ticks of one venue in receive order, and the promise that goes with them.

    Attributes:
        venue: Venue code.
        ticks: n rows of TICK, sorted by `receive_ns`; may be empty.
        watermark_ns: Everything of this venue received at or before this time is in this batch or an earlier one.
        status: Counters of the venue's session since its start, at most once a second; see `VenueCounters`.
        gaps: Holes in the venue's trades that were dealt with since the batch before.
        step: What the batch changes of the position to resume at: the source's business alone.
        let_go: Symbol codes that no venue has ticks of after `watermark_ns`: their state can be freed.
    """

    venue: int
    ticks: Rows
    watermark_ns: int
    status: VenueCounters | None = None
    gaps: list[Gap] = field(default_factory=list)
    step: bytes = b""
    let_go: list[int] = field(default_factory=list)


@dataclass(frozen=True, slots=True)
class Gap:
    """A hole in a venue's trades of a symbol, refilled or not.

    Attributes:
        venue: Venue code.
        symbol: Symbol code.
        from_ns: The venue's stamp of the last trade before it, UTC epoch nanoseconds.
        to_ns: The venue's stamp of the first trade after it.
        missing: Trades that stay lost; 0 if none or if the venue's numbers do not tell.
        filled: Whether all of it was fetched.
    """

    venue: int
    symbol: int
    from_ns: int
    to_ns: int
    missing: int
    filled: bool


@dataclass(slots=True)
class VenueCounters:
    """What a venue's session has counted since it started, in messages, rows and events."""

    state: str = "connecting"
    """`connecting`, `live`, `stale`, `down` or `ended`."""
    messages: int = 0
    bytes: int = 0
    rejects: int = 0
    unknown_symbols: int = 0
    refused: int = 0
    silent_symbols: int = 0
    """Symbols not heard now: subscribed and silent, or without a connection."""
    reconnects: int = 0
    gaps: int = 0
    backlog_rows: int = 0
    last_receive_ns: int = 0
    last_reject: str = ""


def join(parts: Sequence[Rows]) -> Rows:
    """Return structured arrays of one dtype as one, in order; at least one, contiguous or not.

    Rows are joined without their fields: of those NumPy promotes each part's anew, in Python, 80 times slower on small
    batches.
    """
    if len(parts) == 1:
        return parts[0]
    whole = np.dtype((np.void, parts[0].dtype.itemsize))
    return np.concatenate([part.view(whole) for part in parts]).view(parts[0].dtype)


def in_receive_order(parts: Sequence[Rows]) -> Rows:
    """Return TICK arrays, each by `receive_ns`, as one by `receive_ns`; ticks of one time stay in order."""
    if len(parts) < 2:
        return parts[0] if parts else empty_ticks()
    ticks = join(parts)
    return ticks.take(np.argsort(ticks["receive_ns"], kind="stable"))
