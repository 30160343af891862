"""A candle while it can still change: its row, how trades decide open and close, and how it is shown.

Knows nothing of time or lateness: `operators/candles.py` says which slot a trade belongs to.
"""

from __future__ import annotations

from typing import Final

import numpy as np
import numpy.typing as npt

from market.records import CANDLE
from market.schema import END_OF_INPUT, F64, I64, TRADE_ID_BYTES, Rows

NEVER: Final = np.iinfo(np.int64).min

SLOT: Final = np.dtype(
    [
        ("open_ns", "i8"),  # -1: unused
        ("first_ns", "i8"),  # order of the trade that set open: event time, venue, id
        ("last_ns", "i8"),  # of the trade that set close; in a flat candle, of the one that set the close it carries
        ("open", "f8"),
        ("high", "f8"),
        ("low", "f8"),
        ("close", "f8"),
        ("volume", "f8"),
        ("quote_volume", "f8"),
        ("buy_volume", "f8"),
        ("trades", "i8"),
        ("venues", "u4"),  # bit per venue code
        ("wicks", "i4"),
        ("revision", "i4"),  # of the row emitted last; -1 before the first
        ("first_venue", "i1"),
        ("last_venue", "i1"),
        ("first_id", f"S{TRADE_ID_BYTES}"),
        ("last_id", f"S{TRADE_ID_BYTES}"),
    ]
)
"""A candle being made or still amendable."""

UNUSED: Final = np.zeros(1, SLOT)
UNUSED["open_ns"], UNUSED["revision"] = -1, -1
UNUSED["first_ns"], UNUSED["last_ns"] = END_OF_INPUT, NEVER
UNUSED["high"], UNUSED["low"] = -np.inf, np.inf
"""A slot without a candle."""


def by_id(ids: npt.NDArray[np.bytes_], following: npt.NDArray[np.bytes_]) -> bool:
    """Return whether no id comes after the one that follows it: shorter first, then by bytes, so that 99 < 100."""
    length, next_length = np.strings.str_len(ids), np.strings.str_len(following)
    return not np.any((length > next_length) | ((length == next_length) & (ids > following)))


def take_ends(slots: Rows, ticks: Rows, first: I64, last: I64) -> None:
    """Let each slot's open and close be those of its earliest and latest trade, by event time, venue, trade id.

    Args:
        slots: k rows of SLOT, changed in place.
        ticks: TICK rows.
        first: k int64, the row of the earliest new trade of each slot.
        last: k int64, of the latest.
    """
    event = ticks["event_ns"]
    for prefix, price, rows, sign in (("first", "open", first, -1), ("last", "close", last, 1)):
        mine_ns, theirs_ns = event[rows], slots[f"{prefix}_ns"]
        step = sign * ((mine_ns > theirs_ns).astype(np.int8) - (mine_ns < theirs_ns))
        for tie in np.flatnonzero(step == 0).tolist():
            row, slot = ticks[rows[tie]], slots[tie]
            mine = (int(row["venue"]), len(row["trade_id"]), row["trade_id"])
            theirs = (int(slot[f"{prefix}_venue"]), len(slot[f"{prefix}_id"]), slot[f"{prefix}_id"])
            step[tie] = sign * ((mine > theirs) - (mine < theirs))
        won = step > 0
        rows = rows[won]
        slots[f"{prefix}_ns"][won] = event[rows]
        slots[price][won] = ticks["price"][rows]
        slots[f"{prefix}_venue"][won] = ticks["venue"][rows]
        slots[f"{prefix}_id"][won] = ticks["trade_id"][rows]


def candles_of(slots: Rows) -> Rows:
    """Return CANDLE rows of slots, flat where there was no trade; symbol, interval and time are left to the caller."""
    rows = np.zeros(slots.size, CANDLE)
    flat = slots["trades"] == 0
    for column in ("open", "high", "low"):
        rows[column] = np.where(flat, slots["close"], slots[column])
    for column in ("open_ns", "close", "volume", "quote_volume", "buy_volume", "trades", "wicks", "revision"):
        rows[column] = slots[column]
    rows["revision"] += 1
    rows["venues"] = np.bitwise_count(slots["venues"])
    rows["vwap"] = rows["close"]
    traded: F64 = slots["volume"]
    np.divide(slots["quote_volume"], traded, out=rows["vwap"], where=traded > 0)
    return rows
