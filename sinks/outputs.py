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

from market.records import HOT, LetGo, ReleasedTrades, VenueStatus
from market.schema import Bool, Rows
from market.venues import VENUES
from sinks.encode import HOT_ROWS, Spooled, encode, encode_forge, encode_hot, encode_let_go, encode_venues
from sinks.forge_metrics import ForgeMetrics
from sinks.paths import hot_socket, spool_root
from sinks.spool import Appender

OFFER_S: Final = 0.02
"""Newest state is offered to the writer at most this often."""
METRICS_S: Final = 1.0
"""The forge's counters are offered at most this often."""
CLOSE_S: Final = 1.0
"""What the last offer may wait at the end of a run."""

HotItem = Rows | VenueStatus | ReleasedTrades | LetGo


class SpoolSink(DynamicSink[Spooled]):
    """What must not be lost into one spool a worker."""

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
    """HOT rows, VenueStatus, ReleasedTrades and LetGo to the writer: newest state and counters, nothing between."""

    def __init__(
        self,
        data_dir: Path,
        names: Sequence[str],
        clock: Callable[[], float] = time.monotonic,
        wall_ns: Callable[[], int] = time.time_ns,
        *,
        live: bool = True,
    ) -> None:
        """Describe the sink.

        Args:
            data_dir: Where the writer's socket is.
            names: Symbols by code.
            clock: Monotonic seconds.
            wall_ns: UTC epoch nanoseconds.
            live: Whether trades are received now; only then is it counted how late they are released.
        """
        self._data_dir = data_dir
        self._names = names
        self._clock = clock
        self._wall_ns = wall_ns
        self._live = live

    def build(self, step_id: str, worker_index: int, worker_count: int) -> HotPartition:
        """Open this worker's end of the socket."""
        metrics = ForgeMetrics(worker_index, worker_count, live=self._live)
        return HotPartition(hot_socket(self._data_dir), self._names, self._clock, self._wall_ns, metrics)


class HotPartition(StatelessSinkPartition[HotItem]):
    """One worker's newest state: one HOT row a symbol, one status a venue, its forges' counters; and who has left."""

    def __init__(
        self,
        path: Path,
        names: Sequence[str],
        clock: Callable[[], float],
        wall_ns: Callable[[], int],
        metrics: ForgeMetrics,
    ) -> None:
        self._path = str(path)
        self._names = names
        self._clock = clock
        self._wall_ns = wall_ns
        self._metrics = metrics
        self._counted = False
        self._metrics_s = -np.inf
        self._rows: Rows = np.zeros(len(names), HOT)
        self._changed: Bool = np.zeros(len(names), np.bool_)
        self._statuses: dict[int, VenueStatus] = {}
        self._gone: list[str] = []
        self._offered_s = -np.inf
        self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        self._socket.setblocking(False)

    def write_batch(self, items: list[HotItem]) -> None:
        """Keep the newest of each; offer what changed if the last offer is long enough ago."""
        for item in items:
            if isinstance(item, VenueStatus):
                self._statuses[item.venue] = item
                assert len(self._statuses) <= len(VENUES)
            elif isinstance(item, ReleasedTrades):
                self._metrics.add(item, self._wall_ns())
                self._counted = True
            elif isinstance(item, LetGo):
                self._changed[item.symbols] = False
                self._gone += [self._names[symbol] for symbol in item.symbols]
                del self._gone[:-HOT_ROWS]
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
        if self._gone and not self._send(encode_let_go(self._gone, "tk")):
            return False
        self._gone.clear()  # before the rows: one of them may be listed again, under another code
        changed = np.flatnonzero(self._changed)
        for first in range(0, len(changed), HOT_ROWS):
            codes = changed[first : first + HOT_ROWS]
            if not self._send(encode_hot(self._rows[codes], self._names)[0]):
                return False
            self._changed[codes] = False
        if self._statuses and not self._send(encode_venues(list(self._statuses.values()))):
            return False
        self._statuses.clear()
        if self._counted and self._offered_s - self._metrics_s >= METRICS_S:
            if not self._send(encode_forge(self._metrics.fields(self._wall_ns()))):
                return False
            self._counted, self._metrics_s = False, self._offered_s
        return True

    def close(self) -> None:
        """Offer until all is taken, for CLOSE_S at most."""
        self._metrics_s = -np.inf
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
