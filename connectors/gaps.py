"""Holes in one venue's trades, as they show while trades come in. No I/O, no clock of its own.

Where a venue numbers each symbol's trades without a break (binance, okx, kraken, gateio) a jump is a hole, exactly.
Elsewhere (bybit, bitget, kucoin) numbers skip by nature; there a lost link or a silence opens a hole of time, which
ends at the symbol's next trade. What comes twice, late or as history is never a hole.
"""

from __future__ import annotations

from typing import Final

import numpy as np

from connectors.venue import Hole
from market.schema import BACKFILL, I64, REPLAYED, TRADE, Rows

GRACE_NS: Final = 1_000_000_000
"""A jump is a hole after this long: until then the missing trades may only be out of order."""
MOST_OPEN: Final = 1_024
"""Holes in their grace at a time; beyond it the oldest end theirs early."""
FAR: Final = 1_000_000
"""A number this far below the last one is no late trade: the venue counts anew."""


class GapKernel:
    """The holes of one venue.

    Memory: two numbers a symbol, and at most MOST_OPEN holes. A trade costs a few list accesses, some 0.2 us: batches
    come every few milliseconds and are small, where a version in columns would cost more in calls.
    """

    def __init__(self, symbols: int, *, numbered: bool) -> None:
        """Build for a number of symbol codes; `numbered` as in `connectors.venue.Refill`."""
        self._numbered = numbered
        self._last = [0] * symbols
        self._last_ns = [0] * symbols
        self._open: list[tuple[int, Hole]] = []  # end of its grace, hole
        self._marked: set[int] = set()

    def add(self, ticks: Rows, spans: I64 | None) -> None:
        """Take decoded ticks: n TICK rows of the venue in receive order, and their spans as in `Decoded`."""
        if not self._numbered:
            self._follow(ticks.take(np.flatnonzero(ticks["kind"] == TRADE)))
            return
        rows = np.flatnonzero((ticks["kind"] == TRADE) & ((ticks["flags"] & (REPLAYED | BACKFILL)) == 0))
        if not rows.size:
            return
        trades = ticks.take(rows)
        symbols, stamps = trades["symbol"].tolist(), trades["exchange_ns"].tolist()
        numbers = _numbers(trades) if spans is None else spans.take(rows, axis=0)
        if numbers is None:
            return
        last, last_ns = self._last, self._last_ns
        for place, (symbol, stamp_ns, (first, end)) in enumerate(zip(symbols, stamps, numbers.tolist(), strict=True)):
            if first == last[symbol] + 1 and first > 1:
                last[symbol], last_ns[symbol] = end, stamp_ns
            else:
                self._out_of_turn(symbol, stamp_ns, first, end, int(trades["receive_ns"][place]))

    def mark(self) -> None:
        """Say that trades may have been lost up to now: a link was down, or silent."""
        if not self._numbered:  # numbers will tell by themselves
            self._marked = {symbol for symbol, stamp_ns in enumerate(self._last_ns) if stamp_ns}

    def due(self, now_ns: int) -> list[Hole]:
        """Return the holes whose grace is over at `now_ns`, our receive clock, each once, oldest first."""
        if not self._open:
            return []
        over = len(self._open) - MOST_OPEN
        due = [hole for place, (at_ns, hole) in enumerate(self._open) if at_ns <= now_ns or place < over]
        if due:
            self._open = [entry for place, entry in enumerate(self._open) if entry[0] > now_ns and place >= over]
        return due

    def _follow(self, trades: Rows) -> None:
        """Keep the newest stamps; a marked symbol's next trade, history apart, ends its hole."""
        columns = (trades["symbol"].tolist(), trades["exchange_ns"].tolist(), trades["flags"].tolist())
        for symbol, stamp_ns, flags in zip(*columns, strict=True):
            if symbol in self._marked:
                if flags & REPLAYED:
                    continue
                self._marked.discard(symbol)
                before_ns = self._last_ns[symbol]
                self._open.append((0, Hole(symbol, before_ns, max(before_ns, stamp_ns))))
            self._last_ns[symbol] = max(self._last_ns[symbol], stamp_ns)

    def _out_of_turn(self, symbol: int, stamp_ns: int, first: int, end: int, receive_ns: int) -> None:
        last = self._last[symbol]
        if end < 1 or first > end:  # the frame does not say
            return
        if last and last - FAR < first <= last:
            self._carve(symbol, stamp_ns, first, end)
        elif last and first > last:
            before_ns = self._last_ns[symbol]
            hole = Hole(symbol, before_ns, max(before_ns, stamp_ns), last, first)
            self._open.append((receive_ns + GRACE_NS, hole))
        if end > last or first <= last - FAR:
            self._last[symbol], self._last_ns[symbol] = end, stamp_ns

    def _carve(self, symbol: int, stamp_ns: int, first: int, end: int) -> None:
        """Take numbers that came late out of the open holes of a symbol."""
        kept: list[tuple[int, Hole]] = []
        for at_ns, hole in self._open:
            if hole.symbol != symbol or end <= hole.after or first >= hole.before:
                kept.append((at_ns, hole))
                continue
            stamp_ns = min(max(stamp_ns, hole.from_ns), hole.to_ns)
            parts = (
                Hole(symbol, hole.from_ns, stamp_ns, hole.after, first),
                Hole(symbol, stamp_ns, hole.to_ns, end, hole.before),
            )
            kept += [(at_ns, part) for part in parts if part.size]
        self._open = kept


def _numbers(trades: Rows) -> I64 | None:
    """Return n x 2 int64, the trade ids as numbers twice; None if one is no number."""
    try:
        numbers = trades["trade_id"].astype(np.int64)
    except (ValueError, OverflowError):
        return None
    return np.stack((numbers, numbers), axis=1)
