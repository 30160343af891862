"""The Candle Forge: hold every trade for a window W, then judge it on what the other venues showed.

One kernel serves one key group. Time is what the watermarks say; it has no clock. Ticks are released in quanta of
10 ms of receive time, so that verdicts, order and learned state are functions of the input alone, however it was
batched. `docs/forge.md` derives the rules; this file is their order of execution:

1. ticks wait until the watermark passes their quantum's end plus W;
2. each released trade is compared with the consensus of its symbol (`operators/consensus.py`): near it, or near where
   it was shortly before, it is **confirmed**; with no other venue at hand it is **unverified**;
3. what is left is a suspect, and the other venues' ticks around it vote (`operators/evidence.py`): **wick**,
   confirmed or unverified;
4. wicks are looked at again for a while (the late horizon) and re-admitted if the others came to their price after all.
"""

from __future__ import annotations

import pickle
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace
from typing import Final

import numpy as np

from market.records import CONFIRMED, HOT, UNVERIFIED, WICK, ForgedTicks, Wick
from market.schema import END_OF_INPUT, F64, I8, I64, QUOTE, TICK, TRADE, Rows, join
from market.venues import VENUES
from operators.book import Book
from operators.consensus import GRID_NS, Consensus
from operators.evidence import BACK_NS, HORIZON_NS, Evidence, Suspect, Vote
from operators.sequence import Slice

