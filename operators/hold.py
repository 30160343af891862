"""The hold: ticks of a key group from their receipt to their release, and to the evidence on the way.

Ticks leave twice. `see` hands out what they say as soon as they may be evidence, each venue's in receive order; `due`
hands them out in release order once their window has passed. Both depend on the ticks alone, however the input was
batched. Ticks are read and put in their places when somebody asks for them first, many at a time: what a tick costs
falls by half from 500 of them to 4,000.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from operator import itemgetter
from typing import Final, Self

import numpy as np

from market.schema import F64, I64, LAGGING, QUOTE, Bool, Rows, join
from market.venues import VENUES
from operators.sequence import Slice

QUANTUM_NS: Final = 5_000_000
"""Ticks are released in quanta of receive time, so that their order by event time does not depend on batching."""

_VENUES: Final = len(VENUES)
_BEFORE_ALL: Final = int(np.iinfo(np.int64).min)
_RANK_BITS: Final = 4  # venue code and kind


@dataclass(slots=True)
class Columns:
    """Columns of one length."""

    def take(self, rows: I64) -> Self:
        """Return a copy of some rows, in their order."""
        return type(self)(*(getattr(self, name).take(rows) for name in self.__dataclass_fields__))

    def part(self, start: int, stop: int | None) -> Self:
        """Return a view of some rows."""
        return type(self)(*(getattr(self, name)[start:stop] for name in self.__dataclass_fields__))

    @classmethod
    def joined(cls, parts: Sequence[Self]) -> Self:
        """Return some as one, in order; at least one, which is itself."""
        if len(parts) == 1:
            return parts[0]
        columns = ([getattr(part, name) for part in parts] for name in cls.__dataclass_fields__)
        return cls(*(join(column) if column[0].dtype.names else np.concatenate(column) for column in columns))


@dataclass(slots=True)
class Seen(Columns):
    """What ticks say that can be evidence: they have a value, and are not known to lag; a venue's in receive order.

    Attributes:
        place: n int64, `local symbol * venues + venue`: where tables of a row for each symbol hold them.
        value: n float64, log price of trades, log mid of quotes.
        receive_ns: n int64.
        event_ns: n int64.
    """

    place: I64
    value: F64
    receive_ns: I64
    event_ns: I64


@dataclass(slots=True)
class Due(Columns):
    """Ticks to be released, in release order, with the columns that everybody asks for.

    Attributes:
        ticks: n rows of TICK.
        place: n int64, `venue * symbols + local symbol`: where tables of a column for each venue hold them.
        rank: n int64, `2 * venue`, and one more on quotes: their order where the event time is the same.
        value: n float64, log price of trades, log mid of quotes; NaN where a side is missing.
        bid: n float64; NaN on trades, and on quotes without one.
        ask: The same.
        half: n float64, half spread of quotes, log units; NaN on trades.
        receive_ns: n int64.
        event_ns: n int64.
        quantum_ns: n int64, end of each tick's quantum, ascending.
    """

    ticks: Rows
    place: I64
    rank: I64
    value: F64
    bid: F64
    ask: F64
    half: F64
    receive_ns: I64
    event_ns: I64
    quantum_ns: I64


@dataclass(slots=True)
class Hold:
    """See above. Memory: the ticks of the window, and those above the watermark.

    Attributes:
        local: int64, symbol code -> place among the key group's symbols.
        symbols: How many these are.
    """

    local: I64
    symbols: int
    _incoming: list[tuple[int, Rows]] = field(default_factory=list)
    _held: list[Due] = field(default_factory=list)
    _unseen: list[tuple[int, Seen]] = field(default_factory=list)  # with the time that all was received by
    _complete_ns: int = _BEFORE_ALL
    _read_ns: int = _BEFORE_ALL

    def add(self, slices: Sequence[Slice]) -> None:
        """Take ticks, each venue's in receive order."""
        self._incoming += [(part.venue, part.ticks) for part in slices if part.ticks.size]

    def take_in(self, watermark_ns: int) -> None:
        """Let what was received up to the watermark be seen and be due."""
        self._complete_ns = watermark_ns

    def _need(self, until_ns: int) -> None:
        """Read all that is complete, unless what was received up to a time has been read."""
        if until_ns <= self._read_ns:
            return
        watermark_ns = self._read_ns = self._complete_ns
        self._incoming.sort(key=itemgetter(0))  # a venue's own order stays
        ready, later = [], []
        for venue, ticks in self._incoming:
            receive_ns = ticks["receive_ns"]
            if receive_ns[-1] <= watermark_ns:
                ready.append(ticks)
                continue
            cut = int(receive_ns.searchsorted(watermark_ns, side="right"))
            later.append((venue, ticks[cut:]))
            if cut:
                ready.append(ticks[:cut])
        self._incoming = later
        if ready:
            self._read(join(ready))

    def _read(self, ticks: Rows) -> None:
        """Take ticks of the venues, one after the other, with their columns."""
        venue = ticks["venue"].astype(np.int64)
        symbol = self.local.take(ticks["symbol"])
        quote = ticks["kind"] == QUOTE
        rank = venue * 2
        rank += quote
        bid, ask = np.ascontiguousarray(ticks["bid"]), np.ascontiguousarray(ticks["ask"])
        value = _log_value(bid, ask, ticks["price"], quote)
        half = ask - bid
        half /= ask + bid
        receive_ns, event_ns = np.ascontiguousarray(ticks["receive_ns"]), np.ascontiguousarray(ticks["event_ns"])
        good, flags = np.isfinite(value), ticks["flags"]
        if flags.any():
            good &= flags & LAGGING == 0
        seen = Seen(symbol * _VENUES + venue, value, receive_ns, event_ns)
        self._unseen.append((int(receive_ns.max()), seen if good.all() else seen.take(good.nonzero()[0])))
        venue *= self.symbols
        venue += symbol
        self._keep(Due(ticks, venue, rank, value, bid, ask, half, receive_ns, event_ns, _quantum_ns(receive_ns)))

    def _keep(self, due: Due) -> None:
        """Hold ticks in release order."""
        due = due.take(release_order(due))
        if self._held and due.quantum_ns[0] <= self._held[-1].quantum_ns[-1]:  # the watermark was within a quantum
            self._keep(Due.joined([self._held.pop(), due]))
        else:
            self._held.append(due)

    def see(self, until_ns: int) -> Iterator[Seen]:
        """Yield what was received up to a time and not yielded before; none of it above the watermark."""
        self._need(until_ns)
        while self._unseen:
            last_ns, first = self._unseen[0]
            if last_ns <= until_ns:
                self._unseen.pop(0)
                yield first
                continue
            now = first.receive_ns <= until_ns
            if now.any():
                self._unseen[0] = last_ns, first.take((~now).nonzero()[0])
                yield first.take(now.nonzero()[0])
            return

    def due(self, cut_ns: int) -> Due | None:
        """Take the ticks of the quanta that ended by `cut_ns`; None if there are none."""
        self._need(cut_ns)
        ready: list[Due] = []
        while self._held:
            first = self._held[0]
            if first.quantum_ns[-1] <= cut_ns:
                ready.append(self._held.pop(0))
                continue
            cut = int(first.quantum_ns.searchsorted(cut_ns, side="right"))
            if cut:
                self._held[0] = first.part(cut, None)
                ready.append(first.part(0, cut))
            break
        return Due.joined(ready) if ready else None


