"""Finds the hot store of a running flow and keeps reading it: what the launcher shows, and what a health check asks.

It reads the stores as any consumer would; the flow itself is not asked.
"""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Callable
from typing import Final

from redis import Redis, RedisError
from redis.backoff import NoBackoff
from redis.retry import Retry

from flows import status
from market.settings import Settings
from sinks.stores import StoreError, Stores, resolve_stores

READ_S: Final = 2.0
"""Limit of one read of the store."""
RATE_S: Final = 5.0
"""What a rate spans: venues publish once a second, so two neighbouring reads would show 0 or double."""
RATE_SNAPSHOTS: Final = 32
"""Bound of the snapshots kept for it; reads come once a second or less often."""


def find(settings: Settings) -> Stores | None:
    """Return the stores: configured, else the embedded ones that run; None before they do."""
    try:
        return Stores(*resolve_stores(settings))
    except StoreError:
        return None


def connect(url: str) -> Redis:
    """Return a connection that answers with text within READ_S or fails; it connects on first use."""
    return Redis.from_url(
        url,
        decode_responses=True,
        socket_timeout=READ_S,
        socket_connect_timeout=READ_S,
        retry=Retry(NoBackoff(), 0),
    )


class Watch:
    """The newest snapshot of a run and its rates.

    Attributes:
        settings: The run's settings.
        stores: Where the stores are, once one has answered.
        snapshot: The newest snapshot, None before the first.
        rate: Messages a second by venue.
        trouble: Why the newest read failed, one line; empty if it did not.
    """

    def __init__(self, settings: Settings, clock: Callable[[], float] = time.monotonic) -> None:
        """Watch the stores that `settings` name.

        Args:
            settings: The run's settings.
            clock: Monotonic seconds.
        """
        self.stores: Stores | None = None
        self.snapshot: status.Snapshot | None = None
        self.rate: dict[str, float] = {}
        self.trouble = ""
        self.settings = settings
        self._clock = clock
        self._found: Stores | None = None
        self._connection: Redis | None = None
        self._recent: deque[status.Snapshot] = deque(maxlen=RATE_SNAPSHOTS)

    def poll(self) -> None:
        """Read the store once; never raises for a store that is away."""
        # Asked again after every failure: embedded stores that restart may have moved.
        if self._connection is None:
            found = find(self.settings)
            if found is None:
                return
            self._found, self._connection = found, connect(found.redis)
        try:
            snapshot = status.read(self._connection, self._clock())
        except RedisError as error:
            self._away(error)
            return
        self.stores, self.snapshot, self.trouble = self._found, snapshot, ""
        self._remember(snapshot)
        self.rate = status.rates(self._recent[0], snapshot)

    def close(self) -> None:
        """Close the connection."""
        if self._connection is not None:
            self._connection.close()
            self._connection = None

    def _remember(self, snapshot: status.Snapshot) -> None:
        # A rate needs an earlier count of every venue: keep no older snapshot that lacks one, but the newest.
        while len(self._recent) > 1 and len(self._recent[0].venues) < len(snapshot.venues):
            self._recent.popleft()
        self._recent.append(snapshot)
        while len(self._recent) > 2 and self._recent[1].at_s <= snapshot.at_s - RATE_S:
            self._recent.popleft()

    def _away(self, error: RedisError) -> None:
        self.close()
        self.rate = {}
        self._recent.clear()
        # Before the first answer a published address may be that of a run that ended; afterwards silence is news.
        if self.stores or self.settings.redis_url:
            self.trouble = f"the hot store does not answer: {type(error).__name__}"
