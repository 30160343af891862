"""The Bytewax source over a recording: one partition a venue, all cut at the same rows of the recording.

A **step** is a stretch of the recording, the same for all venues: its rows go out as one batch a venue, with the step's
last receive time as watermark. Results cannot depend on the steps; they only bound memory and pace.
"""

from __future__ import annotations

import logging
import threading
import time
from collections import Counter, deque
from collections.abc import Callable
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Final

import numpy as np
import polars as pl
from bytewax.inputs import FixedPartitionedSource, StatefulSourcePartition

from connectors.recording import columns_of, frame_to_ticks, scan
from market.schema import END_OF_INPUT, TICK, Rows, TickBatch, VenueCounters, join
from market.symbols import SymbolTable
from market.venues import VENUE_CODES

CHUNK_ROWS: Final = 262_144
"""Rows read from the file at a time."""
STEP_ROWS: Final = 16_384
"""Most rows of a step, all venues together."""
STEP_NS: Final = 5_000_000
"""Length of a step in wall time when the replay is paced."""
AHEAD_STEPS: Final = 64
"""How far, in steps, a partition may be ahead of the slowest of its process."""
POLL: Final = timedelta(milliseconds=3)
STATUS_NS: Final = 1_000_000_000

Item = tuple[str, TickBatch]

_NO_TICKS: Final = np.zeros(0, TICK)
_BEFORE_ALL: Final = np.iinfo(np.int64).min


log = logging.getLogger("mie.replay")


class EndOfRecording(Exception):
    """There is nothing more to replay."""


class Recording:
    """Reads a tick recording step by step for all partitions of a process.

    Memory: one chunk of the file, and AHEAD_STEPS steps. Workers build their partitions when they please: one that
    joins after others have begun reads what these have let go again by itself, until it has caught up.
    """

    def __init__(self, path: Path, table: SymbolTable, venues: tuple[str, ...], speed: float | None) -> None:
        """Open for some venues; `speed` is recorded seconds a second, None for as fast as possible."""
        self._path = path
        self._table = table
        self._names = venues
        self._venues = np.array([VENUE_CODES[name] for name in venues])
        self._speed = speed
        self._columns = columns_of(path)
        self._rows = int(scan(path).select(pl.len()).collect().item())
        self._read = 0
        self._chunk: Rows = _NO_TICKS
        self._tail: Rows = _NO_TICKS  # rows that share their receive time with what is not read yet
        self._steps: deque[tuple[int, dict[int, Rows]]] = deque()
        self._first_step = 0
        self._lock = threading.Lock()
        self._taken: dict[str, int] = {}
        self._late: dict[str, Recording] = {}
        self.rejects: Counter[str] = Counter()
        self.began_ns = 0

    def join(self, venue: str) -> None:
        """Register a partition: its next step is the first."""
        with self._lock:
            self._taken[venue] = 0
            if self._first_step:
                self._late[venue] = Recording(self._path, self._table, self._names, self._speed)
                self._late[venue].join(venue)

    def is_ahead(self, venue: str) -> bool:
        """Return whether a partition must wait for others before its next step."""
        with self._lock:
            taken = self._taken
            return venue in taken and taken[venue] - min(taken.values()) >= AHEAD_STEPS

    def take(self, venue: str) -> tuple[Rows, int] | None:
        """Return a venue's rows of its next step, for it alone, and the watermark; None if it must wait for others.

        Raises:
            EndOfRecording: There is no further step.
        """
        with self._lock:
            step = self._taken[venue]
            self._forget()
            if step < self._first_step:
                self._taken[venue] = step + 1
                return self._late[venue].take(venue)
            self._late.pop(venue, None)
            if step - min(self._taken.values()) >= AHEAD_STEPS:
                return None
            if step - self._first_step == len(self._steps) and not self._next_step():
                self._taken.pop(venue)
                raise EndOfRecording
            end_ns, parts = self._steps[step - self._first_step]
            self._taken[venue] = step + 1
            return parts.pop(VENUE_CODES[venue], _NO_TICKS), end_ns

    def _forget(self) -> None:
        while self._steps and self._first_step < min(self._taken.values()):
            self._steps.popleft()
            self._first_step += 1

    def _next_step(self) -> bool:
        """Cut a step off the chunk; equal receive times stay together, so that a watermark is a place in the file."""
        if not self._chunk.size and not self._next_chunk():
            return False
        times = self._chunk["receive_ns"]
        self.began_ns = self.began_ns or int(times[0])
        last = min(STEP_ROWS, times.size) - 1
        if self._speed is not None:
            last = min(last, int(np.searchsorted(times, times[0] + int(STEP_NS * self._speed), side="right")) - 1)
        cut = int(np.searchsorted(times, times[last], side="right"))
        rows, self._chunk = self._chunk[:cut], self._chunk[cut:]
        self._steps.append((int(times[last]), {int(v): rows[rows["venue"] == v] for v in np.unique(rows["venue"])}))
        return True

    def _next_chunk(self) -> bool:
        while self._read < self._rows:
            table = scan(self._path).select(self._columns).slice(self._read, CHUNK_ROWS).collect()
            self._read += len(table)
            if self._rows > CHUNK_ROWS:
                log.info("read %.0f %% of the recording, %d ticks", 100 * self._read / self._rows, self._read)
            ticks, rejects = frame_to_ticks(table, self._table.codes)
            for reason in rejects.keys() - self.rejects.keys():
                log.warning("%s: first row rejected: %s", self._path, reason)
            self.rejects += rejects
            ticks = join((self._tail, ticks[np.isin(ticks["venue"], self._venues)]))
            cut = ticks.size
            if self._read < self._rows and cut:
                cut = int(np.searchsorted(ticks["receive_ns"], ticks["receive_ns"][-1]))
            self._chunk, self._tail = ticks[:cut], ticks[cut:]
            if cut:
                return True
        return False


