"""Candles of one key group: trades in, closed and amended candles out.

`CandleKernel` holds no clock and does no I/O. Time is the watermark: it moves the **candle clock**, the watermark
less `hold_ns`, from one whole second to the next, and only there are trades folded and candles emitted. What is
emitted is so a function of the trades and their release times alone, however they were split into calls.

`docs/candles.md` states the rules: lateness, quiet intervals, amendments.
"""

from __future__ import annotations

import pickle
from collections.abc import Iterator, Sequence
from typing import Final

import numpy as np

from market.records import CANDLE, WICK
from market.schema import BUY, END_OF_INPUT, I64, TICK, Bool, Rows
from operators.candle_slots import NEVER, UNUSED, by_id, candles_of, take_ends

NS_PER_S: Final = 1_000_000_000
QUIET_FROM_S: Final = 60
"""Intervals at least this long have flat candles where nothing traded."""
QUIET_NS: Final = 86_400 * NS_PER_S
"""Flat candles go on for this long after the symbol's last trade."""
VENUE_BITS: Final = 5

_NONE: Final = np.zeros(0, CANDLE)


def amendable(interval_s: int) -> int:
    """Return how many of the newest closed candles of an interval late trades may still amend.

    A minute's worth below 1m, five at 1m, two above.
    """
    if interval_s < QUIET_FROM_S:
        return max(2, 60 // interval_s)
    return 5 if interval_s == QUIET_FROM_S else 2


class CandleKernel:
    """Candles of one key group, all intervals.

    Memory: `slots`, per symbol and interval `amendable(interval)` closed candles and a few forming ones, 182 bytes
    each; and the trades released since the last whole second.

    Attributes:
        clock_ns: Every candle that ends at or before this time has been emitted; `NEVER` before the first watermark.
        late: Per interval, trades that came too late to be applied, int64, in the order of `intervals_s`.
    """

    def __init__(self, symbols: I64, intervals_s: Sequence[int], *, hold_ns: int) -> None:
        """Build without trades.

        Args:
            symbols: Codes of this key group, ascending int64.
            intervals_s: Candle lengths in seconds; each divides a day or is a multiple of one.
            hold_ns: How far the candle clock stays behind the watermark: what a trade usually takes from its event
                time to its release (the forge's window and the usual spread of delays), so that candles close whole.
        """
        self._symbols = symbols
        self._places = np.full(int(symbols[-1]) + 1 if symbols.size else 0, -1, np.int64)
        self._places[symbols] = np.arange(symbols.size)
        self._hold_ns = hold_ns
        self._interval_ns = np.array(sorted(set(intervals_s)), np.int64) * NS_PER_S
        self._atom_ns = int(np.gcd.reduce(self._interval_ns))
        self._amendable = np.array([amendable(int(ns // NS_PER_S)) for ns in self._interval_ns], np.int64)
        # Beside the amendable ones those that trades of one boundary can be in: events reach up to the hold past it.
        forming = (self._interval_ns - NS_PER_S + hold_ns) // self._interval_ns + 1
        self._ring = self._amendable + forming
        self._base = np.concatenate(([0], np.cumsum(self._ring * symbols.size))).astype(np.int64)
        self._interval_of = np.repeat(np.arange(self._ring.size), self._ring * symbols.size)
        self._symbol_of = np.concatenate([np.repeat(np.arange(symbols.size), ring) for ring in self._ring])
        self._ns_of = self._interval_ns[self._interval_of]
        self._may_be_flat = self._ns_of >= QUIET_FROM_S * NS_PER_S
        self._quiet = np.flatnonzero(self._interval_ns >= QUIET_FROM_S * NS_PER_S)
        self._event_bits = self._bits_of_events()
        self._slots: Rows = np.repeat(UNUSED, self._base[-1])
        self._changed: Bool = np.zeros(self._slots.size, np.bool_)
        self._pending: list[tuple[Rows, I64, I64, Bool]] = []
        self._watermark_ns = NEVER
        self._boundary_ns = NEVER  # watermark at the last boundary done
        self._due_ns = END_OF_INPUT  # next boundary at which a candle may be due without new trades
        self._next_ns = END_OF_INPUT  # next boundary with anything to do
        self._newest_trade_ns = NEVER
        self.late: I64 = np.zeros(self._ring.size, np.int64)

    def _bits_of_events(self) -> int:
        """Return how many bits hold an event time counted from the oldest that can be applied."""
        span = int(((self._amendable + 1) * self._interval_ns).max()) + self._hold_ns
        bits = span.bit_length()
        if bits + VENUE_BITS + int(self._symbols.size).bit_length() > 63:
            message = f"{self._symbols.size} symbols of intervals up to {self._interval_ns[-1] // NS_PER_S} s: too many"
            raise ValueError(message)
        return bits

    @property
    def watermark_ns(self) -> int:
        """Return the last watermark, `NEVER` before the first."""
        return self._watermark_ns

    @property
    def clock_ns(self) -> int:
        """Return the candle clock, a whole second."""
        if self._watermark_ns in (NEVER, END_OF_INPUT):
            return self._watermark_ns
        return (self._watermark_ns - self._hold_ns) // NS_PER_S * NS_PER_S

    def add(self, ticks: Rows, verdict: I64, readmitted: Bool, release_ns: I64, watermark_ns: int) -> Rows:
        """Take released trades and return the candles that are due, closed or amended.

        Args:
            ticks: n TICK rows, trades only; kept until the next whole second, so not to be changed.
            verdict: n integers, index into VERDICTS.
            readmitted: n booleans, true for a trade given before as a wick and now confirmed.
            release_ns: n int64, each after the watermark of the call before and not after `watermark_ns`.
            watermark_ns: Every trade released up to here has been given; `END_OF_INPUT` ends the last candles.

        Returns:
            CANDLE rows by `as_of_ns`, interval, open time, symbol.

        Raises:
            ValueError: A promise on release times, watermark or symbols was broken.
        """
        if release_ns.size:
            low, high = int(release_ns.min()), int(release_ns.max())
            if low <= self._watermark_ns or high > watermark_ns:
                message = (
                    f"release {low}..{high} ns is outside ({self._watermark_ns}, {watermark_ns}] of the watermarks"
                )
                raise ValueError(message)
            self._pending.append((ticks, verdict, release_ns, readmitted))
            self._next_ns = min(self._next_ns, self._boundary_of(low))
        if watermark_ns < self._watermark_ns:
            message = f"watermark {watermark_ns} ns is behind the last one, {self._watermark_ns} ns"
            raise ValueError(message)
        self._watermark_ns = watermark_ns
        if watermark_ns < self._next_ns:
            return _NONE
        emitted = list(self._advance(watermark_ns))
        return np.concatenate(emitted) if emitted else _NONE

    def _boundary_of(self, release_ns: int) -> int:
        """Return the watermark of the boundary at which a trade is folded."""
        return -((self._hold_ns - release_ns) // NS_PER_S) * NS_PER_S + self._hold_ns

    def _advance(self, watermark_ns: int) -> Iterator[Rows]:
        """Go from boundary to boundary, skipping those where nothing can happen."""
        ticks, verdict, release, readmitted = self._take_pending()
        done = 0
        # The end of input is no point in time: go as far as the trades do, then end what is open.
        last_ns = watermark_ns
        if watermark_ns == END_OF_INPUT:
            last_ns = self._boundary_of(int(release[-1])) if release.size else self._boundary_ns
        while True:
            rows_ns = self._boundary_of(int(release[done])) if done < release.size else END_OF_INPUT
            boundary_ns = min(rows_ns, self._due_ns)
            if boundary_ns > last_ns:
                break
            stop = int(np.searchsorted(release, boundary_ns, side="right"))
            clock_ns = boundary_ns - self._hold_ns
            if stop > done:
                self._fold(ticks[done:stop], verdict[done:stop] == WICK, readmitted[done:stop], clock_ns)
            done = stop
            self._carry_closes(clock_ns)
            yield self._emit(clock_ns)
            self._boundary_ns = boundary_ns
            self._due_ns = self._next_due(clock_ns)
        if done < release.size:
            self._pending = [(ticks[done:], verdict[done:], release[done:], readmitted[done:])]
        self._next_ns = boundary_ns
        if watermark_ns == END_OF_INPUT:
            yield self._emit(END_OF_INPUT)
            self._due_ns = self._next_ns = END_OF_INPUT

    def _take_pending(self) -> tuple[Rows, I64, I64, Bool]:
        """Return what waits for a boundary, by release time."""
        if not self._pending:
            return np.zeros(0, TICK), np.zeros(0, np.int8), np.zeros(0, np.int64), np.zeros(0, np.bool_)
        batches, *columns = zip(*self._pending, strict=True)
        # numpy.concatenate compares the fields of structured arrays pair by pair: 100 times slower.
        ticks = np.frombuffer(b"".join([batch.tobytes() for batch in batches]), TICK)
        verdict, release, readmitted = (np.concatenate(column) for column in columns)
        self._pending = []
        if np.any(release[1:] < release[:-1]):
            order = np.argsort(release, kind="stable")
            return ticks.take(order), verdict[order], release[order], readmitted[order]
        return ticks, verdict, release, readmitted

    def _next_due(self, clock_ns: int) -> int:
        """Return the watermark at which the next forming or flat candle ends."""
        forming = np.flatnonzero(self._changed)
        ends = [int((self._slots["open_ns"][forming] + self._ns_of[forming]).min())] if forming.size else []
        if self._quiet.size and self._newest_trade_ns > NEVER:
            opens = clock_ns // self._interval_ns[self._quiet] * self._interval_ns[self._quiet]
            flat = opens < self._newest_trade_ns + QUIET_NS
            ends += (opens + self._interval_ns[self._quiet])[flat].tolist()
        return min(ends) + self._hold_ns if ends else END_OF_INPUT

    def _fold(self, ticks: Rows, wick: Bool, readmitted: Bool, clock_ns: int) -> None:
        """Add the trades of one boundary to their slots."""
        places = self._places_of(ticks["symbol"])
        oldest = (clock_ns // self._interval_ns - self._amendable) * self._interval_ns
        if wick.any():
            flagged = wick | readmitted
            self._count_wicks(ticks["event_ns"][flagged], places[flagged], np.where(readmitted[flagged], -1, 1), oldest)
            counted = ~wick | readmitted
            ticks, places = ticks[counted], places[counted]
        elif readmitted.any():
            self._count_wicks(ticks["event_ns"][readmitted], places[readmitted], np.array(-1), oldest)
        in_time = ticks["event_ns"] >= oldest.min()
        if not in_time.all():
            self.late += np.count_nonzero(~in_time)
            ticks, places = ticks[in_time], places[in_time]
        if ticks.size:
            self._merge(*self._sorted(ticks, places, int(oldest.min())), oldest)

    def _places_of(self, codes: I64) -> I64:
        if codes.min() >= 0 and codes.max() < self._places.size:
            places = self._places[codes]
            if places.min() >= 0:
                return places
        message = f"trades of a symbol that is not in this key group: codes {np.unique(codes).tolist()}"
        raise ValueError(message)

    def _sorted(self, ticks: Rows, places: I64, oldest_ns: int) -> tuple[Rows, I64]:
        """Return trades and places by place, event time, venue, trade id: the one order sums are made in."""
        event = ticks["event_ns"] - oldest_ns
        if int(event.max()) >> self._event_bits:
            message = f"a trade is dated after its release: event {int(ticks['event_ns'].max())} ns"
            raise ValueError(message)
        key = (((places << self._event_bits) | event) << VENUE_BITS) | ticks["venue"]
        order = np.argsort(key, kind="stable")
        key = key[order]
        tied = np.flatnonzero(key[1:] == key[:-1])
        if tied.size:
            ids = ticks["trade_id"][order]
            if not by_id(ids[tied], ids[tied + 1]):
                order = order[np.lexsort((ids, np.strings.str_len(ids), key))]
        return ticks.take(order), places[order]

    def _merge(self, ticks: Rows, places: I64, oldest: I64) -> None:
        """Reduce sorted trades to atoms (the common measure of all intervals), those to candles, and add them.

        Args:
            ticks: n TICK rows as `_sorted` returns them.
            places: n int64.
            oldest: Per interval, the oldest open time that may still change.
        """
        event = ticks["event_ns"]
        atom = event // self._atom_ns
        starts = _starts((places[1:] != places[:-1]) | (atom[1:] != atom[:-1]))
        ends = np.append(starts[1:], ticks.size) - 1
        price, size = ticks["price"], ticks["size"]
        sums = np.add.reduceat(
            np.stack((size, price * size, np.where(ticks["side"] == BUY, size, 0.0))), starts, axis=1
        )
        high, low = np.maximum.reduceat(price, starts), np.minimum.reduceat(price, starts)
        venues = np.bitwise_or.reduceat(np.uint32(1) << ticks["venue"].astype(np.uint32), starts)

        # The same atoms once an interval, one after the other; `of` is the atom of each.
        count, intervals = starts.size, self._interval_ns.size
        width = self._interval_ns[:, None]
        opens = (event[starts] // width * width).ravel()
        of = np.tile(np.arange(count), intervals)
        place = places[starts][of]
        new = (place[1:] != place[:-1]) | (opens[1:] != opens[:-1])
        new[count - 1 :: count] = True
        heads = _starts(new)
        tails = np.append(heads[1:], of.size) - 1
        trades = np.add.reduceat((ends - starts + 1)[of], heads)
        interval = heads // count
        in_time = opens[heads] >= oldest[interval]
        cut = heads if in_time.all() else heads[in_time]
        if cut is not heads:
            np.add.at(self.late, interval[~in_time], trades[~in_time])

        at = self._claim(interval, place[heads], opens[heads], in_time)
        slots = self._slots.take(at)
        slots["high"] = np.maximum(slots["high"], np.maximum.reduceat(high[of], heads)[in_time])
        slots["low"] = np.minimum(slots["low"], np.minimum.reduceat(low[of], heads)[in_time])
        for column, values in zip(("volume", "quote_volume", "buy_volume"), sums, strict=True):
            slots[column] += np.add.reduceat(values[of], heads)[in_time]
        slots["trades"] += trades[in_time]
        slots["venues"] |= np.bitwise_or.reduceat(venues[of], heads)[in_time]
        take_ends(slots, ticks, starts[of[cut]], ends[of[tails[in_time]]])
        self._slots[at] = slots
        self._changed[at] = True
        self._newest_trade_ns = max(self._newest_trade_ns, int(event.max()))

    def _claim(self, interval: I64, place: I64, opens: I64, keep: Bool) -> I64:
        """Return the slots of these candles where `keep`, emptied if they held an older one."""
        interval, place, opens = interval[keep], place[keep], opens[keep]
        ring = self._ring[interval]
        at = self._base[interval] + place * ring + opens // self._interval_ns[interval] % ring
        stale = self._slots["open_ns"][at] != opens
        if stale.any():
            self._slots[at[stale]] = UNUSED
            self._slots["open_ns"][at] = opens
        return np.asarray(at)

    def _count_wicks(self, event: I64, places: I64, change: I64, oldest: I64) -> None:
        """Add to (or take from) the wick count of the candles around these trades."""
        for interval, width in enumerate(self._interval_ns.tolist()):
            opens = event // width * width
            in_time = opens >= oldest[interval]
            at = self._claim(np.full(event.size, interval), places, opens, in_time)
            np.add.at(self._slots["wicks"], at, np.broadcast_to(change, event.shape)[in_time])
            self._changed[at] = True

    def _carry_closes(self, clock_ns: int) -> None:
        """Make or revise the flat candles that are closed at this time."""
        changed = np.flatnonzero(self._changed)
        changed = changed[self._slots["open_ns"][changed] + 2 * self._ns_of[changed] <= clock_ns]
        amended = set(self._interval_of[changed].tolist())
        for interval in self._quiet.tolist():
            width = int(self._interval_ns[interval])
            if interval in amended:
                steps = int(self._amendable[interval])
            elif clock_ns % width == 0:
                steps = 1
            else:
                continue
            newest = clock_ns // width * width - width
            for open_ns in range(newest - (steps - 1) * width, newest + 1, width):
                self._carry_into(interval, open_ns)

    def _carry_into(self, interval: int, open_ns: int) -> None:
        """Let the candle before decide the price of those that had no trade."""
        width, ring = int(self._interval_ns[interval]), int(self._ring[interval])
        symbol = self._base[interval] + np.arange(self._symbols.size) * ring
        at, before = symbol + open_ns // width % ring, symbol + (open_ns // width - 1) % ring
        open_at, last_ns, close = (self._slots[name] for name in ("open_ns", "last_ns", "close"))
        flat = (open_at[before] == open_ns - width) & (last_ns[before] > open_ns - QUIET_NS)
        flat &= (open_at[at] != open_ns) | (self._slots["trades"][at] == 0)
        if not flat.any():
            return
        at, before = at[flat], before[flat]
        missing = at[open_at[at] != open_ns]
        self._slots[missing] = UNUSED
        open_at[missing] = open_ns
        self._changed[at] |= (close[at] != close[before]) | (last_ns[at] == NEVER)
        close[at], last_ns[at] = close[before], last_ns[before]

    def forget(self, symbols: Sequence[int]) -> Rows:
        """Free the slots of symbols that nothing more comes of, as if they had never traded.

        Args:
            symbols: Codes; all their trades have been released, and a whole second and the hold have passed since.

        Returns:
            Their forming candles as they are: CANDLE rows as of their ends, in the order of `add`.
        """
        places = self._places_of(np.array(symbols, np.int64))
        spans = [
            self._base[interval] + place * ring + np.arange(ring)
            for interval, ring in enumerate(self._ring.tolist())
            for place in places.tolist()
        ]
        at = np.concatenate(spans)
        rows = self._emit(END_OF_INPUT, at[self._changed[at]])
        self._slots[at] = UNUSED
        return rows

    def _emit(self, clock_ns: int, changed: I64 | None = None) -> Rows:
        """Return changed candles, all or some, that have ended, and count their revision up."""
        changed = np.flatnonzero(self._changed) if changed is None else changed
        end_ns = self._slots["open_ns"][changed] + self._ns_of[changed]
        at, end_ns = changed[end_ns <= clock_ns], end_ns[end_ns <= clock_ns]
        self._changed[at] = False
        slots = self._slots.take(at)
        # A candle without trades shows only if it is flat: a price was carried into it.
        shown = (slots["trades"] > 0) | (self._may_be_flat[at] & (slots["last_ns"] > NEVER))
        if not shown.all():
            at, end_ns, slots = at[shown], end_ns[shown], slots[shown]
        self._slots["revision"][at] += 1
        rows = candles_of(slots)
        rows["symbol"] = self._symbols[self._symbol_of[at]]
        rows["interval_s"] = self._ns_of[at] // NS_PER_S
        rows["as_of_ns"] = end_ns if clock_ns == END_OF_INPUT else clock_ns
        return rows[np.lexsort((rows["symbol"], rows["open_ns"], rows["interval_s"], rows["as_of_ns"]))]

    def snapshot(self) -> bytes:
        """Return the state as bytes: the slots that still matter, and what waits for a boundary."""
        live = self._slots["open_ns"] >= 0
        if self._boundary_ns > NEVER:
            oldest = self._boundary_ns - self._hold_ns - (self._amendable + 1) * self._interval_ns
            live &= self._slots["open_ns"] > oldest[self._interval_of]
        at = np.flatnonzero(live)
        state = (self._shape(), at, self._slots.take(at), self._changed[at], self._take_pending(), self.late)
        times = (self._watermark_ns, self._boundary_ns, self._due_ns, self._next_ns, self._newest_trade_ns)
        self._pending = [state[4]] if state[4][0].size else []
        return pickle.dumps((*state, times), protocol=5)

    def restore(self, snapshot: bytes) -> None:
        """Take over what `snapshot` returned.

        Raises:
            ValueError: It is of other symbols, intervals or another hold.
        """
        shape, at, slots, changed, pending, late, times = pickle.loads(snapshot)
        if shape != self._shape():
            message = f"the snapshot is of (symbols, intervals, hold) {shape}, not {self._shape()}"
            raise ValueError(message)
        self._slots[:] = UNUSED
        self._changed[:] = False
        self._slots[at], self._changed[at] = slots, changed
        self._pending = [pending] if pending[0].size else []
        self.late = late
        self._watermark_ns, self._boundary_ns, self._due_ns, self._next_ns, self._newest_trade_ns = times

    def _shape(self) -> tuple[list[int], list[int], int]:
        return self._symbols.tolist(), (self._interval_ns // NS_PER_S).tolist(), self._hold_ns


def _starts(new: Bool) -> I64:
    """Return where runs start, given for each element but the first whether it starts one."""
    return np.flatnonzero(np.concatenate(([True], new)))
