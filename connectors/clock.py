"""Our clock at the socket: wall time that never stands still or goes back."""

from __future__ import annotations

import time
from collections.abc import Callable

Clock = Callable[[], int]
"""Returns now, int64 UTC epoch nanoseconds."""


class ReceiveClock:
    """Wall clock in nanoseconds, every answer later than the one before, also when the system's clock is set back.

    A watermark promises that nothing as old or older will follow, and comes after all that was stamped before it.
    """

    def __init__(self, wall_ns: Clock = time.time_ns) -> None:
        self._wall_ns = wall_ns
        self._last_ns = 0

    def __call__(self) -> int:
        """Return now; at least 1 ns after the answer before."""
        self._last_ns = max(self._last_ns + 1, self._wall_ns())
        return self._last_ns
