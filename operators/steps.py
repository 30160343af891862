"""Thin Bytewax steps over the kernels: keys, state, snapshots. The only module here that knows Bytewax.

Step ids are part of the contract: renaming a stateful step loses its recovery state. Every kernel's state is bytes,
taken each epoch. When the input ends for good the kernels let go of all they hold, forming candles too; the state kept
for a restart is the one from before that, so that a resumed run goes on as if it had not stopped.
"""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from datetime import datetime
from itertools import groupby
from operator import itemgetter
from typing import Any, Final, Generic, Protocol, TypeVar

import bytewax.operators as op
import numpy as np
from bytewax.dataflow import Stream
from bytewax.operators import KeyedStream, StatefulBatchLogic

from market.records import (
    VERDICTS,
    WICK,
    Correlation,
    ForgedTicks,
    LetGo,
    ReleasedTrades,
    StudyBatch,
    VenueStatus,
    WickBatch,
)
from market.schema import END_OF_INPUT, NS_PER_S, TRADE, Gap, Rows, TickBatch, join
from market.symbols import KEY_GROUPS, SymbolTable
from operators.candles import CandleKernel
from operators.correlation import CorrelationKernel
from operators.forge import Forged, ForgeKernel, ForgePolicy
from operators.indicators.kernel import StudyKernel
from operators.sequence import Sequenced, SequenceKernel, Slice

SETTLE_NS: Final = 10 * NS_PER_S
"""So long after the last tick of a symbol that is let go nothing of it is held, judged again or evidence any more, and
its candles have all its trades."""

In = TypeVar("In")
Out = TypeVar("Out")


class Kernel(Protocol):
    """What a step needs of a kernel."""

    def snapshot(self) -> bytes:
        """Return the state."""

    def restore(self, state: bytes) -> None:
        """Take over a state."""


K = TypeVar("K", bound=Kernel)


class KernelLogic(StatefulBatchLogic[In, Out, bytes | None], Generic[K, In, Out]):
    """Holds one key's kernel, made when its first value shows which key that is."""

    def __init__(self, state: bytes | None) -> None:
        self._kernel: K | None = None
        self._kept = state

    @abstractmethod
    def make(self, value: In) -> K:
        """Return a new kernel for the key of `value`."""

    @abstractmethod
    def feed(self, kernel: K, values: list[In]) -> Iterable[Out]:
        """Give the kernel some values; return what comes of them."""

    @abstractmethod
    def is_end(self, value: In) -> bool:
        """Return whether the input ends with this value."""

    def on_batch(self, values: list[In]) -> tuple[Iterable[Out], bool]:
        """Feed the kernel."""
        kernel = self._kernel
        if kernel is None:
            kernel = self._kernel = self.make(values[0])
            if self._kept is not None:
                kernel.restore(self._kept)
                self._kept = None
        if self._kept is None and any(self.is_end(value) for value in values):
            rest = [value for value in values if not self.is_end(value)]
            before = list(self.feed(kernel, rest)) if rest else []
            self._kept = kernel.snapshot()
            return [*before, *self.feed(kernel, [value for value in values if self.is_end(value)])], False
        return list(self.feed(kernel, values)), False

    def on_notify(self) -> tuple[Iterable[Out], bool]:
        """Do nothing: time is the watermark."""
        return [], False

    def on_eof(self) -> tuple[Iterable[Out], bool]:
        """Do nothing: the end is a watermark."""
        return [], False

    def notify_at(self) -> datetime | None:
        """Return no time: nothing here waits for the wall clock."""
        return None

    def snapshot(self) -> bytes | None:
        """Return the kernel's state, once the input has ended the one from before."""
        if self._kept is not None or self._kernel is None:
            return self._kept
        return self._kernel.snapshot()


# sequence


class _Sequence(KernelLogic[SequenceKernel, TickBatch, Sequenced]):
    def __init__(self, state: bytes | None, table: SymbolTable) -> None:
        super().__init__(state)
        self._table = table

    def make(self, value: TickBatch) -> SequenceKernel:
        return SequenceKernel(value.venue, self._table.groups, self._table.salts)

    def feed(self, kernel: SequenceKernel, values: list[TickBatch]) -> Iterable[Sequenced]:
        return [kernel.add(value) for value in values]

    def is_end(self, value: TickBatch) -> bool:
        return value.watermark_ns == END_OF_INPUT


