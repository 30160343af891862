"""One venue's clock against ours: offset from the lower envelope of receive - exchange time.

A one-way delay only ever adds to `receive_ns - exchange_ns`, so the least value seen lately is the clocks' offset plus
the least delay. It holds no clock of its own; every result depends on the rows given, not on how they were batched.
"""

from __future__ import annotations

from collections import deque
from typing import Final

import numpy as np

from market.schema import I64, Bool

BUCKET_NS: Final = 1_000_000_000
WINDOW_BUCKETS: Final = 30
"""How many past buckets hold the envelope down: 100 ppm of drift make 3 ms of error over it."""
STEP_NS: Final = 250_000_000
STEP_BUCKETS: Final = 3
"""An envelope this far above the old one for this many buckets in a row is a stepped clock, not a slow link."""
UNKNOWN_NS: Final = int(np.iinfo(np.int64).max)


class ClockKernel:
    """Offset estimator of one venue: a running minimum over a window of one-second buckets of receive time."""

    def __init__(self) -> None:
        self._bucket = -1
        self._bucket_min: int | None = None
        self._past: deque[int] = deque(maxlen=WINDOW_BUCKETS)

    @property
    def offset_ns(self) -> int:
        """What is added to the venue's stamps now; 0 before the first stamp."""
        minima = [*self._past] if self._bucket_min is None else [*self._past, self._bucket_min]
        return min(minima, default=0)

    @property
    def error_ns(self) -> int:
        """Uncertainty of the offset: how far a typical bucket's least delay lies above it."""
        return int(np.median(self._past)) - min(self._past) if self._past else 0

    def correct(self, exchange_ns: I64, receive_ns: I64, stamped: Bool, old: Bool | None = None) -> I64:
        """Return the event time of n rows, int64, never after `receive_ns`.

        Args:
            exchange_ns: n int64, the venue's stamps.
            receive_ns: n int64, non-decreasing.
            stamped: n bool; rows without a stamp get `receive_ns`.
            old: n bool, rows known to be history; they teach nothing, and before the first other row their stamps are
                taken as they are.
        """
        event_ns = receive_ns.copy()
        rows = np.flatnonzero(stamped)
        if not rows.size:
            return event_ns
        delay = receive_ns[rows] - exchange_ns[rows]
        if old is not None:
            delay[old[rows]] = UNKNOWN_NS
        buckets = receive_ns[rows] // BUCKET_NS
        cuts = np.flatnonzero(np.diff(buckets)) + 1
        offset = np.empty_like(delay)
        for start, stop in zip((0, *cuts), (*cuts, rows.size), strict=True):
            offset[start:stop] = self._envelope(int(buckets[start]), delay[start:stop])
        offset[offset == UNKNOWN_NS] = 0
        event_ns[rows] = np.minimum(exchange_ns[rows] + offset, receive_ns[rows])
        return event_ns

    def _envelope(self, bucket: int, delay: I64) -> I64:
        """Running envelope of rows of one bucket; each row sees the rows up to itself."""
        if bucket != self._bucket:
            self._close_bucket()
            self._bucket = bucket
        floor = min(self._past, default=UNKNOWN_NS)
        if self._bucket_min is not None:
            floor = min(floor, self._bucket_min)
        running = np.minimum(np.minimum.accumulate(delay), floor)
        low = int(delay.min())
        if low != UNKNOWN_NS:
            self._bucket_min = low if self._bucket_min is None else min(self._bucket_min, low)
        return running

    def _close_bucket(self) -> None:
        if self._bucket_min is None:
            return
        self._past.append(self._bucket_min)
        self._bucket_min = None
        recent = list(self._past)[-STEP_BUCKETS:]
        older = list(self._past)[:-STEP_BUCKETS]
        if older and min(recent) > min(older) + STEP_NS:
            self._past = deque(recent, maxlen=WINDOW_BUCKETS)

    def snapshot(self) -> tuple[int, int | None, tuple[int, ...]]:
        """Return the state, small and immutable."""
        return self._bucket, self._bucket_min, tuple(self._past)

    @classmethod
    def restore(cls, state: tuple[int, int | None, tuple[int, ...]]) -> ClockKernel:
        """Return the kernel that `snapshot` described."""
        kernel = cls()
        kernel._bucket, kernel._bucket_min, past = state
        kernel._past.extend(past)
        return kernel
