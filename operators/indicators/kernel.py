"""Indicators of one key group, all intervals: closed and amended candles in, the same with their indicators out.

A candle that comes later than its successors (amended, or first made by a late trade) revises every indicator after
it: the kernel keeps the newest candles with the state after each, goes back to the state before the late one, and
forward again. Closed candles whose values move are emitted once more, their candle unchanged. Further back than
its memory it cannot go.
"""

from __future__ import annotations

import pickle
from collections.abc import Sequence
from itertools import pairwise
from typing import Final

import numpy as np

from market.records import CANDLE, STUDIES, StudyBatch
from market.schema import F64, I64, Bool, Rows
from operators.candle_slots import NEVER
from operators.candles import amendable
from operators.indicators import INDICATORS

STATE: Final = np.dtype([(str(number), indicator.STATE) for number, indicator in enumerate(INDICATORS)])
"""The states of all indicators of a symbol."""
SLOT: Final = np.dtype([("candle", CANDLE), ("state", STATE)])
"""A closed candle and the state after it."""


def step(state: Rows, candles: Rows) -> Rows:
    """Return n rows of STATE after one CANDLE row each; on forming candles a preview."""
    after = np.zeros(state.size, STATE)
    for number, indicator in enumerate(INDICATORS):
        after[str(number)] = indicator.step(state[str(number)], candles)
    return after


def values(state: Rows) -> F64:
    """Return n x len(STUDIES) float64, NaN while warming up."""
    columns = [column for number, indicator in enumerate(INDICATORS) for column in indicator.values(state[str(number)])]
    return np.stack(columns, axis=1)


class StudyKernel:
    """Indicators of one key group.

    Memory: per symbol and interval the newest `amendable(interval) + 1` closed candles with states, one SLOT each.

    Attributes:
        late: Candles older than that memory, emitted with NaN for every indicator.
    """

    def __init__(self, symbols: I64, intervals_s: Sequence[int]) -> None:
        """Build without candles, for the symbol codes of a key group, ascending int64."""
        self._symbols = symbols
        self._rings = {interval: _Ring(symbols, amendable(interval) + 1) for interval in sorted(set(intervals_s))}

    @property
    def late(self) -> int:
        """Return how many candles came too late for their indicators."""
        return sum(ring.late for ring in self._rings.values())

    def add(self, candles: Rows) -> StudyBatch:
        """Bring the indicators up to date and return them.

        Args:
            candles: n rows of CANDLE as `CandleKernel.add` returns them: rows of one `as_of_ns` in one call.

        Returns:
            The n candles, and closed ones after them whose indicators moved, each `as_of_ns` apart: by interval,
            open time, symbol.

        Raises:
            KeyError: An interval that this kernel was not built for.
            IndexError: A symbol of another key group.
        """
        order = np.lexsort((candles["symbol"], candles["open_ns"], candles["interval_s"], candles["as_of_ns"]))
        candles = candles.take(order)
        new = np.diff(candles["as_of_ns"], prepend=NEVER) != 0
        new |= np.diff(candles["interval_s"], prepend=0) != 0
        cuts = [*np.flatnonzero(new).tolist(), candles.size]
        slots = [np.zeros(0, SLOT)]
        for start, stop in pairwise(cuts):
            slots.append(self._rings[int(candles["interval_s"][start])].add(candles[start:stop]))
        out = _joined(slots)
        table = values(out["state"])
        return StudyBatch(out["candle"].copy(), {name: table[:, column] for column, name in enumerate(STUDIES)})

    def warm(self, candles: Rows) -> None:
        """Take closed candles of the past, n rows of CANDLE, so that the next ones have indicators at once."""
        self.add(candles)

    def forget(self, symbols: Sequence[int]) -> None:
        """Free the state of some symbols, by code: their next candle is their first."""
        for ring in self._rings.values():
            ring.forget(np.array(symbols, np.int64))

    def snapshot(self) -> bytes:
        """Return the state as bytes."""
        rings = {interval: ring.state() for interval, ring in self._rings.items()}
        return pickle.dumps((self._symbols, rings), protocol=5)

    def restore(self, snapshot: bytes) -> None:
        """Take over what `snapshot` returned.

        Raises:
            ValueError: It is of other symbols or intervals.
        """
        symbols, rings = pickle.loads(snapshot)
        if not np.array_equal(symbols, self._symbols) or rings.keys() != self._rings.keys():
            message = f"the snapshot is of symbols {symbols.tolist()} and intervals {list(rings)}, not of this kernel's"
            raise ValueError(message)
        for interval, state in rings.items():
            self._rings[interval].take_over(*state)