def sequence(
    step_id: str, up: KeyedStream[TickBatch], table: SymbolTable
) -> tuple[KeyedStream[GroupSlice], Stream[VenueStatus], Stream[Gap]]:
    """Order, de-duplicate and stamp each venue's batches; re-key them by key group.

    Returns:
        Slices by key group, every group getting every watermark; the venues' states, once a second; and their gaps.
    """
    done = op.stateful_batch(step_id, up, lambda state: _Sequence(state, table))
    grouped = op.flat_map(f"{step_id}_by_group", done, _by_group)
    states = op.filter_map(f"{step_id}_status", done, lambda item: item[1].status)
    return grouped, states, op.flat_map(f"{step_id}_gaps", done, lambda item: item[1].gaps)


@dataclass(slots=True)
class GroupSlice:
    """A slice and the key group it is for."""

    group: int
    part: Slice


def _by_group(item: tuple[str, Sequenced]) -> list[tuple[str, GroupSlice]]:
    return [(GROUP_KEYS[group], GroupSlice(group, part)) for group, part in enumerate(item[1].slices)]


GROUP_KEYS = tuple(str(group) for group in range(KEY_GROUPS))


# forge


class _Forge(KernelLogic[ForgeKernel, GroupSlice, "GroupForged"]):
    def __init__(self, state: bytes | None, table: SymbolTable, policy: ForgePolicy) -> None:
        super().__init__(state)
        self._table = table
        self._policy = policy
        self._ended: set[int] = set()
        self._leaving: list[tuple[int, int]] = []  # when it has settled, symbol; told again after a restart

    def make(self, value: GroupSlice) -> ForgeKernel:
        self._group = value.group
        return ForgeKernel(self._table.of_group(value.group), self._policy)

    def feed(self, kernel: ForgeKernel, values: list[GroupSlice]) -> Iterable[GroupForged]:
        parts = [value.part for value in values]
        self._leaving += [(part.watermark_ns + SETTLE_NS, symbol) for part in parts for symbol in part.let_go]
        # Where some symbol is due, in small steps: a code's next owner must find nothing of the last.
        for some in [[part] for part in parts] if self._leaving else [parts]:
            forged = kernel.add(some)
            if forged is not None:
                yield GroupForged(self._group, forged, self._let_go(kernel, forged.watermark_ns))

    def _let_go(self, kernel: ForgeKernel, watermark_ns: int) -> list[tuple[int, list[int]]]:
        due = sorted(entry for entry in self._leaving if entry[0] <= watermark_ns)
        if due:
            kernel.forget(np.array([symbol for _, symbol in due], np.int64))
            self._leaving = [entry for entry in self._leaving if entry[0] > watermark_ns]
        return [(at_ns, [symbol for _, symbol in same]) for at_ns, same in groupby(due, itemgetter(0))]

    def is_end(self, value: GroupSlice) -> bool:
        """Return whether this is the end of the last venue that had not ended."""
        if value.part.watermark_ns == END_OF_INPUT:
            self._ended.add(value.part.venue)
        return len(self._ended) == len(self._policy.venues) and value.part.watermark_ns == END_OF_INPUT


@dataclass(slots=True)
class GroupForged:
    """What the forge released, and of which key group.

    `let_go` are symbols that it has forgotten, with the watermarks at which others may, ascending, all past now.
    """

    group: int
    forged: Forged
    let_go: list[tuple[int, list[int]]] = field(default_factory=list)


def forge(
    step_id: str, up: KeyedStream[GroupSlice], table: SymbolTable, policy: ForgePolicy
) -> KeyedStream[GroupForged]:
    """Hold and judge the ticks of each key group."""
    return op.stateful_batch(step_id, up, lambda state: _Forge(state, table, policy))


def released(step_id: str, up: KeyedStream[GroupForged]) -> KeyedStream[ForgedTicks]:
    """Return the released ticks with their final verdicts, for the archive; wicks once they are settled."""
    return op.flat_map_value(step_id, up, lambda value: _final(value.forged))


def _final(forged: Forged) -> list[ForgedTicks]:
    out = forged.released
    open_wicks = out.verdict == WICK
    if open_wicks.any():
        rows = np.flatnonzero(~open_wicks)
        out = ForgedTicks(
            out.ticks.take(rows), out.release_ns[rows], out.verdict[rows], out.reference[rows], out.deviation_bps[rows]
        )
    return [part for part in (out, forged.settled) if part.ticks.size]


