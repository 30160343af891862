"""Sequencing of one venue's ticks: event time, duplicates out, split by key group, the venue's status.

Ticks of a venue come in receive order. This kernel keeps that order; event order is the forge's business, which holds
ticks long enough to know it.
"""

from __future__ import annotations

import pickle
from array import array
from dataclasses import dataclass, field, replace
from typing import Final

import numpy as np

from market.records import VenueStatus
from market.schema import (
    BACKFILL,
    END_OF_INPUT,
    I64,
    LAGGING,
    REPLAYED,
    TRADE,
    UNSTAMPED,
    Gap,
    Rows,
    TickBatch,
    VenueCounters,
)
from market.symbols import KEY_GROUPS
from operators.clock import ClockKernel

REMEMBERED_IDS: Final = 32_768
"""A duplicate is recognised among at least this many trades of its venue before it, and at most twice as many."""
STATUS_NS: Final = 1_000_000_000
LAGGING_NS: Final = 100_000_000
"""A stamped tick that is later than this shows a link that is catching up: unstamped ones beside it may be old."""
LAGGING_FOR_NS: Final = 1_000_000_000
"""So long does a late tick speak for the unstamped ones after it."""
LAG_SAMPLE: Final = 4_096
"""Rows kept for the median lag of a status interval."""

_LONG_AGO: Final = np.iinfo(np.int64).min // 2
_MIX: Final = np.array(
    [0x9E3779B97F4A7C15, 0xC2B2AE3D27D4EB4F, 0x165667B19E3779F9, 0xD6E8FEB86659FD93, 0xA0761D6478BD642F], np.uint64
)


@dataclass(slots=True)
class Slice:
    """The ticks of one venue for one key group, and the venue's watermark; rows may be none.

    `let_go` are codes of the group as in `TickBatch`.
    """

    venue: int
    ticks: Rows
    watermark_ns: int
    let_go: list[int] = field(default_factory=list)


@dataclass(slots=True)
class Sequenced:
    """What one batch became: a slice for every key group, perhaps the venue's status, and its gaps."""

    slices: list[Slice]
    status: VenueStatus | None
    gaps: list[Gap]