class _Ring:
    """The newest closed candles of each symbol in one interval, with the state after each.

    `slots` is flat, `length` a symbol; the k-th candle of a symbol ever is in place k % length. An unused slot is all
    zeros, which is also the state before the first candle.
    """

    def __init__(self, symbols: I64, length: int) -> None:
        self._places = np.full(int(symbols[-1]) + 1 if symbols.size else 0, -1, np.int64)
        self._places[symbols] = np.arange(symbols.size)
        self._length = length
        self._slots: Rows = np.zeros(symbols.size * length, SLOT)
        self._count: I64 = np.zeros(symbols.size, np.int64)
        self._newest_ns: I64 = np.full(symbols.size, NEVER)
        self.late = 0

    def add(self, candles: Rows) -> Rows:
        """Take candles of one moment, by open time and symbol; return SLOT rows in that order."""
        places = self._places[candles["symbol"]]
        if places.min() < 0:
            message = (
                f"candles of a symbol that is not in this key group: codes {np.unique(candles['symbol']).tolist()}"
            )
            raise IndexError(message)
        behind = candles["open_ns"] <= self._newest_ns[places]
        if not behind.any():
            return self._append(candles, places)
        revised = np.isin(places, places[behind])
        slots = _joined(
            [self._append(candles[~revised], places[~revised]), self._revise(candles[revised], places[revised])]
        )
        return slots.take(np.lexsort((slots["candle"]["symbol"], slots["candle"]["open_ns"])))

    def _at(self, places: I64 | int, number: I64) -> I64:
        """Return the slots of the `number`-th candles of symbols."""
        return np.asarray(places * self._length + number % self._length)

    def _append(self, candles: Rows, places: I64) -> Rows:
        """Add candles that are newer than all before, one open time after the other."""
        out = np.zeros(candles.size, SLOT)
        out["candle"] = candles
        cuts = np.flatnonzero(np.diff(candles["open_ns"], prepend=NEVER, append=NEVER))
        for start, stop in pairwise(cuts.tolist()):
            slots, place = out[start:stop], places[start:stop]
            count = self._count[place]
            slots["state"] = step(self._slots.take(self._at(place, count - 1))["state"], candles[start:stop])
            self._slots[self._at(place, count)] = slots
            self._count[place] += 1
            self._newest_ns[place] = slots["candle"]["open_ns"]
        return out

    def _revise(self, candles: Rows, places: I64) -> Rows:
        """Go back for late candles: replace or insert them, and compute all after them again, symbols in lockstep."""
        parts = [self._merged(int(place), candles[places == place]) for place in np.unique(places)]
        lost = [part[3] for part in parts]
        tails = [part for part in parts if part[1].size]
        size = np.array([tail.size for _, tail, _, _ in tails], np.int64)
        work = np.zeros((len(tails), int(size.max(initial=0))), SLOT)
        given = np.zeros(work.shape, np.bool_)
        for row, (_, tail, mine, _) in enumerate(tails):
            work[row, : tail.size], given[row, : tail.size] = tail, mine
        place = np.array([int(self._places[tail["candle"]["symbol"][0]]) for _, tail, _, _ in tails], np.int64)
        first = np.array([number for number, _, _, _ in tails], np.int64)
        before = self._slots.take(self._at(place, first - 1))["state"]
        for k in range(work.shape[1]):
            live = size > k
            old = values(work["state"][live, k])
            after = step(before[live], work["candle"][live, k])
            new = values(after)
            given[live, k] |= ~((new == old) | (np.isnan(new) & np.isnan(old))).all(axis=1)
            work["state"][live, k] = before[live] = after
        for row, (number, tail, _, _) in enumerate(tails):
            self._write(int(place[row]), number, work[row, : tail.size])
        return _joined([work[given], *lost])

    def _merged(self, place: int, candles: Rows) -> tuple[int, Rows, Bool, Rows]:
        """Return what follows from the first late candle on: its number, SLOT rows, which are given; and lost ones."""
        count = int(self._count[place])
        kept = min(count, self._length)
        old = self._slots.take(self._at(place, np.arange(count - kept, count)))
        lost = np.zeros(0, SLOT)
        if count > kept:  # the state before the oldest is gone
            gone = candles["open_ns"] <= old["candle"]["open_ns"][0]
            lost = np.zeros(int(gone.sum()), SLOT)
            lost["candle"], candles = candles[gone], candles[~gone]
            self.late += lost.size
            if not candles.size:
                return count, np.zeros(0, SLOT), np.zeros(0, np.bool_), lost
        start = int(np.searchsorted(old["candle"]["open_ns"], candles["open_ns"][0]))
        fresh = np.zeros(candles.size, SLOT)
        fresh["candle"] = candles
        stays = old[start:][~np.isin(old["candle"]["open_ns"][start:], candles["open_ns"])]
        tail = _joined([stays, fresh])
        order = np.argsort(tail["candle"]["open_ns"], kind="stable")
        given = np.concatenate((np.zeros(stays.size, np.bool_), np.ones(fresh.size, np.bool_)))
        return count - kept + start, tail.take(order), given[order], lost

    def _write(self, place: int, number: int, tail: Rows) -> None:
        """Put back the candles of a symbol from its `number`-th on; they are its newest."""
        self._count[place] = number + tail.size
        self._newest_ns[place] = tail["candle"]["open_ns"][-1]
        kept = tail[-self._length :]
        numbers = np.arange(number + tail.size - kept.size, number + tail.size)
        self._slots[self._at(place, numbers)] = kept

    def forget(self, symbols: I64) -> None:
        """Free what is kept of some symbols."""
        places = self._places[symbols]
        self._count[places], self._newest_ns[places] = 0, NEVER
        self._slots[(places[:, None] * self._length + np.arange(self._length)).ravel()] = np.zeros(1, SLOT)

    def state(self) -> tuple[I64, I64, Rows, int]:
        """Return counts, newest open times, used slots and late ones."""
        return self._count, self._newest_ns, self._slots.take(self._used()), self.late

    def take_over(self, count: I64, newest_ns: I64, slots: Rows, late: int) -> None:
        """Take over what `state` returned."""
        self._count, self._newest_ns, self.late = count.copy(), newest_ns.copy(), late
        self._slots[:] = np.zeros(1, SLOT)
        self._slots[self._used()] = slots

    def _used(self) -> I64:
        return np.flatnonzero((np.arange(self._length) < self._count[:, None]).ravel())


def _joined(parts: Sequence[Rows]) -> Rows:
    """Return SLOT rows one after the other (numpy.concatenate is slow on structured arrays)."""
    return np.frombuffer(b"".join([part.tobytes() for part in parts]), SLOT)