def wicks(step_id: str, up: KeyedStream[GroupForged]) -> Stream[WickBatch]:
    """Return new and re-admitted wicks."""
    return op.filter_map(step_id, up, lambda item: WickBatch(item[1].forged.wicks) if item[1].forged.wicks else None)


def let_go(step_id: str, up: KeyedStream[GroupForged]) -> KeyedStream[LetGo]:
    """Return the symbols of which no tick comes any more, for the archive."""
    return op.flat_map_value(step_id, up, lambda value: [LetGo(symbols, "ticks") for _, symbols in value.let_go])


def newest(step_id: str, up: KeyedStream[GroupForged]) -> Stream[Rows | LetGo]:
    """Return the newest state of the symbols that moved, HOT rows; and the symbols that have none any more."""
    return op.flat_map(step_id, up, lambda item: _newest(item[1]))


def _newest(value: GroupForged) -> list[Rows | LetGo]:
    hot = [value.forged.hot] if value.forged.hot.size else []
    return [*hot, *(LetGo(symbols, "tk") for _, symbols in value.let_go)]


def trades(step_id: str, up: KeyedStream[GroupForged], window_ms: int) -> Stream[ReleasedTrades]:
    """Return when the released trades were due, and their verdicts, for the metrics. No clock is read here."""
    window_ns = window_ms * 1_000_000

    def of(item: tuple[str, GroupForged]) -> ReleasedTrades | None:
        forged = item[1].forged
        judged = forged.released.verdict >= 0
        readmitted = int(forged.readmitted.size)
        if not (readmitted or judged.any()):
            return None
        verdicts = np.bincount(forged.released.verdict[judged], minlength=len(VERDICTS))
        return ReleasedTrades(forged.released.ticks["receive_ns"][judged] + window_ns, verdicts, readmitted)

    return op.filter_map(step_id, up, of)


# candles


@dataclass(slots=True)
class Closed:
    """Candles closed or amended in a key group; all that end at or before `clock_ns` have been given.

    After them nothing comes of the symbols `let_go`; candles that were forming then are among them.
    """

    group: int
    candles: Rows
    clock_ns: int
    let_go: list[int] = field(default_factory=list)


class _Candles(KernelLogic[CandleKernel, GroupForged, Closed]):
    def __init__(self, state: bytes | None, table: SymbolTable, intervals_s: tuple[int, ...], hold_ns: int) -> None:
        super().__init__(state)
        self._table = table
        self._intervals_s = intervals_s
        self._hold_ns = hold_ns
        self._clock_ns = -1

    def make(self, value: GroupForged) -> CandleKernel:
        self._group = value.group
        return CandleKernel(self._table.of_group(value.group), self._intervals_s, hold_ns=self._hold_ns)

    def feed(self, kernel: CandleKernel, values: list[GroupForged]) -> Iterable[Closed]:
        for value in values:
            trades: Any = released_trades(value.forged)
            for at_ns, symbols in value.let_go:
                cut = int(np.searchsorted(trades[3], at_ns, side="right"))
                before = [column[:cut] for column in trades]
                yield from self._add(kernel, before, max(at_ns, kernel.watermark_ns))
                yield Closed(self._group, kernel.forget(symbols), kernel.clock_ns, symbols)
                trades = [column[cut:] for column in trades]
            yield from self._add(kernel, trades, value.forged.watermark_ns)

    def _add(self, kernel: CandleKernel, trades: Any, watermark_ns: int) -> Iterable[Closed]:
        ticks, verdict, again, release_ns = trades
        candles = kernel.add(ticks, verdict, again, release_ns, watermark_ns)
        if candles.size or kernel.clock_ns > self._clock_ns:
            self._clock_ns = kernel.clock_ns
            yield Closed(self._group, candles, kernel.clock_ns)

    def is_end(self, value: GroupForged) -> bool:
        return value.forged.watermark_ns == END_OF_INPUT


def released_trades(forged: Forged) -> tuple[Rows, Any, Any, Any]:
    """Return trades, verdicts, which are re-admitted wicks, and release times, in release order."""
    out = forged.released
    trade = np.flatnonzero(out.ticks["kind"] == TRADE)
    ticks, verdict, release_ns = out.ticks.take(trade), out.verdict[trade], out.release_ns[trade]
    again = np.zeros(ticks.size, bool)
    if not forged.readmitted.size:
        return ticks, verdict, again, release_ns
    count = forged.readmitted.size
    ticks = join((ticks, forged.readmitted))
    verdict = np.concatenate((verdict, np.full(count, WICK, np.int8)))
    again = np.concatenate((again, np.ones(count, bool)))
    release_ns = np.concatenate((release_ns, forged.readmitted_release_ns))
    order = np.argsort(release_ns, kind="stable")
    return ticks.take(order), verdict[order], again[order], release_ns[order]


