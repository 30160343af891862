"""Best bid and offer over all venues, from their newest quotes."""

from __future__ import annotations

from typing import Any, Final

import numpy as np

from market.schema import F64, I8, I64, Bool
from market.venues import VENUES

FRESH_NS: Final = 10_000_000_000
"""A venue's quote takes part for this long after its receipt."""

_VENUES: Final = len(VENUES)
_CODES: Final = np.arange(_VENUES, dtype=np.int8)[:, None]
_NEVER: Final = int(np.iinfo(np.int64).max)


class Book:
    """Newest quote of each symbol and venue of a key group; tables are 7 x symbols: a venue's row is contiguous."""

    def __init__(self, symbols: int) -> None:
        table = (_VENUES, symbols)
        self._bid = np.full(table, -np.inf)  # and so where there is none, or none that is fresh
        self._ask = np.full(table, np.inf)
        self._at_ns = np.full(table, _NEVER, np.int64)
        self._oldest_ns = _NEVER  # none that is in the tables is older

    def update(self, place: I64, bid: F64, ask: F64, receive_ns: I64) -> None:
        """Take n quotes in release order; `place` is `venue * symbols + local symbol`, a side that is absent NaN."""
        if not place.size:
            return
        self._bid.reshape(-1)[place] = np.where(np.isfinite(bid), bid, -np.inf)  # of equal places the last stays
        self._ask.reshape(-1)[place] = np.where(np.isfinite(ask), ask, np.inf)
        self._at_ns.reshape(-1)[place] = receive_ns
        self._oldest_ns = min(self._oldest_ns, int(receive_ns.min()))

    def best(self, symbols: I64, now_ns: int) -> dict[str, Any]:
        """Return columns bid, bid_venue, ask, ask_venue, spread_bps of some symbols; NaN and -1 where none is fresh.

        Venues may cross each other: the spread is negative then, as it is in truth. Time only goes on.
        """
        if now_ns - self._oldest_ns > FRESH_NS:
            self._expire(now_ns - FRESH_NS)
        bids, asks = self._bid.take(symbols, axis=1), self._ask.take(symbols, axis=1)
        bid, ask = bids.max(axis=0), asks.min(axis=0)
        bid_venue, ask_venue = _first(bids == bid), _first(asks == ask)
        no_bid, no_ask = bid == -np.inf, ask == np.inf
        bid_venue[no_bid], bid[no_bid] = -1, np.nan
        ask_venue[no_ask], ask[no_ask] = -1, np.nan
        spread = (ask - bid) / ((ask + bid) / 2) * 1e4
        return {"bid": bid, "bid_venue": bid_venue, "ask": ask, "ask_venue": ask_venue, "spread_bps": spread}

    def _expire(self, since_ns: int) -> None:
        """Take out what was received before a time."""
        old = self._at_ns < since_ns
        self._bid[old], self._ask[old], self._at_ns[old] = -np.inf, np.inf, _NEVER
        self._oldest_ns = int(self._at_ns.min(initial=_NEVER))

    def forget(self, symbols: I64) -> None:
        """Forget some symbols, local."""
        self._bid[:, symbols], self._ask[:, symbols], self._at_ns[:, symbols] = -np.inf, np.inf, _NEVER


def _first(which: Bool) -> I8:
    """Return the first venue of each column of 7 x n that is true; some is. Bytes are a third of `argmax`."""
    code = (~which).view(np.int8)
    code *= _VENUES
    code += _CODES
    first: I8 = code.min(axis=0)
    return first