def _quantum_ns(receive_ns: I64) -> I64:
    quantum_ns = receive_ns + (QUANTUM_NS - 1)
    quantum_ns //= QUANTUM_NS
    quantum_ns *= QUANTUM_NS
    return quantum_ns


def log_value(ticks: Rows) -> F64:
    """Return the log price of n TICK trades and the log mid of quotes, n float64; NaN where a side is missing."""
    return _log_value(ticks["bid"], ticks["ask"], ticks["price"], ticks["kind"] == QUOTE)


def _log_value(bid: F64, ask: F64, price: F64, quote: Bool) -> F64:
    value: F64 = bid * ask
    np.sqrt(value, out=value)
    value = np.where(quote, value, price)
    return np.log(value, out=value)


def release_order(due: Due) -> I64:
    """Return the order of release: quantum, event time, venue code, trades first and by id, quotes as they are.

    Shorter ids are before longer ones, so 99 before 100.
    """
    number = (due.quantum_ns - due.quantum_ns.min()) // QUANTUM_NS
    since_ns = due.event_ns - due.event_ns.min()
    event_bits, row_bits = int(since_ns.max()).bit_length(), number.size.bit_length()
    if int(number.max()).bit_length() + event_bits + _RANK_BITS + row_bits < 64:  # one key; sorting it is fastest
        key = number
        for bits, part in ((event_bits, since_ns), (_RANK_BITS, due.rank), (row_bits, np.arange(number.size))):
            key <<= bits
            key |= part
        key.sort(kind="stable")  # in runs already
        order: I64 = key & ((1 << row_bits) - 1)
        key >>= row_bits
        same = key[1:] == key[:-1]
        same &= key[1:] & 1 == 0
    else:
        order = np.lexsort((due.rank, since_ns, number))
        columns = [column.take(order) for column in (due.rank, since_ns, number)]
        same = columns[0][1:] & 1 == 0
        for column in columns:
            same &= column[1:] == column[:-1]
    if same.any() and not _by_id(due.ticks, order, same):
        _order_by_id(due.ticks, order, same)
    return order


def _by_id(ticks: Rows, order: I64, same: Bool) -> bool:
    """Return whether trades of one venue and time are in the order of their ids, as nearly always: they come so."""
    first = same.nonzero()[0]
    ids = ticks.take(order.take((first, first + 1)))["trade_id"]
    length = np.strings.str_len(ids)
    falls = (length[1] < length[0]) | (length[1] == length[0]) & (ids[1] < ids[0])
    return not falls.any()


def _order_by_id(ticks: Rows, order: I64, same: Bool) -> None:
    """Put trades of one venue and time, neighbours in `order` where `same` is true, in the order of their ids."""
    tied = np.zeros(order.size, bool)
    tied[1:] |= same
    tied[:-1] |= same
    places = tied.nonzero()[0]
    ids = ticks["trade_id"][order[places]]
    length = np.strings.str_len(ids)
    follows = same[places[1:] - 1] & (places[1:] == places[:-1] + 1)
    group = np.concatenate(([0], np.cumsum(~follows)))
    order[places] = order[places[np.lexsort((ids, length, group))]]