class ReplayPartition(StatefulSourcePartition[Item, int]):
    """One venue of a recording; its state is the watermark up to which it has handed out."""

    def __init__(
        self,
        venue: str,
        recording: Recording,
        done_ns: int,
        speed: float | None,
        stopping: threading.Event,
        counters: VenueCounters,
        wall_ns: Callable[[], int],
    ) -> None:
        self._venue = venue
        self._recording = recording
        self._done_ns = done_ns
        self._speed = speed
        self._stopping = stopping
        self._wall_ns = wall_ns
        self._started_ns = 0
        self._began_ns = 0
        self._counters = counters
        self._counters.state = "live"
        self._status_ns = 0
        self._waiting: TickBatch | None = None
        self._over = False
        self._ended = False
        recording.join(venue)

    def next_batch(self) -> list[Item]:
        """Return the venue's part of the next step, once it is time for it."""
        if self._ended:
            raise StopIteration
        if self._over or self._stopping.is_set():
            return self._end()
        if self._waiting is None:
            self._fetch()
        batch = self._waiting
        if batch is None or not self._is_time(batch.watermark_ns):
            return []
        self._waiting = None
        self._done_ns = batch.watermark_ns
        return [(self._venue, batch)]

    def _end(self) -> list[Item]:
        self._ended = True
        self._counters.state = "ended"
        end = TickBatch(VENUE_CODES[self._venue], _NO_TICKS, END_OF_INPUT, replace(self._counters))
        if self._waiting is None:
            return [(self._venue, end)]
        self._done_ns = self._waiting.watermark_ns
        return [(self._venue, self._waiting), (self._venue, end)]

    def _fetch(self) -> None:
        try:
            taken = self._recording.take(self._venue)
            while taken is not None and taken[1] <= self._done_ns:  # handed out before a restart
                taken = self._recording.take(self._venue)
        except EndOfRecording:
            self._over = True
            return
        if taken is None:
            return
        ticks, end_ns = taken
        ticks = ticks[ticks["receive_ns"] > self._done_ns]
        if ticks.size:
            self._counters.messages += ticks.size
            self._counters.last_receive_ns = int(ticks["receive_ns"][-1])
        self._waiting = TickBatch(VENUE_CODES[self._venue], ticks, end_ns, self._status(end_ns))

    def _status(self, end_ns: int) -> VenueCounters | None:
        if end_ns < self._status_ns:
            return None
        self._status_ns = end_ns + STATUS_NS
        return replace(self._counters)

    def _is_time(self, end_ns: int) -> bool:
        if self._speed is None:
            return True
        now_ns = self._wall_ns()
        if not self._began_ns:
            self._started_ns, self._began_ns = now_ns, max(self._recording.began_ns, self._done_ns)
        return (now_ns - self._started_ns) * self._speed >= end_ns - self._began_ns

    def next_awake(self) -> datetime | None:
        """Return when to look again: at once at full speed, else in POLL."""
        if self._speed is None and not self._blocked:
            return None
        return datetime.now(UTC) + POLL

    @property
    def _blocked(self) -> bool:
        return self._recording.is_ahead(self._venue)

    def snapshot(self) -> int:
        """Return the watermark handed out."""
        return self._done_ns


class ReplaySource(FixedPartitionedSource[Item, int]):
    """A recording's venues; ends when the recording does."""

    def __init__(
        self,
        path: Path,
        table: SymbolTable,
        venues: tuple[str, ...],
        speed: float | None = None,
        imported: dict[str, VenueCounters] | None = None,
        wall_ns: Callable[[], int] = time.monotonic_ns,
    ) -> None:
        """Build over a checked tick recording; `imported` are counts from decoding raw frames before."""
        self._path = path
        self._table = table
        self._venues = venues
        self._speed = speed
        self._imported = imported or {}
        self._wall_ns = wall_ns
        self._stopping = threading.Event()
        self._recording: Recording | None = None
        self._lock = threading.Lock()

    def list_parts(self) -> list[str]:
        """Return the venue names."""
        return list(self._venues)

    def build_part(self, step_id: str, for_part: str, resume_state: int | None) -> ReplayPartition:
        """Build a venue's partition on the reader its process shares."""
        with self._lock:
            if self._recording is None:
                self._recording = Recording(self._path, self._table, self._venues, self._speed)
        counters = replace(self._imported.get(for_part, VenueCounters()))
        done_ns = _BEFORE_ALL if resume_state is None else resume_state
        return ReplayPartition(for_part, self._recording, done_ns, self._speed, self._stopping, counters, self._wall_ns)

    def stop(self) -> None:
        """End the replay early: what was read flows through. Signal-safe."""
        self._stopping.set()