def candles(
    step_id: str, up: KeyedStream[GroupForged], table: SymbolTable, intervals_s: tuple[int, ...], hold_ns: int
) -> KeyedStream[Closed]:
    """Make candles of each key group's released trades."""
    return op.stateful_batch(step_id, up, lambda state: _Candles(state, table, intervals_s, hold_ns))


# studies


@dataclass(slots=True)
class Studied:
    """Candles with their indicators, of one key group, and the candle clock; `let_go` as in `Closed`."""

    group: int
    batch: StudyBatch
    clock_ns: int
    let_go: list[int] = field(default_factory=list)


class _Studies(KernelLogic[StudyKernel, Closed, Studied]):
    def __init__(
        self, state: bytes | None, table: SymbolTable, intervals_s: tuple[int, ...], warm: Mapping[int, Rows]
    ) -> None:
        super().__init__(state)
        self._table = table
        self._intervals_s = intervals_s
        self._warm = warm
        self._is_new = state is None

    def make(self, value: Closed) -> StudyKernel:
        kernel = StudyKernel(self._table.of_group(value.group), self._intervals_s)
        if self._is_new and value.group in self._warm:  # a state that is resumed is warm already
            kernel.warm(self._warm[value.group])
        return kernel

    def feed(self, kernel: StudyKernel, values: list[Closed]) -> Iterable[Studied]:
        for value in values:
            yield Studied(value.group, kernel.add(value.candles), value.clock_ns, value.let_go)
            if value.let_go:
                kernel.forget(value.let_go)

    def is_end(self, value: Closed) -> bool:
        return value.clock_ns == END_OF_INPUT


def studies(
    step_id: str,
    up: KeyedStream[Closed],
    table: SymbolTable,
    intervals_s: tuple[int, ...],
    warm: Mapping[int, Rows] | None = None,
) -> KeyedStream[Studied]:
    """Compute the indicators of each key group's candles.

    Args:
        step_id: Unique id.
        up: Closed candles by key group.
        table: The symbols.
        intervals_s: Candle intervals.
        warm: Closed candles of the past by key group, CANDLE rows, for a group that has no state yet.
    """
    return op.stateful_batch(step_id, up, lambda state: _Studies(state, table, intervals_s, warm or {}))


def with_candles(step_id: str, up: KeyedStream[Studied]) -> Stream[StudyBatch | LetGo]:
    """Return the batches that hold any candle, and the symbols that have no indicators any more."""
    return op.flat_map(step_id, up, lambda item: _with_candles(item[1]))


def _with_candles(value: Studied) -> list[StudyBatch | LetGo]:
    batch = [value.batch] if value.batch.candles.size else []
    return [*batch, *([LetGo(value.let_go, "ind")] if value.let_go else [])]


# correlation


class _Correlate(KernelLogic[CorrelationKernel, Studied, "Correlation | LetGo"]):
    def __init__(self, state: bytes | None, make: Callable[[], CorrelationKernel]) -> None:
        super().__init__(state)
        self._make = make

    def make(self, value: Studied) -> CorrelationKernel:
        return self._make()

    def feed(self, kernel: CorrelationKernel, values: list[Studied]) -> Iterable[Correlation | LetGo]:
        for value in values:
            yield from kernel.advance(value.group, value.clock_ns, value.batch.candles)
            if kernel.forgotten:
                yield LetGo(kernel.forgotten, "corr")
            if value.let_go:
                kernel.forget(value.let_go, value.clock_ns)

    def is_end(self, value: Studied) -> bool:
        return value.clock_ns == END_OF_INPUT


def correlate(
    step_id: str, up: KeyedStream[Studied], table: SymbolTable, interval_s: int, window: int
) -> Stream[Correlation | LetGo]:
    """Correlate the log returns of all symbols, once every key group has closed an interval; tell who has left."""
    together = op.map(f"{step_id}_together", up, lambda item: ("all", item[1]))
    found = op.stateful_batch(
        step_id, together, lambda state: _Correlate(state, lambda: CorrelationKernel(len(table), interval_s, window))
    )
    return op.map(f"{step_id}_unkeyed", found, lambda item: item[1])
