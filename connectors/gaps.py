"""Holes in one venue's trades, as they show while trades come in. No I/O, no clock of its own.

Where a venue numbers each symbol's trades without a break (binance, okx, kraken, gateio) a jump is a hole, exactly.
Elsewhere (bybit, bitget, kucoin) numbers skip by nature; there a lost link or a silence opens a hole of time, which
ends at the symbol's next trade. So does the time between two runs, everywhere: the numbers go on where the one before
ended. What comes twice, late or as history is never a hole.
"""

from __future__ import annotations

from array import array
from collections.abc import Collection, Iterable
from itertools import chain
from typing import Final

import numpy as np

from connectors.position import Known
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

    Attributes:
        changed: Whether `open` is another than when this was last set to False.
        late: Symbol, first and last number of the trades that came out of turn since it was last emptied.
    """

    def __init__(self, symbols: int, *, numbered: bool) -> None:
        """Build for a number of symbol codes; `numbered` as in `connectors.venue.Refill`."""
        self._numbered = numbered
        self._last = [0] * symbols
        self._last_ns = [0] * symbols  # -t: followed since t, no trade yet
        self._open: list[tuple[int, Hole]] = []  # end of its grace, hole
        self._marked: set[int] = set()
        self._moved: set[int] = set()
        self.changed = False
        self.late: list[tuple[int, int, int]] = []

    def resume(self, known: Known) -> None:
        """Take over what an earlier run, or collector, has handed out, before anything else."""
        for symbol, number, stamp_ns in known.rows:
            self._last[symbol], self._last_ns[symbol] = number, stamp_ns
            self._moved.add(symbol)
        self._open = [(0, hole) for hole in known.holes]
        self.changed = True

    def follow(self, symbols: Iterable[int], now_ns: int) -> None:
        """Say that symbols are followed from `now_ns` on, our receive clock; what is known of one is from before."""
        for symbol in symbols:
            if self._last_ns[symbol]:
                self._marked.add(symbol)
            else:
                self._last_ns[symbol] = -now_ns
                self._moved.add(symbol)

    def forget(self, symbols: Collection[int], now_ns: int) -> list[Hole]:
        """Free what is known of symbols that are let go; return their holes, also those that nothing has ended."""
        holes = [hole for hole in [*self.open, *self.unsure(now_ns)] if hole.symbol in symbols]
        self._open = [entry for entry in self._open if entry[1].symbol not in symbols]
        self._marked.difference_update(symbols)
        for symbol in symbols:
            self._last[symbol] = self._last_ns[symbol] = 0
        self._moved.update(symbols)
        self.changed = True
        return holes

    def mark(self) -> None:
        """Say that trades may have been lost up to now: a link was down, or silent."""
        self._marked = {symbol for symbol, stamp_ns in enumerate(self._last_ns) if stamp_ns}

    def stamps(self) -> list[int]:
        """Return the stamp of each symbol's newest trade."""
        return self._last_ns.copy()

    def reopen(self, symbols: Iterable[int], before: list[int]) -> None:
        """Say that trades may be missing between the stamps `before` and now, where numbers do not tell."""
        for symbol in () if self._numbered else symbols:
            from_ns, to_ns = before[symbol], self._last_ns[symbol]
            if to_ns > 0 and to_ns > abs(from_ns):
                self._open_hole(0, Hole(symbol, abs(from_ns), to_ns))
            self._marked.add(symbol)

    def unsure(self, to_ns: int) -> list[Hole]:
        """Return a hole, up to a stamp of the venue, of each symbol that has not traded since it was marked."""
        begins = ((symbol, abs(self._last_ns[symbol]), self._last[symbol]) for symbol in sorted(self._marked))
        return [Hole(symbol, from_ns, max(from_ns, to_ns), after) for symbol, from_ns, after in begins]

    def news(self, ticks: Rows) -> Rows:
        """Return ticks, which `add` is not given yet, without history from before a symbol's newest trade.

        A venue may repeat hours of it after each subscription, of a symbol that trades rarely: longer than ids are
        remembered. What is missing of that time is a hole's business.
        """
        repeated = (ticks["flags"] & REPLAYED) != 0
        if not repeated.any():
            return ticks
        known = ticks["exchange_ns"] <= np.array(self._last_ns, np.int64)[ticks["symbol"]]
        return ticks.take(np.flatnonzero(~(repeated & known)))

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
        self._moved.update(symbols)
        last, last_ns = self._last, self._last_ns
        for place, (symbol, stamp_ns, (first, end)) in enumerate(zip(symbols, stamps, numbers.tolist(), strict=True)):
            if first == last[symbol] + 1 and first > 1:
                last[symbol], last_ns[symbol] = end, stamp_ns
            else:
                self._out_of_turn(symbol, stamp_ns, first, end, int(trades["receive_ns"][place]))
        if self._marked:
            self._marked.difference_update(symbols)

    def moved(self) -> bytes:
        """Return the symbols whose newest trade is another than at the last call: code, number, stamp, n x 3 int64."""
        if not self._moved:
            return b""
        last, last_ns = self._last, self._last_ns
        rows = array("q", chain.from_iterable((symbol, last[symbol], last_ns[symbol]) for symbol in self._moved))
        self._moved.clear()
        return rows.tobytes()

    @property
    def open(self) -> list[Hole]:
        """Holes in their grace."""
        return [hole for _, hole in self._open]

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
        """Keep the newest stamps and ids; a marked symbol's next trade, history apart, ends its hole."""
        if not trades.size:
            return
        numbers = _numbers(trades)
        ids = [0] * trades.size if numbers is None else numbers[:, 0].tolist()
        symbols = trades["symbol"].tolist()
        self._moved.update(symbols)
        last, last_ns = self._last, self._last_ns
        columns = (symbols, ids, trades["exchange_ns"].tolist(), trades["flags"].tolist())
        for symbol, number, stamp_ns, flags in zip(*columns, strict=True):
            if symbol in self._marked:
                if flags & REPLAYED:
                    continue
                self._end_hole(symbol, stamp_ns, last[symbol], 0)
            if stamp_ns > last_ns[symbol]:
                last[symbol], last_ns[symbol] = number, stamp_ns
            elif stamp_ns == last_ns[symbol]:
                last[symbol] = max(number, last[symbol])

    def _end_hole(self, symbol: int, stamp_ns: int, after: int, before: int) -> None:
        """Open the hole of time that ends with a trade."""
        self._marked.discard(symbol)
        before_ns = abs(self._last_ns[symbol])
        self._open_hole(0, Hole(symbol, before_ns, max(before_ns, stamp_ns), after, before))

    def _open_hole(self, due_ns: int, hole: Hole) -> None:
        self._open.append((due_ns, hole))
        self.changed = True

    def _out_of_turn(self, symbol: int, stamp_ns: int, first: int, end: int, receive_ns: int) -> None:
        last = self._last[symbol]
        says = 1 <= first <= end
        if not last and symbol in self._marked:
            self._end_hole(symbol, stamp_ns, 0, first if says else 0)
        if not says:
            if not last:
                self._last_ns[symbol] = max(self._last_ns[symbol], stamp_ns)
            return
        if last and last - FAR < first <= last:
            self.late.append((symbol, first, end))
            self._carve(symbol, stamp_ns, first, end)
        elif last and first > last:
            before_ns = self._last_ns[symbol]
            self._open_hole(receive_ns + GRACE_NS, Hole(symbol, before_ns, max(before_ns, stamp_ns), last, first))
        if end > last or first <= last - FAR:
            self._last[symbol], self._last_ns[symbol] = end, stamp_ns

    def _carve(self, symbol: int, stamp_ns: int, first: int, end: int) -> None:
        """Take numbers that came late out of the open holes of a symbol."""
        self.changed = bool(self._open) or self.changed
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
            kept += [(at_ns, part) for part in parts if part.size or not part.after]
        self._open = kept


def _numbers(trades: Rows) -> I64 | None:
    """Return n x 2 int64, the trade ids as numbers twice; None if one is no number."""
    try:
        numbers = trades["trade_id"].astype(np.int64)
    except (ValueError, OverflowError):
        return None
    return np.stack((numbers, numbers), axis=1)
