"""The Bytewax source over live venues or the simulator: one partition a venue, one collector process a worker.

Delivery: a socket cannot rewind, so a partition's state says how far each symbol's trades have been handed out
(`connectors.position`). What came after that, until the sockets are open again, is a hole like any other: its trades
are asked for over REST, or are a row in `gaps`. So are those of a collector that crashed, by its successor. Quotes are
not asked for again.
"""

from __future__ import annotations

import logging
import socket
import subprocess
import sys
import threading
import time
from collections import deque
from datetime import UTC, datetime
from typing import Final

import msgspec
import numpy as np
from bytewax.inputs import FixedPartitionedSource, StatefulSourcePartition

from connectors.pipe import (
    FLUSH_NS,
    BatchReader,
    CollectorConfig,
    Command,
    Follow,
    News,
    Serve,
    Stop,
    encode_line,
)
from connectors.position import Position
from connectors.roster import Roster
from market.schema import END_OF_INPUT, TICK, TickBatch, join
from market.venues import VENUE_CODES, VENUES

POLL_NS: Final = 1_000_000
"""How often the socket is looked at while a flush is due."""
TRAVEL_NS: Final = 1_000_000
"""From the time for a flush of the collector until what it sends is worth a look.

So no partition sleeps longer than this and FLUSH_NS: at an epoch's end all of the step wait for all.
"""
READ_BYTES: Final = 1 << 20
QUEUED_ROWS: Final = 200_000
"""Ticks read from a collector and not handed out yet; above it the collector's own backlog fills instead."""
END_TIMEOUT_S: Final = 5.0
"""What a collector gets to end by itself."""
COMMAND_TIMEOUT_S: Final = 5.0
GONE_TIMEOUT_S: Final = 0.5
"""What a collector whose socket has ended gets: nothing more can come, and the worker waits."""
RESTART_S: Final = 1.0
"""Least time from one collector's start to its successor's."""

Item = tuple[str, TickBatch]
"""Venue name and batch: keyed for the sequencer."""

log = logging.getLogger("mie.source")


class CollectorProcess:
    """A collector and our end of the socket to it. Belongs to one worker thread."""

    def __init__(self, config: CollectorConfig, roster: Roster | None = None) -> None:
        self._config = config
        self._roster = roster
        self._stopped_s: float | None = None
        self._closed: set[str] = set()
        self._queues: dict[str, deque[TickBatch]] = {}
        self._positions: dict[str, Position] = {}
        self._queued = 0
        self._heard_ns = 0
        self._has_more = False
        self._changes()
        self._start()

    def _start(self) -> None:
        self._started_s = time.monotonic()
        self._socket, theirs = socket.socketpair()
        with theirs:
            self._process = subprocess.Popen(
                [sys.executable, "-m", "connectors.collector", str(theirs.fileno())], pass_fds=[theirs.fileno()]
            )
        self._reader = BatchReader(self._hear)
        self._open = True
        self._say(self._config)
        for venue, queue in self._queues.items():
            self._say(Serve(venue, self._positions[venue].known(batch.step for batch in queue)))

    def _say(self, words: CollectorConfig | Command) -> None:
        """Send a line. It may have to wait: the config alone can fill the socket of a process that is starting."""
        if not self._open:
            return  # its successor will be told
        self._socket.settimeout(COMMAND_TIMEOUT_S)
        try:
            self._socket.sendall(encode_line(words) + b"\n")
        except OSError as error:
            log.warning("the collector does not listen (%s): starting another", error)
            self._process.kill()
        finally:
            self._socket.setblocking(False)

    def follow(self) -> None:
        """Let the collector go over to the symbols that the run has now."""
        if self._roster is not None and self._roster.version != self._config.version:
            changes = self._changes()
            for position in self._positions.values():
                position.follow(self._config.symbols)
            self._say(Follow(self._config.version, changes))

    def _changes(self) -> dict[int, str]:
        """Bring the config up to date; return the owners of the codes where they are others."""
        if self._roster is None:
            return {}
        version, symbols = self._roster.names()
        changes = {code: name for code, name in enumerate(symbols) if name != self._config.symbols[code]}
        self._config = msgspec.structs.replace(self._config, symbols=symbols, version=version)
        return changes

    def _hear(self, venue: int, watermark_ns: int, news: News) -> None:
        """Pass on what is said of symbols; before the batches that go with it, which does no harm."""
        if self._roster is None:
            return
        if news.follows is not None:
            self._roster.followed(VENUES[venue], news.follows, watermark_ns)
        if news.listed is not None:
            self._roster.listed(VENUES[venue], news.listed)

    def serve(self, venue: str, state: bytes | None = None) -> None:
        """Let the collector connect to a venue, and go on where a `snapshot` says."""
        self._queues[venue] = deque()
        position = self._positions[venue] = Position(self._config.symbols)
        if state is None:
            self._say(Serve(venue))
        else:
            position.restore(state)
            self._say(Serve(venue, position.known()))

    def snapshot(self, venue: str) -> bytes:
        """Return how far a venue's trades have been handed out."""
        return self._positions[venue].snapshot()

    def take(self, venue: str) -> TickBatch | None:
        """Return what has come from a venue since the last time as one batch; None if nothing has."""
        if self._open and self._queued < QUEUED_ROWS:
            self._read()
        elif not self._open and self._stopped_s is None and time.monotonic() >= self._started_s + RESTART_S:
            self._start()
        queue = self._queues[venue]
        if not queue:
            return None
        batches = [queue.popleft()]
        while queue and queue[0].watermark_ns != END_OF_INPUT:  # an end stays apart: see `operators.steps`
            batches.append(queue.popleft())
        for each in batches:
            self._positions[venue].add(each.step)
        batch = _merge(batches)
        self._queued -= batch.ticks.size
        return batch

    def _read(self) -> None:
        try:
            data = self._socket.recv(READ_BYTES)
        except BlockingIOError:
            self._has_more = False
            self._hurry()
            return
        except OSError:
            data = b""
        if not data:
            self._ended()
        self._heard_ns, self._has_more = time.time_ns(), len(data) == READ_BYTES
        for batch in self._reader.feed(data):
            self._queued += batch.ticks.size
            self._queues[VENUES[batch.venue]].append(batch)

    def look_ns(self) -> int:
        """Return when to look at the socket again, UTC epoch nanoseconds."""
        now_ns = time.time_ns()
        return now_ns if self._has_more else next_look_ns(now_ns, self._heard_ns)

    def _hurry(self) -> None:
        """Kill a collector that was told to stop and hangs."""
        if self._stopped_s is not None and time.monotonic() > self._stopped_s + END_TIMEOUT_S:
            self._process.kill()

    def _ended(self) -> None:
        self._end(GONE_TIMEOUT_S)
        if self._stopped_s is None:
            names = ",".join(self._queues)
            log.error("collector of %s ended with %s: starting another", names, self._process.returncode)

    @property
    def pid(self) -> int:
        """Process id of the collector, or of the last one."""
        return self._process.pid

    @property
    def ended(self) -> bool:
        """Whether it ended because it was told to; nothing more will come."""
        return self._stopped_s is not None and not self._open

    def stop(self) -> None:
        """Tell the collector to close its links and send the rest."""
        if self._stopped_s is None:
            self._stopped_s = time.monotonic()
            self._say(Stop())

    def close(self, venue: str) -> None:
        """Let go of a venue; the last one ends the process, politely for END_TIMEOUT_S."""
        self._closed.add(venue)
        if self.is_closed:
            self._end(END_TIMEOUT_S)

    @property
    def is_closed(self) -> bool:
        """Whether all venues let go of it."""
        return bool(self._closed) and self._closed >= set(self._queues)

    def _end(self, timeout_s: float) -> None:
        self._open = False
        self._socket.close()
        try:
            self._process.wait(timeout_s)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()


