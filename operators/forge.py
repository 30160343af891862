"""The Candle Forge: hold every trade for a window W, then judge it on what the other venues showed.

One kernel serves one key group. Time is what the watermarks say; it has no clock. Ticks are released in quanta of
5 ms of receive time, so that verdicts, order and learned state are functions of the input alone, however it was
batched. `docs/forge.md` derives the rules; this file is their order of execution:

1. ticks wait until the watermark passes their quantum's end plus W (`operators/hold.py`);
2. each released trade is compared with the consensus of its symbol (`operators/consensus.py`): near it, or near where
   it was shortly before, it is **confirmed**; with too few other venues at hand it is **unverified**;
3. what is left is in doubt, and the other venues vote (`operators/jury.py`, `operators/votes.py`): **wick**,
   confirmed or unverified;
4. wicks are looked at again for a while (`operators/horizon.py`) and re-admitted if the others came to their price.
"""

from __future__ import annotations

import pickle
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import Final

import numpy as np

from market.records import CONFIRMED, HOT, UNVERIFIED, WICK, ForgedTicks, Wick
from market.schema import END_OF_INPUT, I64, TICK, Rows, join
from market.venues import VENUES
from operators.cell import Cell
from operators.consensus import FRESH_NS, GRID_NS, Consensus
from operators.evidence import Evidence
from operators.hold import QUANTUM_NS, Due, Hold
from operators.horizon import Back, Horizon
from operators.jury import Judged, Jury
from operators.newest import Newest
from operators.sequence import Slice

