"""How often something may be done: at most so many times in any window. Connections to a venue, requests on a link."""

from __future__ import annotations

import asyncio
from collections import deque


class Budget:
    """At most `most` takings in any `window_s` seconds of the running loop; those beyond it wait their turn.

    Shared by all that the limit counts together. Memory: `most` times.
    """

    def __init__(self, most: int, window_s: float) -> None:
        self._window_s = window_s
        self._taken_s: deque[float] = deque(maxlen=most)  # full: the oldest must be out of the window first

    async def take(self) -> float:
        """Wait until there is one left, take it and return when, in loop time.

        Waiters are served in order; cancelling one costs nothing.
        """
        loop = asyncio.get_running_loop()
        while (wait_s := self._wait_s(loop.time())) > 0:
            await asyncio.sleep(wait_s)
        self._taken_s.append(loop.time())
        return self._taken_s[-1]

    def _wait_s(self, now_s: float) -> float:
        if len(self._taken_s) < (self._taken_s.maxlen or 0):
            return 0.0
        return self._taken_s[0] + self._window_s - now_s