def next_look_ns(now_ns: int, heard_ns: int) -> int:
    """Return when to look at a collector's socket again that was last heard at a moment.

    The same for all partitions, so that they are woken together: while a flush is due, often; after it, halfway to the
    next, when there may be another.
    """
    half_ns = FLUSH_NS // 2
    is_due = now_ns % FLUSH_NS < half_ns and now_ns - heard_ns > half_ns // 2
    return (now_ns // POLL_NS + 1) * POLL_NS if is_due else (now_ns // half_ns + 1) * half_ns + TRAVEL_NS


def _merge(batches: list[TickBatch]) -> TickBatch:
    if len(batches) == 1:
        return batches[0]
    status = next((batch.status for batch in reversed(batches) if batch.status is not None), None)
    ticks = join([batch.ticks for batch in batches])
    gaps = [gap for batch in batches for gap in batch.gaps]
    return TickBatch(batches[0].venue, ticks, batches[-1].watermark_ns, status, gaps)


class VenuePartition(StatefulSourcePartition[Item, bytes]):
    """One venue of one worker's collector."""

    def __init__(
        self, venue: str, collector: CollectorProcess, stopping: threading.Event, roster: Roster | None = None
    ) -> None:
        self._venue = venue
        self._roster = roster
        self._collector = collector
        self._stopping = stopping
        self._ended = False

    def next_batch(self) -> list[Item]:
        """Return the venue's newest batch, if there is one."""
        if self._stopping.is_set():
            self._collector.stop()
        if self._ended:
            raise StopIteration
        self._collector.follow()
        batch = self._collector.take(self._venue)
        if batch is None:
            if not self._collector.ended:
                return []
            batch = TickBatch(VENUE_CODES[self._venue], np.zeros(0, TICK), END_OF_INPUT)
        self._ended = batch.watermark_ns == END_OF_INPUT
        if self._roster is not None and not self._ended:
            batch.let_go = self._roster.let_go(batch.watermark_ns)
        return [(self._venue, batch)]

    def next_awake(self) -> datetime:
        """Return when to look again."""
        return datetime.fromtimestamp(self._collector.look_ns() / 1e9, UTC)

    def snapshot(self) -> bytes:
        """Return how far the trades have been handed out."""
        return self._collector.snapshot(self._venue)

    def close(self) -> None:
        """Let go of the collector; it ends with the last partition of its worker, for they end one after another."""
        self._collector.close(self._venue)


class VenueSource(FixedPartitionedSource[Item, bytes]):
    """All venues of a run; `stop` drains it."""

    def __init__(self, venues: tuple[str, ...], config: CollectorConfig, roster: Roster | None = None) -> None:
        """Describe it; `roster` says which symbols there are while the run goes on, None: those of the config."""
        self._venues = venues
        self._config = config
        self._roster = roster
        self._stopping = threading.Event()
        self._collectors: dict[int, CollectorProcess] = {}
        self._lock = threading.Lock()

    def list_parts(self) -> list[str]:
        """Return the venue names."""
        return list(self._venues)

    def build_part(self, step_id: str, for_part: str, resume_state: bytes | None) -> VenuePartition:
        """Build a venue's partition on the collector of the calling worker, started with its first venue."""
        with self._lock:
            worker = threading.get_ident()
            collector = self._collectors.get(worker)
            if collector is None or collector.is_closed:
                collector = self._collectors[worker] = CollectorProcess(self._config, self._roster)
        collector.serve(for_part, resume_state)
        return VenuePartition(for_part, collector, self._stopping, self._roster)

    def stop(self) -> None:
        """Drain: collectors close their links, what was received flows through, the input ends. Signal-safe."""
        self._stopping.set()