HOT_NS: Final = 50_000_000
"""Newest state is handed on at most this often."""
TOLD_NS: Final = 100_000_000
"""How far the forge came is told this often at least, even where nothing is released."""
NS_PER_MS: Final = 1_000_000
_BEFORE_ALL: Final = int(np.iinfo(np.int64).min // 2)
_VENUES: Final = len(VENUES)
_NO_TICKS: Final = np.zeros(0, TICK)
_NO_TIMES: Final = np.zeros(0, np.int64)
_NOTHING: Final = ForgedTicks(_NO_TICKS, _NO_TIMES, np.zeros(0, np.int8), np.zeros(0), np.zeros(0))
_NO_HOT: Final = np.zeros(0, HOT)


@dataclass(frozen=True, slots=True)
class ForgePolicy:
    """What the user chooses.

    Attributes:
        window_ms: W, 100 to 200.
        min_witnesses: Live venues that must not have followed before a trade is a wick.
        venues: Codes of the venues whose watermarks are waited for.
    """

    window_ms: int = 150
    min_witnesses: int = 1
    venues: tuple[int, ...] = tuple(range(len(VENUES)))


@dataclass(slots=True)
class Forged:
    """What one advance released.

    Attributes:
        released: Ticks with verdicts, in release order.
        readmitted: TICK rows, earlier wicks that are confirmed now.
        readmitted_release_ns: Release time of each, int64.
        wicks: New wicks, and re-admitted ones again with their time set.
        settled: Trades that were released as wicks, now or before, with the verdict that is final; for the archive.
        hot: HOT rows of the symbols touched.
        watermark_ns: All ticks with `release_ns` up to here have been released.
    """

    released: ForgedTicks
    readmitted: Rows
    readmitted_release_ns: I64
    wicks: list[Wick]
    settled: ForgedTicks
    hot: Rows
    watermark_ns: int


@dataclass(slots=True)
class _State:
    watermarks: list[int]
    hold: Hold
    consensus: Consensus
    evidence: Evidence
    horizon: Horizon
    jury: Jury
    advanced_ns: int = _BEFORE_ALL
    passed_ns: int = _BEFORE_ALL  # boundary of the grid that was passed last
    open_ns: int | None = None  # boundary that closes the cell being filled
    cell: list[Cell] = field(default_factory=list)
    hot_ns: int = _BEFORE_ALL
    told_ns: int = _BEFORE_ALL  # how far downstream knows


class ForgeKernel:
    """Forge of one key group.

    Memory: the ticks of the last W; a fixed number of values a symbol and venue; at most `horizon.MOST` wicks.
    """

    def __init__(self, symbols: I64, policy: ForgePolicy) -> None:
        """Build for the symbol codes of a key group, ascending int64."""
        self._policy = policy
        self._window_ns = policy.window_ms * NS_PER_MS
        self._symbols = symbols
        local = np.full(int(symbols[-1]) + 1 if symbols.size else 0, -1, np.int64)
        local[symbols] = np.arange(symbols.size)
        self._local = local
        watermarks = [_BEFORE_ALL if venue in policy.venues else END_OF_INPUT for venue in range(_VENUES)]
        consensus, evidence = Consensus(symbols.size, policy.min_witnesses), Evidence(symbols.size)
        horizon = Horizon()
        jury = Jury(consensus, evidence, horizon, self._window_ns, policy.min_witnesses)
        self._state = _State(watermarks, Hold(local, symbols.size), consensus, evidence, horizon, jury)
        self._newest = Newest(symbols)

    def add(self, slices: Sequence[Slice]) -> Forged | None:
        """Take ticks and watermarks; return what they released, None if the watermark did not reach a new quantum."""
        state = self._state
        state.hold.add(slices)
        for part in slices:
            known = state.watermarks[part.venue]
            resumed = known == END_OF_INPUT  # it had ended before a restart
            state.watermarks[part.venue] = part.watermark_ns if resumed else max(known, part.watermark_ns)
        watermark = int(min(state.watermarks))
        if watermark != END_OF_INPUT:
            watermark = watermark // QUANTUM_NS * QUANTUM_NS
        if watermark <= state.advanced_ns:
            return None
        state.advanced_ns = watermark
        return self._advance(watermark)

    def _advance(self, watermark_ns: int) -> Forged | None:
        state = self._state
        state.hold.take_in(watermark_ns)
        cut_ns = watermark_ns if watermark_ns == END_OF_INPUT else watermark_ns - self._window_ns
        due = state.hold.due(cut_ns)
        wicks: list[Wick] = []
        back: list[Back] = []
        released = _NOTHING
        if due is not None:
            judged = self._judge_all(due, wicks, back)
            self._newest.add(judged)
            released = ForgedTicks(
                due.ticks, due.quantum_ns + self._window_ns, judged.verdict, judged.reference, judged.deviation * 1e4
            )
        self._pass(cut_ns // GRID_NS * GRID_NS, back)
        hot = self._hot(cut_ns)
        settled = self._settled()
        if due is None and not (back or settled.ticks.size or hot.size) and cut_ns < state.told_ns + TOLD_NS:
            return None
        state.told_ns = cut_ns
        readmitted = join([one.tick for one in back]) if back else _NO_TICKS
        moments = np.array([one.wick.readmitted_ns for one in back], np.int64)
        return Forged(released, readmitted, moments, wicks + [one.wick for one in back], settled, hot, watermark_ns)

    def _judge_all(self, due: Due, wicks: list[Wick], back: list[Back]) -> Judged:
        state = self._state
        size = due.place.size
        judged = Judged(due, np.full(size, -1, np.int8), np.full(size, np.nan), np.full(size, np.nan))
        trade = (due.rank & 1) == 0
        for start, stop, boundary_ns in _grid_cells(due.quantum_ns):
            self._pass(boundary_ns - GRID_NS, back)
            state.open_ns = boundary_ns
            trades = trade[start:stop].nonzero()[0]
            trades += start
            if trades.size:
                self._judge(judged, trades, wicks)
            self._learn_from(judged, slice(start, stop))
        return judged

    def _learn_from(self, judged: Judged, cut: slice) -> None:
        """Keep released ticks of the open cell for the consensus; wicks teach nothing."""
        due = judged.due
        value = due.value[cut]
        wick = judged.verdict[cut] == WICK
        if wick.any():
            value = np.where(wick, np.inf, value)
        self._state.cell.append(Cell(due.place[cut], value, due.half[cut], due.receive_ns[cut], due.event_ns[cut]))

    def _pass(self, boundary_ns: int, back: list[Back]) -> None:
        """Pass all boundaries of the grid up to one: close the open cell, look at pending wicks again."""
        state = self._state
        while state.open_ns is not None or state.horizon:
            next_ns = state.passed_ns + GRID_NS
            if not state.horizon and state.open_ns is not None:
                next_ns = state.open_ns
            if next_ns > boundary_ns:
                return
            self._see(next_ns + self._window_ns)
            if state.open_ns == next_ns:
                state.consensus.close(next_ns, Cell.joined(state.cell))
                state.cell, state.open_ns = [], None
            state.passed_ns = next_ns
            if state.horizon:
                back += state.horizon.look(
                    next_ns, self._window_ns, self._policy.min_witnesses, state.evidence, state.consensus
                )
        state.passed_ns = max(state.passed_ns, boundary_ns)

    def _see(self, until_ns: int) -> None:
        """Make evidence of what was received up to a time."""
        state = self._state
        for seen in state.hold.see(until_ns):
            state.evidence.add(seen)
        if until_ns != END_OF_INPUT:
            state.evidence.advance(until_ns)

    def _judge(self, judged: Judged, trades: I64, wicks: list[Wick]) -> None:
        """Fill in verdict, reference and deviation of trades, rows of one cell of the grid."""
        due, consensus = judged.due, self._state.consensus
        place = due.place.take(trades)
        centre = consensus.centre.T.take(place)
        deviation = due.value.take(trades) - centre
        judged.reference[trades] = np.exp(centre)
        judged.deviation[trades] = deviation
        judged.verdict[trades] = CONFIRMED
        doubtful = np.abs(deviation) > consensus.edge.T.take(place)
        alone = consensus.witnessed_ns.T.take(place) < due.receive_ns.take(trades) - FRESH_NS
        if alone.any():
            judged.verdict[trades[alone]] = UNVERIFIED
            doubtful &= ~alone
        if not doubtful.any():
            return
        rows = trades[doubtful.nonzero()[0]]
        quantum_ns = due.quantum_ns[rows]
        start = 0
        for stop in (*(np.flatnonzero(np.diff(quantum_ns)) + 1).tolist(), rows.size):
            self._see(int(quantum_ns[start]) + self._window_ns)
            wicks += self._state.jury.judge(judged, rows[start:stop])
            start = stop

    def _settled(self) -> ForgedTicks:
        """Return the trades that were wicks at first and whose verdict is final now."""
        settled = self._state.horizon.take_settled()
        if not settled:
            return _NOTHING
        return ForgedTicks(
            join([one.tick for one in settled]),
            np.array([one.released_ns for one in settled], np.int64) + self._window_ns,
            np.array([CONFIRMED if one.wick.readmitted_ns else WICK for one in settled], np.int8),
            np.array([one.wick.reference for one in settled]),
            np.array([one.wick.deviation_bps for one in settled]),
        )

    def _hot(self, cut_ns: int) -> Rows:
        """Return the newest state of the symbols touched since the last time, HOT_NS ago or more; else nothing."""
        state = self._state
        if not self._newest or cut_ns < state.hot_ns + HOT_NS:
            return _NO_HOT
        state.hot_ns = cut_ns
        return self._newest.rows(state.consensus)

    def snapshot(self) -> bytes:
        """Return the whole state as bytes."""
        return pickle.dumps((self._state, self._newest), protocol=5)

    def restore(self, state: bytes) -> None:
        """Take over what `snapshot` returned."""
        self._state, self._newest = pickle.loads(state)
        self._state.hold.local = self._local

    def forget(self, codes: I64) -> None:
        """Forget what was learned of some symbols of the group, by code; their held ticks are still released."""
        self._see(self._state.advanced_ns)
        symbols = self._local[codes]
        state = self._state
        state.cell = [cell.without(symbols, self._symbols.size) for cell in state.cell]
        for part in (state.consensus, state.evidence, state.horizon, state.jury, self._newest):
            part.forget(symbols)


def _grid_cells(quantum_ns: I64) -> Iterator[tuple[int, int, int]]:
    """Cut released rows where the consensus grid does: start, stop, and the boundary that closes the cell."""
    first, last = -(-int(quantum_ns[0]) // GRID_NS) * GRID_NS, -(-int(quantum_ns[-1]) // GRID_NS) * GRID_NS
    if first == last:  # released in the order of quanta
        yield 0, quantum_ns.size, first
        return
    grid = -(-quantum_ns // GRID_NS) * GRID_NS
    start = 0
    for stop in (*(np.flatnonzero(np.diff(grid)) + 1).tolist(), grid.size):
        yield start, stop, int(grid[start])
        start = stop
