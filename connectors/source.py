"""The Bytewax source over live venues or the simulator: one partition a venue, one collector process a worker.

Delivery: live sockets cannot rewind; a restart resumes with what the venues send next.
"""

from __future__ import annotations

import logging
import socket
import subprocess
import sys
import threading
import time
from collections import deque
from datetime import UTC, datetime, timedelta
from typing import Final

import numpy as np
from bytewax.inputs import FixedPartitionedSource, StatefulSourcePartition

from connectors.pipe import BatchReader, CollectorConfig, Command, Serve, Stop, encode_line
from market.schema import END_OF_INPUT, TICK, TickBatch, join
from market.venues import VENUE_CODES, VENUES

POLL: Final = timedelta(milliseconds=3)
"""Longest sleep of an idle partition. The partitions of the step share a fate: at an epoch's end all wait for all."""
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

    def __init__(self, config: CollectorConfig) -> None:
        self._config = config
        self._stopped_s: float | None = None
        self._closed: set[str] = set()
        self._queues: dict[str, deque[TickBatch]] = {}
        self._queued = 0
        self._start()

    def _start(self) -> None:
        self._started_s = time.monotonic()
        self._socket, theirs = socket.socketpair()
        with theirs:
            self._process = subprocess.Popen(
                [sys.executable, "-m", "connectors.collector", str(theirs.fileno())], pass_fds=[theirs.fileno()]
            )
        self._reader = BatchReader()
        self._open = True
        self._say(self._config)
        for venue in self._queues:
            self._say(Serve(venue))

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

    def serve(self, venue: str) -> None:
        """Let the collector connect to a venue."""
        self._queues[venue] = deque()
        self._say(Serve(venue))

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
        batch = _merge(batches)
        self._queued -= batch.ticks.size
        return batch

    def _read(self) -> None:
        try:
            data = self._socket.recv(READ_BYTES)
        except BlockingIOError:
            self._hurry()
            return
        except OSError:
            data = b""
        if not data:
            self._ended()
        for batch in self._reader.feed(data):
            self._queued += batch.ticks.size
            self._queues[VENUES[batch.venue]].append(batch)

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


def _merge(batches: list[TickBatch]) -> TickBatch:
    if len(batches) == 1:
        return batches[0]
    status = next((batch.status for batch in reversed(batches) if batch.status is not None), None)
    ticks = join([batch.ticks for batch in batches])
    gaps = [gap for batch in batches for gap in batch.gaps]
    return TickBatch(batches[0].venue, ticks, batches[-1].watermark_ns, status, gaps)


class VenuePartition(StatefulSourcePartition[Item, None]):
    """One venue of one worker's collector."""

    def __init__(self, venue: str, collector: CollectorProcess, stopping: threading.Event) -> None:
        self._venue = venue
        self._collector = collector
        self._stopping = stopping
        self._ended = False

    def next_batch(self) -> list[Item]:
        """Return the venue's newest batch, if there is one."""
        if self._stopping.is_set():
            self._collector.stop()
        if self._ended:
            raise StopIteration
        batch = self._collector.take(self._venue)
        if batch is None:
            if not self._collector.ended:
                return []
            batch = TickBatch(VENUE_CODES[self._venue], np.zeros(0, TICK), END_OF_INPUT)
        self._ended = batch.watermark_ns == END_OF_INPUT
        return [(self._venue, batch)]

    def next_awake(self) -> datetime:
        """Return when to look again: POLL from now."""
        return datetime.now(UTC) + POLL

    def snapshot(self) -> None:
        """Return nothing: a socket has no position."""

    def close(self) -> None:
        """Let go of the collector; it ends with the last partition of its worker, for they end one after another."""
        self._collector.close(self._venue)


class VenueSource(FixedPartitionedSource[Item, None]):
    """All venues of a run; `stop` drains it."""

    def __init__(self, venues: tuple[str, ...], config: CollectorConfig) -> None:
        self._venues = venues
        self._config = config
        self._stopping = threading.Event()
        self._collectors: dict[int, CollectorProcess] = {}
        self._lock = threading.Lock()

    def list_parts(self) -> list[str]:
        """Return the venue names."""
        return list(self._venues)

    def build_part(self, step_id: str, for_part: str, resume_state: None) -> VenuePartition:
        """Build a venue's partition on the collector of the calling worker, started with its first venue."""
        with self._lock:
            worker = threading.get_ident()
            collector = self._collectors.get(worker)
            if collector is None or collector.is_closed:
                collector = self._collectors[worker] = CollectorProcess(self._config)
        collector.serve(for_part)
        return VenuePartition(for_part, collector, self._stopping)

    def stop(self) -> None:
        """Drain: collectors close their links, what was received flows through, the input ends. Signal-safe."""
        self._stopping.set()
