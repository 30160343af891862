"""The Bytewax source over live venues or the simulator: one partition a venue, one collector process a worker.

Delivery: live sockets cannot rewind; a restart resumes with what the venues send next.
"""

from __future__ import annotations

import logging
import socket
import subprocess
import sys
import threading
from collections import deque
from datetime import UTC, datetime, timedelta
from typing import Final

import numpy as np
from bytewax.inputs import FixedPartitionedSource, StatefulSourcePartition

from connectors.pipe import BatchReader, CollectorConfig, Command, Serve, Stop, encode_line
from market.schema import END_OF_INPUT, TICK, TickBatch, join
from market.venues import VENUE_CODES

POLL: Final = timedelta(milliseconds=3)
"""Longest sleep of an idle partition. The partitions of the step share a fate: at an epoch's end all wait for all."""
READ_BYTES: Final = 1 << 20
QUEUED_ROWS: Final = 200_000
"""Ticks read from a collector and not handed out yet; above it the collector's own backlog fills instead."""
END_TIMEOUT_S: Final = 5.0

Item = tuple[str, TickBatch]
"""Venue name and batch: keyed for the sequencer."""

log = logging.getLogger("mie.source")


class CollectorProcess:
    """A collector and our end of the socket to it. Belongs to one worker thread."""

    def __init__(self, config: CollectorConfig) -> None:
        self._config = config
        self._stopped = False
        self._queues: dict[str, deque[TickBatch]] = {}
        self._queued = 0
        self._start()

    def _start(self) -> None:
        self._socket, theirs = socket.socketpair()
        with theirs:
            self._process = subprocess.Popen(
                [sys.executable, "-m", "connectors.collector", str(theirs.fileno())], pass_fds=[theirs.fileno()]
            )
        self._socket.sendall(encode_line(self._config) + b"\n")
        for venue in self._queues:
            self._say(Serve(venue))
        self._socket.setblocking(False)
        self._reader = BatchReader()
        self._open = True

    def _say(self, command: Command) -> None:
        try:
            self._socket.send(encode_line(command) + b"\n")
        except OSError:
            log.debug("the collector is gone; its successor will be told")

    def serve(self, venue: str) -> None:
        """Let the collector connect to a venue."""
        self._queues[venue] = deque()
        self._say(Serve(venue))

    def take(self, venue: str) -> TickBatch | None:
        """Return what has come from a venue since the last time as one batch; None if nothing has."""
        if self._open and self._queued < QUEUED_ROWS:
            self._read()
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
            return
        except OSError:
            data = b""
        if not data:
            self._ended()
        for batch in self._reader.feed(data):
            self._queued += batch.ticks.size
            name = next(name for name in self._queues if VENUE_CODES[name] == batch.venue)
            self._queues[name].append(batch)

    def _ended(self) -> None:
        self._open = False
        self.close()
        if not self._stopped:
            log.error("collector of %s ended with %s: starting another", ",".join(self._queues), self._process.poll())
            self._start()

    @property
    def ended(self) -> bool:
        """Whether it ended because it was told to; nothing more will come."""
        return self._stopped and not self._open

    def stop(self) -> None:
        """Tell the collector to close its links and send the rest."""
        if not self._stopped:
            self._stopped = True
            self._say(Stop())

    def close(self) -> None:
        """End the process: politely for END_TIMEOUT_S."""
        self._socket.close()
        try:
            self._process.wait(END_TIMEOUT_S)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()


def _merge(batches: list[TickBatch]) -> TickBatch:
    if len(batches) == 1:
        return batches[0]
    status = next((batch.status for batch in reversed(batches) if batch.status is not None), None)
    ticks = join([batch.ticks for batch in batches])
    return TickBatch(batches[0].venue, ticks, batches[-1].watermark_ns, status)


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
        """End the collector; the first partition closed does it for all of its worker."""
        self._collector.close()


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
            if collector is None:
                collector = self._collectors[worker] = CollectorProcess(self._config)
        collector.serve(for_part)
        return VenuePartition(for_part, collector, self._stopping)

    def stop(self) -> None:
        """Drain: collectors close their links, what was received flows through, the input ends. Signal-safe."""
        self._stopping.set()
