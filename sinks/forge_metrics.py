"""What a dataflow worker's forges have done since its start, as counters: verdicts, and how late trades came out.

Latency is what a release takes beyond W: wall clock when it is handed to the newest-state sink, less the trade's
receive time and W. Up to 10 ms of it are the forge's quantum; the rest is watermarks, batches and waiting for the
processor. It is only ever counted: no result depends on it.
"""

from __future__ import annotations

from typing import Final

import numpy as np

from market.records import VERDICTS, ReleasedTrades
from market.schema import I64

BUCKETS_MS: Final = (1, 2, 5, 8, 10, 15, 20, 30, 50, 100, 200, 500, 1000)
_EDGES_NS: Final = np.array(BUCKETS_MS, np.int64) * 1_000_000


class ForgeMetrics:
    """Counters of one worker. Cost: a few NumPy calls a batch of trades."""

    def __init__(self, worker: int, workers: int, *, live: bool) -> None:
        """Begin at zero.

        Args:
            worker: This worker.
            workers: How many there are.
            live: Whether receive times are of now; in a replay latencies mean nothing and are not counted.
        """
        self._worker = worker
        self._workers = workers
        self._live = live
        self._verdicts: I64 = np.zeros(len(VERDICTS), np.int64)
        self._readmitted = 0
        self._buckets: I64 = np.zeros(_EDGES_NS.size + 1, np.int64)
        self._sum_ns = 0

    def add(self, trades: ReleasedTrades, now_ns: int) -> None:
        """Count trades that were released by `now_ns`, UTC epoch nanoseconds."""
        self._verdicts += trades.verdicts
        self._readmitted += trades.readmitted
        if self._live and trades.due_ns.size:
            late_ns = np.maximum(now_ns - trades.due_ns, 0)  # another machine's clock may be ahead
            self._buckets += np.bincount(np.searchsorted(_EDGES_NS, late_ns), minlength=self._buckets.size)
            self._sum_ns += int(late_ns.sum())

    def fields(self, now_ns: int) -> dict[str, int]:
        """Return the fields of `metrics:forge:*` as in docs/redis.md; buckets are cumulative, as Prometheus wants."""
        counted = {
            "worker": self._worker,
            "workers": self._workers,
            "time_ns": now_ns,
            **dict(zip(VERDICTS, self._verdicts.tolist(), strict=True)),
            "readmitted": self._readmitted,
        }
        if self._live:
            up_to = np.cumsum(self._buckets).tolist()
            counted |= {f"le_{ms / 1000:g}": up_to[place] for place, ms in enumerate(BUCKETS_MS)}
            counted |= {"le_inf": up_to[-1], "sum_ns": self._sum_ns}
        return counted
