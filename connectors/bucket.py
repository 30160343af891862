"""How fast we may ask a venue's REST: a token bucket, held back when the venue says so."""

from __future__ import annotations

import asyncio


class Bucket:
    """So many requests at once at most, and so many in a time in the long run."""

    def __init__(self, requests: int, per_s: float) -> None:
        """Start full: `requests` in `per_s` seconds."""
        self._most = float(requests)
        self._rate = requests / per_s
        self._left = self._most
        self._at_s = 0.0
        self._not_before_s = 0.0

    async def take(self) -> None:
        """Wait until a request may be made, and count it."""
        loop = asyncio.get_running_loop()
        while True:
            now_s = loop.time()
            self._left = min(self._most, self._left + max(0.0, now_s - self._at_s) * self._rate)
            self._at_s = max(self._at_s, now_s)
            wait_s = max(self._not_before_s - now_s, (1.0 - self._left) / self._rate)
            if wait_s <= 0.0:
                self._left -= 1.0
                return
            await asyncio.sleep(wait_s)

    def hold(self, wait_s: float) -> None:
        """Make no request for so long, and then one at a time: the venue has had enough."""
        self._not_before_s = max(self._not_before_s, asyncio.get_running_loop().time() + wait_s)
        self._left, self._at_s = 0.0, self._not_before_s
