"""How a venue is reached: budget, token, address, TLS. What all its connections share."""

from __future__ import annotations

import asyncio
import ssl as tls
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Final
from urllib.parse import urlsplit

from connectors import rest
from connectors.budget import Budget
from connectors.clock import Clock
from connectors.pipe import Endpoint
from connectors.transport import Link, OnFrames, open_link
from connectors.venue import Heartbeat, Venue

SHARE: Final = 0.5
"""Part of a venue's connection limit that is used: the rest is for a restart, and for others behind our address."""


@dataclass(frozen=True, slots=True)
class Route:
    """The way to one venue; its connections share the budget.

    Attributes:
        states: How each session on it is: `live` or `down`.
    """

    venue: Venue
    clock: Clock
    budget: Budget
    endpoint: Endpoint | None = None
    context: tls.SSLContext | None = None
    states: dict[object, str] = field(default_factory=dict, compare=False)

    @classmethod
    def to(
        cls, venue: Venue, clock: Clock, endpoint: Endpoint | None = None, context: tls.SSLContext | None = None
    ) -> Route:
        """Return the route to a venue with a budget of its own."""
        most, window_s = venue.LIMITS.connections_per_window
        return cls(venue, clock, Budget(max(1, int(most * SHARE)), window_s), endpoint, context)

    async def open(self, topics: Sequence[str], on_frames: OnFrames) -> tuple[Link, Heartbeat]:
        """Connect, with a fresh token where the venue wants one.

        Raises:
            LinkError: No connection.
            rest.RestError: No token.
            ValueError: The token's reply is not what the venue documents.
        """
        await self.budget.take()
        reply = None
        path = self.venue.handshake()
        if path is not None:
            url = rebase(self.venue.REST_URL, self.endpoint.rest if self.endpoint else None, path)
            reply = await asyncio.to_thread(rest.call, url, post=True, context=self.context)
        base = rebase(self.venue.WS_URL, self.endpoint.ws if self.endpoint else None)
        address, heartbeat = self.venue.endpoint(base, reply, topics)
        return await open_link(address, on_frames, self.clock, self.context), heartbeat


def rebase(url: str, base: str | None, path: str | None = None) -> str:
    """Return `url` with scheme and host of `base`, if given, and with `path`, if given."""
    parts = urlsplit(url)
    if base is not None:
        target = urlsplit(base)
        parts = parts._replace(scheme=target.scheme, netloc=target.netloc)
    if path is None:
        return parts.geturl()
    return f"{parts.scheme}://{parts.netloc}{path}"