class SequenceKernel:
    """Sequencer of one venue.

    Memory: `2 * REMEMBERED_IDS` hashed ids, `LAG_SAMPLE` lags, the clock's window.
    """

    def __init__(self, venue: int, groups: I64, salts: I64 | None = None) -> None:
        """Build for a venue code.

        Args:
            venue: Venue code.
            groups: The key group of each symbol code, int64.
            salts: What stands for each symbol where trades are told apart, int64; looked up anew for each batch. By
                default the codes, which never change their owner then.
        """
        self._venue = venue
        self._groups = groups
        self._salts = np.arange(groups.size) if salts is None else salts
        self._clock = ClockKernel()
        self._young = _Ids()
        self._old = _Ids()
        self._duplicates = 0
        self._late_ns: int | None = None  # when the newest stamped tick came, if it came late
        self._lags: list[I64] = []
        self._lag_rows = 0
        self._lag_ns = 0
        self._counters = VenueCounters()
        self._status_due_ns = 0

    def add(self, batch: TickBatch) -> Sequenced:
        """Sequence one batch; `batch.ticks` is taken over and changed in place."""
        if batch.status is not None:
            self._counters = batch.status
        ticks = batch.ticks
        if ticks.size:
            ticks = self._drop_duplicates(ticks)
            stamped = (ticks["flags"] & UNSTAMPED) == 0
            old = (ticks["flags"] & (REPLAYED | BACKFILL)) != 0
            ticks["event_ns"] = self._clock.correct(ticks["exchange_ns"], ticks["receive_ns"], stamped, old)
            self._flag_lagging(ticks, np.flatnonzero(stamped & ~old), np.flatnonzero(~stamped))
            if self._lag_rows < LAG_SAMPLE:
                lag = (ticks["receive_ns"] - ticks["event_ns"])[stamped]
                self._lags.append(lag)
                self._lag_rows += lag.size
        slices = self._split(ticks, batch.watermark_ns)
        for code in batch.let_go:
            group = int(self._groups[code])
            slices[group] = replace(slices[group], let_go=[*slices[group].let_go, code])
        return Sequenced(slices, self._status(batch.watermark_ns), batch.gaps)

    def _flag_lagging(self, ticks: Rows, current: I64, unstamped: I64) -> None:
        """Flag unstamped rows whose last stamped row before them came late, not long ago."""
        receive_ns = ticks["receive_ns"]
        lag_ns = receive_ns[current] - ticks["event_ns"][current]
        if unstamped.size and (self._late_ns is not None or (lag_ns > LAGGING_NS).any()):
            late_ns = np.where(lag_ns > LAGGING_NS, receive_ns[current], _LONG_AGO)
            late_ns = np.concatenate(([_LONG_AGO if self._late_ns is None else self._late_ns], late_ns))
            since_ns = receive_ns[unstamped] - late_ns[np.searchsorted(current, unstamped)]
            ticks["flags"][unstamped[since_ns <= LAGGING_FOR_NS]] |= LAGGING
        if current.size:
            self._late_ns = int(receive_ns[current[-1]]) if lag_ns[-1] > LAGGING_NS else None

    def _drop_duplicates(self, ticks: Rows) -> Rows:
        trades = np.flatnonzero((ticks["kind"] == TRADE) & (ticks["trade_id"] != b""))
        if not trades.size:
            return ticks
        ids = trade_keys(ticks.take(trades), self._salts)
        keys = ids.tolist()
        fresh = set(keys)
        known = not (self._young.known.isdisjoint(fresh) and self._old.known.isdisjoint(fresh))
        if len(fresh) == len(keys) and not known and len(self._young.known) + len(keys) < REMEMBERED_IDS:
            self._young.add_all(fresh, ids)
            return ticks
        keep = np.ones(ticks.size, bool)
        keep[[row for row, key in zip(trades.tolist(), keys, strict=True) if not self._remember(key)]] = False
        self._duplicates += int(ticks.size - keep.sum())
        return ticks.take(np.flatnonzero(keep))

    def _remember(self, key: int) -> bool:
        """Remember an id; return whether it is new. A generation ends with a certain id, not with a batch."""
        if key in self._young.known or key in self._old.known:
            return False
        self._young.add(key)
        if len(self._young.known) == REMEMBERED_IDS:
            self._old, self._young = self._young, _Ids()
        return True

    def _split(self, ticks: Rows, watermark_ns: int) -> list[Slice]:
        if not ticks.size:
            return [Slice(self._venue, ticks, watermark_ns)] * KEY_GROUPS
        group = self._groups[ticks["symbol"]]
        order = np.argsort(group, kind="stable")
        ticks = ticks.take(order)
        cuts = np.searchsorted(group[order], np.arange(KEY_GROUPS + 1)).tolist()
        return [Slice(self._venue, ticks[cuts[g] : cuts[g + 1]], watermark_ns) for g in range(KEY_GROUPS)]

    def _status(self, watermark_ns: int) -> VenueStatus | None:
        if watermark_ns < self._status_due_ns:
            return None
        if self._lag_rows:
            self._lag_ns = int(np.median(np.concatenate(self._lags)))
        self._lags, self._lag_rows = [], 0
        if watermark_ns != END_OF_INPUT:
            self._status_due_ns = (watermark_ns // STATUS_NS + 1) * STATUS_NS
        seen = self._counters
        return VenueStatus(
            venue=self._venue,
            state=seen.state,
            messages=seen.messages,
            rejects=seen.rejects,
            unknown_symbols=seen.unknown_symbols,
            refused=seen.refused,
            reconnects=seen.reconnects,
            gaps=seen.gaps,
            duplicates=self._duplicates,
            backlog_rows=seen.backlog_rows,
            last_receive_ns=seen.last_receive_ns,
            clock_offset_ns=self._clock.offset_ns,
            clock_error_ns=self._clock.error_ns,
            watermark_ns=watermark_ns,
            lag_ns=self._lag_ns,
            last_reject=seen.last_reject,
            silent_symbols=seen.silent_symbols,
        )

    def snapshot(self) -> bytes:
        """Return the state that results depend on: the clock, the remembered ids, whether the link is late."""
        ids = (self._young.kept.tobytes(), self._old.kept.tobytes())
        return pickle.dumps((self._clock.snapshot(), *ids, self._duplicates, self._late_ns))

    def restore(self, state: bytes) -> None:
        """Take over what `snapshot` returned."""
        clock, young, old, self._duplicates, self._late_ns = pickle.loads(state)
        self._clock = ClockKernel.restore(clock)
        self._young, self._old = _Ids(young), _Ids(old)


class _Ids:
    """A generation of ids: a set to look them up, and beside it an array, which a snapshot copies in no time.

    Attributes:
        known: The ids.
        kept: The same as int64.
    """

    __slots__ = ("kept", "known")

    def __init__(self, kept: bytes = b"") -> None:
        self.kept = array("q", kept)
        self.known = set(self.kept)

    def add(self, key: int) -> None:
        """Add an id that is not known."""
        self.known.add(key)
        self.kept.append(key)

    def add_all(self, keys: set[int], ids: I64) -> None:
        """Add ids, none of them known, given in both forms."""
        self.known |= keys
        self.kept.frombytes(ids.tobytes())


def trade_keys(trades: Rows, salts: I64) -> I64:
    """Return a 64-bit key of (symbol's salt, trade id) for n TICK rows, int64; equal pairs have equal keys.

    Ids differing in a single 8-byte word never collide; others do with a chance of 2**-64 a pair.
    """
    words = np.ascontiguousarray(trades["trade_id"]).view(np.uint64).reshape(len(trades), -1)
    keys = (words * _MIX).sum(axis=1, dtype=np.uint64)
    keys ^= keys >> np.uint64(32)
    keys = keys * _MIX[0] + salts[trades["symbol"]].astype(np.uint64) * _MIX[1]
    keys ^= keys >> np.uint64(29)
    return np.asarray(keys.view(np.int64))
