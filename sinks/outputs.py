"""The dataflow's outputs: they hand over and return, whatever state the stores are in.

`SpoolSink` appends what must not be lost to the worker's write-ahead spool; `HotSink` offers newest state to the
writer, conflated. Neither knows a store.
"""

from __future__ import annotations

import select
import socket
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Final

import numpy as np
from bytewax.outputs import DynamicSink, StatelessSinkPartition

from market.records import HOT, VenueStatus
from market.schema import Bool, Rows
from market.venues import VENUES
from sinks.encode import HOT_ROWS, Spooled, encode, encode_hot, encode_venues
from sinks.paths import hot_socket, spool_root
from sinks.spool import Appender

OFFER_S: Final = 0.05
"""Newest state is offered to the writer at most this often."""
CLOSE_S: Final = 1.0
"""What the last offer may wait at the end of a run."""

HotItem = Rows | VenueStatus


class SpoolSink(DynamicSink[Spooled]):
    """StudyBatch, WickBatch, Correlation and Gap into one spool a worker."""

    def __init__(self, data_dir: Path, names: Sequence[str], max_mb: int) -> None:
        """Describe the sink.

        Args:
            data_dir: Where the spools are.
            names: Symbols by code.
            max_mb: Bound of all spools together on disk.
        """
        self._root = spool_root(data_dir)
        self._names = names
        self._max_bytes = max_mb << 20

    def build(self, step_id: str, worker_index: int, worker_count: int) -> SpoolPartition:
        """Begin this worker's spool."""
        return SpoolPartition(Appender(self._root, worker_index, self._max_bytes), self._names)


class SpoolPartition(StatelessSinkPartition[Spooled]):
    """One worker's spool."""

    def __init__(self, appender: Appender, names: Sequence[str]) -> None:
        self._appender = appender
        self._names = names

    def write_batch(self, items: list[Spooled]) -> None:
        """Append items in one write."""
        self._appender.append([encode(item, self._names) for item in items])

    def close(self) -> None:
        """Sync and end the spool."""
        self._appender.close()


class HotSink(DynamicSink[HotItem]):
    """Arrays of HOT rows and VenueStatus to the writer: newest state a symbol and a venue, nothing between."""

    def __init__(self, data_dir: Path, names: Sequence[str], clock: Callable[[], float] = time.monotonic) -> None:
        """Describe the sink.

        Args:
            data_dir: Where the writer's socket is.
            names: Symbols by code.
            clock: Monotonic seconds.
        """
        self._data_dir = data_dir
        self._names = names
        self._clock = clock

    def build(self, step_id: str, worker_index: int, worker_count: int) -> HotPartition:
        """Open this worker's end of the socket."""
        return HotPartition(hot_socket(self._data_dir), self._names, self._clock)


class HotPartition(StatelessSinkPartition[HotItem]):
    """One worker's newest state: one HOT row a symbol, one status a venue."""

    def __init__(self, path: Path, names: Sequence[str], clock: Callable[[], float]) -> None:
        self._path = str(path)
        self._names = names
        self._clock = clock
        self._rows: Rows = np.zeros(len(names), HOT)
        self._changed: Bool = np.zeros(len(names), np.bool_)
        self._statuses: dict[int, VenueStatus] = {}
        self._offered_s = -np.inf
        self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        self._socket.setblocking(False)

    def write_batch(self, items: list[HotItem]) -> None:
        """Keep the newest of each; offer what changed if the last offer is long enough ago."""
        for item in items:
            if isinstance(item, VenueStatus):
                self._statuses[item.venue] = item
                assert len(self._statuses) <= len(VENUES)
            else:
                # Where a symbol repeats, NumPy assigns the last row: the newest.
                self._rows[item["symbol"]] = item
                self._changed[item["symbol"]] = True
        if self._clock() - self._offered_s >= OFFER_S:
            self.offer()

    def offer(self) -> bool:
        """Send what changed; keep what the writer does not take now.

        Returns:
            Whether everything was taken.
        """
        self._offered_s = self._clock()
        changed = np.flatnonzero(self._changed)
        for first in range(0, len(changed), HOT_ROWS):
            codes = changed[first : first + HOT_ROWS]
            if not self._send(encode_hot(self._rows[codes], self._names)[0]):
                return False
            self._changed[codes] = False
        if self._statuses and not self._send(encode_venues(list(self._statuses.values()))):
            return False
        self._statuses.clear()
        return True

    def close(self) -> None:
        """Offer until all is taken, for CLOSE_S at most."""
        deadline = time.monotonic() + CLOSE_S
        while not self.offer() and (left := deadline - time.monotonic()) > 0:
            select.select([], [self._socket], [], min(left, 0.01))
            time.sleep(0.001)
        self._socket.close()

    def _send(self, message: bytes) -> bool:
        try:
            self._socket.sendto(message, self._path)
        except (BlockingIOError, FileNotFoundError, ConnectionError, OSError):
            return False
        return True