QUANTUM_NS: Final = 10_000_000
LATE_NS: Final = 2_000_000_000
"""The late horizon: how long after a wick other venues may still confirm it."""
PENDING_WICKS: Final = 4_096
"""Wicks under re-examination in a key group; beyond it the oldest stay wicks."""
HOT_NS: Final = 20_000_000
"""Newest state is handed on at most this often."""
NS_PER_MS: Final = 1_000_000
_BEFORE_ALL: Final = np.iinfo(np.int64).min // 2
_NO_TICKS: Final = np.zeros(0, TICK)
_NO_TIMES: Final = np.zeros(0, np.int64)
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
        hot: HOT rows of the symbols touched.
        watermark_ns: All ticks with `release_ns` up to here have been released.
    """

    released: ForgedTicks
    readmitted: Rows
    readmitted_release_ns: I64
    wicks: list[Wick]
    hot: Rows
    watermark_ns: int


@dataclass(slots=True)
class _Pending:
    """A wick under re-examination, until `due_ns` (a boundary of the grid)."""

    wick: Wick
    tick: Rows  # one TICK row
    symbol: int  # local index
    suspect: Suspect
    due_ns: int
    proven: bool  # enough venues were heard after it


@dataclass(slots=True)
class _State:
    watermarks: I64
    advanced_ns: int
    held: list[Rows] = field(default_factory=list)  # sorted by receive time, one after the other
    incoming: list[tuple[int, Rows]] = field(default_factory=list)
    pending: list[_Pending] = field(default_factory=list)
    open_grid_ns: int | None = None  # boundary that closes the consensus' open cell
    fresh: list[tuple[Rows, I64, I8]] = field(default_factory=list)  # released since the last newest state
    hot_ns: int = _BEFORE_ALL
    told_ns: int = _BEFORE_ALL  # how far downstream knows


class ForgeKernel:
    """Forge of one key group.

    Memory: the ticks of the last W and, as evidence, of the last `evidence.HORIZON_NS`; a few numbers a symbol and
    venue; at most PENDING_WICKS wicks.
    """

    def __init__(self, symbols: I64, policy: ForgePolicy) -> None:
        """Build for the symbol codes of a key group, ascending int64."""
        self._policy = policy
        self._window_ns = policy.window_ms * NS_PER_MS
        self._symbols = symbols
        size = int(symbols[-1]) + 1 if symbols.size else 0
        self._local = np.full(size, -1, np.int64)
        self._local[symbols] = np.arange(symbols.size)
        watermarks = np.full(len(VENUES), END_OF_INPUT, np.int64)
        watermarks[list(policy.venues)] = np.iinfo(np.int64).min
        self._state = _State(watermarks, advanced_ns=np.iinfo(np.int64).min)
        self._consensus = Consensus(symbols.size)
        self._evidence = Evidence()
        self._book = Book(symbols.size)
        self._hot = np.zeros(symbols.size, HOT)
        self._hot["symbol"] = symbols
        self._hot["verdict"] = self._hot["bid_venue"] = self._hot["ask_venue"] = -1
        for column in ("price", "size", "bid", "ask", "reference", "spread_bps"):
            self._hot[column] = np.nan

    def add(self, slices: Sequence[Slice]) -> Forged | None:
        """Take ticks and watermarks; return what they released, None if the watermark did not reach a new quantum."""
        state = self._state
        for part in slices:
            if part.ticks.size:
                state.incoming.append((part.venue, part.ticks))
            known = state.watermarks[part.venue]
            resumed = known == END_OF_INPUT  # it had ended before a restart
            state.watermarks[part.venue] = part.watermark_ns if resumed else max(known, part.watermark_ns)
        watermark = int(state.watermarks.min())
        if watermark != END_OF_INPUT:
            watermark = watermark // QUANTUM_NS * QUANTUM_NS
        if watermark <= state.advanced_ns:
            return None
        state.advanced_ns = watermark
        return self._advance(watermark)

    def _advance(self, watermark_ns: int) -> Forged | None:
        self._take_in(watermark_ns)
        due, quantum = self._due(watermark_ns)
        cut_ns = watermark_ns if watermark_ns == END_OF_INPUT else watermark_ns - self._window_ns
        local = self._local[due["symbol"]]
        verdict = np.full(due.size, -1, np.int8)
        reference = np.full(due.size, np.nan)
        deviation = np.full(due.size, np.nan)
        wicks: list[Wick] = []
        readmitted: list[_Pending] = []
        state = self._state

        def admit(back: list[_Pending]) -> None:
            readmitted.extend(back)
            wicks.extend(pending.wick for pending in back)

        for part, boundary in _grid_cells(quantum):
            if state.open_grid_ns not in (None, boundary):
                admit(self._close_grid())
            admit(self._let_go(boundary - GRID_NS))
            self._judge(due[part], local[part], quantum[part], verdict[part], reference[part], deviation[part], wicks)
            self._consensus.observe(due[part], local[part], verdict[part])
            state.open_grid_ns = boundary
        if state.open_grid_ns is not None and state.open_grid_ns <= cut_ns:
            admit(self._close_grid())
        admit(self._let_go(cut_ns))
        self._evidence.forget(cut_ns)
        if due.size:
            state.fresh.append((due, local, verdict))
        hot = self._newest(cut_ns)
        if not (due.size or readmitted or hot.size) and cut_ns < state.told_ns + GRID_NS:
            return None
        state.told_ns = cut_ns
        back = join([p.tick for p in readmitted]) if readmitted else _NO_TICKS
        moments = np.array([p.wick.readmitted_ns for p in readmitted], np.int64)
        released = ForgedTicks(due, quantum + self._window_ns, verdict, reference, deviation)
        return Forged(released, back, moments, wicks, hot, watermark_ns)

    def _take_in(self, watermark_ns: int) -> None:
        """Move what was received up to the watermark into `held` and the evidence, in canonical receive order."""
        state = self._state
        if not state.incoming:
            return
        state.incoming.sort(key=lambda part: part[0])  # venue code; a venue's own order stays
        rows = join([ticks for _, ticks in state.incoming])
        if len(state.incoming) > 1:
            rows = rows.take(np.argsort(rows["receive_ns"], kind="stable"))
        cut = int(np.searchsorted(rows["receive_ns"], watermark_ns, side="right"))
        later = rows[cut:]
        venue = later["venue"]
        state.incoming = [(code, later.take(np.flatnonzero(venue == code))) for code in set(venue.tolist())]
        if cut:
            state.held.append(rows[:cut])
            self._evidence.add(rows[:cut])

    def _due(self, watermark_ns: int) -> tuple[Rows, I64]:
        """Take the ticks whose quantum's end plus W has passed, in release order, with their quantum's end."""
        state = self._state
        cut_ns = watermark_ns if watermark_ns == END_OF_INPUT else watermark_ns - self._window_ns
        ready: list[Rows] = []
        while state.held:
            first = state.held[0]
            cut = int(np.searchsorted(first["receive_ns"], cut_ns, side="right"))
            if cut:
                ready.append(first[:cut])
            if cut < first.size:
                state.held[0] = first[cut:]
                break
            state.held.pop(0)
        if not ready:
            return _NO_TICKS, _NO_TIMES
        rows = join(ready)
        quantum = -(-rows["receive_ns"] // QUANTUM_NS) * QUANTUM_NS
        order = release_order(rows, quantum)
        return rows.take(order), quantum[order]

    def _close_grid(self) -> list[_Pending]:
        """Close the open cell; return the wicks that are re-admitted with it."""
        boundary_ns = self._state.open_grid_ns
        assert boundary_ns is not None
        self._state.open_grid_ns = None
        back = self._let_go(boundary_ns)
        touched = self._consensus.close_grid(boundary_ns)
        return back + self._recheck(boundary_ns, touched) if self._state.pending else back

    def _judge(
        self,
        due: Rows,
        local: I64,
        quantum: I64,
        verdict: I8,
        reference: F64,
        deviation: F64,
        wicks: list[Wick],
    ) -> None:
        """Fill in verdict, reference and deviation of the trades among released rows of one grid cell."""
        trades = np.flatnonzero(due["kind"] == TRADE)
        if not trades.size:
            return
        seen = self._consensus.compare(due.take(trades), local[trades])
        reference[trades] = seen.reference
        deviation[trades] = seen.deviation * 1e4
        verdict[trades] = np.where(seen.peers > 0, CONFIRMED, UNVERIFIED)
        for row in trades[seen.suspect].tolist():
            self._try(due[row : row + 1], int(local[row]), int(quantum[row]), row, verdict, reference, deviation, wicks)

    def _try(
        self,
        tick: Rows,
        symbol: int,
        quantum_ns: int,
        row: int,
        verdict: I8,
        reference: F64,
        deviation: F64,
        wicks: list[Wick],
    ) -> None:
        """Let the other venues vote on one suspect."""
        event_ns = int(tick["event_ns"][0])
        if event_ns - BACK_NS < quantum_ns - HORIZON_NS:  # so late that what the others did then is forgotten
            verdict[row] = UNVERIFIED
            return
        venue = int(tick["venue"][0])
        basis = self._consensus.basis[symbol]
        price = float(np.log(tick["price"][0])) - float(basis[venue])
        code = int(self._symbols[symbol])
        suspect = Suspect(code, venue, price, event_ns, self._consensus.anchor_of(symbol))
        vote = self._vote(suspect, symbol, quantum_ns, self._consensus.overdue_ns(symbol))
        verdict[row] = self._rule(vote)
        if not np.isnan(vote.reference):
            reference[row] = float(np.exp(vote.reference + basis[venue]))
            deviation[row] = (price - vote.reference) * 1e4
        if verdict[row] != WICK:
            return
        wick = self._wick(tick, symbol, vote, price)
        wicks.append(wick)
        due_ns = -(-(quantum_ns + LATE_NS) // GRID_NS) * GRID_NS
        proven = vote.against >= self._policy.min_witnesses
        self._state.pending.append(_Pending(wick, tick.copy(), symbol, suspect, due_ns, proven))
        del self._state.pending[:-PENDING_WICKS]

    def _vote(self, suspect: Suspect, symbol: int, released_ns: int, overdue_ns: I64 | None) -> Vote:
        cutoff_ns = min(released_ns, END_OF_INPUT - self._window_ns) + self._window_ns
        return self._evidence.vote(
            suspect,
            released_ns,
            cutoff_ns,
            self._consensus.basis[symbol],
            float(self._consensus.scale[symbol]),
            overdue_ns,
        )

    def _rule(self, vote: Vote) -> int:
        """One venue alone, or a minority with it, against live venues that did not follow."""
        least = self._policy.min_witnesses
        if vote.against >= least and (vote.support == 0 or vote.against > vote.support + 1):
            return WICK
        if vote.support:
            return CONFIRMED
        return WICK if vote.against + vote.presumed >= least else UNVERIFIED

    def _wick(self, tick: Rows, symbol: int, vote: Vote, price: float) -> Wick:
        venue = int(tick["venue"][0])
        basis = float(self._consensus.basis[symbol, venue])
        return Wick(
            symbol=int(tick["symbol"][0]),
            venue=venue,
            trade_id=tick["trade_id"][0].decode(),
            event_ns=int(tick["event_ns"][0]),
            receive_ns=int(tick["receive_ns"][0]),
            price=float(tick["price"][0]),
            size=float(tick["size"][0]),
            side=int(tick["side"][0]),
            reference=float(np.exp(vote.reference + basis)),
            deviation_bps=(price - vote.reference) * 1e4,
            dispersion_bps=float(self._consensus.scale[symbol]) * 1e4,
            basis_bps=basis * 1e4,
            witnesses=vote.against + vote.presumed,
            evidence=vote.describe(price),
        )

    def _recheck(self, boundary_ns: int, touched: I64) -> list[_Pending]:
        """Vote again on pending wicks of symbols that were heard; take out the ones the others confirmed."""
        heard = set(touched.tolist())
        back = [
            pending
            for pending in self._state.pending
            if pending.symbol in heard and self._rule_again(pending, boundary_ns) == CONFIRMED
        ]
        if back:
            gone = {id(pending) for pending in back}
            self._state.pending = [pending for pending in self._state.pending if id(pending) not in gone]
        return [self._back(pending, boundary_ns) for pending in back]

    def _let_go(self, now_ns: int) -> list[_Pending]:
        """End the late horizon of wicks: what was only presumed must have been heard by now, else it is re-admitted."""
        pending = self._state.pending
        if not pending or pending[0].due_ns > now_ns:
            return []
        self._state.pending = [one for one in pending if one.due_ns > now_ns]
        return [
            self._back(one, one.due_ns)
            for one in pending
            if one.due_ns <= now_ns and not one.proven and self._rule_again(one, one.due_ns) != WICK
        ]

    def _rule_again(self, pending: _Pending, boundary_ns: int) -> int:
        return self._rule(self._vote(pending.suspect, pending.symbol, boundary_ns, None))

    def _back(self, pending: _Pending, boundary_ns: int) -> _Pending:
        return replace(pending, wick=replace(pending.wick, readmitted_ns=boundary_ns + self._window_ns))

    def _newest(self, cut_ns: int) -> Rows:
        """Return the newest state of the symbols touched since the last time, HOT_NS ago or more; else nothing."""
        state = self._state
        if not state.fresh or cut_ns < state.hot_ns + HOT_NS:
            return _NO_HOT
        state.hot_ns = cut_ns
        ticks = join([part[0] for part in state.fresh])
        local = np.concatenate([part[1] for part in state.fresh])
        verdict = np.concatenate([part[2] for part in state.fresh])
        state.fresh.clear()
        hot = self._hot
        good = np.flatnonzero((ticks["kind"] == TRADE) & (verdict != WICK))
        rows, where = ticks.take(good), local[good]
        for column in ("price", "size", "side", "venue", "event_ns", "receive_ns"):
            hot[column][where] = rows[column]  # of equal places the last stays
        hot["verdict"][where] = verdict[good]
        touched = np.unique(local)
        self._book.update(ticks, local)
        for column, values in self._book.best(touched, int(ticks["receive_ns"].max())).items():
            hot[column][touched] = values
        hot["reference"][touched], hot["venues"][touched] = self._consensus.level_of(touched)
        hot["seq"][touched] += 1
        return hot.take(touched)

    def snapshot(self) -> bytes:
        """Return the whole state as bytes."""
        return pickle.dumps((self._state, self._consensus, self._evidence, self._book, self._hot), protocol=5)

    def restore(self, state: bytes) -> None:
        """Take over what `snapshot` returned."""
        self._state, self._consensus, self._evidence, self._book, self._hot = pickle.loads(state)


def _grid_cells(quantum: I64) -> Iterator[tuple[slice, int]]:
    """Cut released rows where the consensus grid does: rows of one cell, and the boundary that closes it."""
    if not quantum.size:
        return
    grid = -(-quantum // GRID_NS) * GRID_NS
    if grid[0] == grid[-1]:  # released in the order of quanta
        yield slice(0, quantum.size), int(grid[0])
        return
    start = 0
    for stop in (*(np.flatnonzero(np.diff(grid)) + 1).tolist(), quantum.size):
        yield slice(start, stop), int(grid[start])
        start = stop


def release_order(rows: Rows, quantum: I64) -> I64:
    """Return the order of release: quantum, event time, venue code, trade id (shorter ids first, so 99 before 100).

    Quotes have no id; those of one venue and event time keep their receive order.
    """
    event_ns = np.ascontiguousarray(rows["event_ns"])
    order = event_ns.argsort(kind="stable")
    order = order[quantum[order].argsort(kind="stable")]  # both are nearly in order: cheaper than one sort by two keys
    event_ns, quanta = event_ns[order], quantum[order]
    same = (event_ns[1:] == event_ns[:-1]) & (quanta[1:] == quanta[:-1])
    if not same.any():
        return order
    tied = np.zeros(order.size, bool)
    tied[1:] |= same
    tied[:-1] |= same
    places = tied.nonzero()[0]
    number = np.cumsum(~np.concatenate(([False], same)))[places]
    found = rows.take(order[places])
    ids = found["trade_id"]
    keys = (ids, np.char.str_len(ids), found["kind"] == QUOTE, found["venue"], number)
    order[places] = order[places[np.lexsort(keys)]]
    return order
