"""Our clock at the socket: wall time that never goes back."""

from __future__ import annotations

import time
from collections.abc import Callable

Clock = Callable[[], int]
"""Returns now, int64 UTC epoch nanoseconds."""


class ReceiveClock:
    """Wall clock in nanoseconds, held still while the system's clock is set back.

    A watermark promises that nothing older will follow, so receive times must not decrease.
    """

    def __init__(self, wall_ns: Clock = time.time_ns) -> None:
        self._wall_ns = wall_ns
        self._last_ns = 0

    def __call__(self) -> int:
        """Return now; at least as late as the answer before."""
        self._last_ns = max(self._last_ns, self._wall_ns())
        return self._last_ns
