"""Best bid and offer over all venues, from their newest quotes."""

from __future__ import annotations

from typing import Any, Final

import numpy as np

from market.schema import I64, QUOTE, Rows
from market.venues import VENUES

FRESH_NS: Final = 10_000_000_000
"""A venue's quote takes part for this long after its receipt."""


class Book:
    """Newest quote of each symbol and venue of a key group."""

    def __init__(self, symbols: int) -> None:
        table = (symbols, len(VENUES))
        self._bid = np.full(table, np.nan)
        self._ask = np.full(table, np.nan)
        self._at_ns = np.full(table, np.iinfo(np.int64).min // 2, np.int64)

    def update(self, ticks: Rows, local: I64) -> None:
        """Take the quotes among n TICK rows in release order."""
        quote = np.flatnonzero(ticks["kind"] == QUOTE)
        place = local[quote], ticks["venue"][quote]
        self._bid[place] = ticks["bid"][quote]  # of equal places the last stays
        self._ask[place] = ticks["ask"][quote]
        self._at_ns[place] = ticks["receive_ns"][quote]

    def best(self, symbols: I64, now_ns: int) -> dict[str, Any]:
        """Return columns bid, bid_venue, ask, ask_venue, spread_bps of some symbols; NaN and -1 where none is fresh.

        Venues may cross each other: the spread is negative then, as it is in truth.
        """
        fresh = now_ns - self._at_ns[symbols] <= FRESH_NS
        bids = np.where(fresh & np.isfinite(self._bid[symbols]), self._bid[symbols], -np.inf)
        asks = np.where(fresh & np.isfinite(self._ask[symbols]), self._ask[symbols], np.inf)
        row = np.arange(symbols.size)
        bid_venue, ask_venue = bids.argmax(axis=1), asks.argmin(axis=1)
        bid, ask = bids[row, bid_venue], asks[row, ask_venue]
        bid_venue, ask_venue = np.where(np.isfinite(bid), bid_venue, -1), np.where(np.isfinite(ask), ask_venue, -1)
        bid, ask = np.where(np.isfinite(bid), bid, np.nan), np.where(np.isfinite(ask), ask, np.nan)
        spread = (ask - bid) / ((ask + bid) / 2) * 1e4
        return {"bid": bid, "bid_venue": bid_venue, "ask": ask, "ask_venue": ask_venue, "spread_bps": spread}
