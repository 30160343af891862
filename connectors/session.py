"""One connection's life: connect, subscribe, check the answers, beat, watch for silence, reconnect.

Generic over the venue tables; the only code that knows when to talk. Frames go out unread: the collector decodes them
in batches and hands control frames back to `on_control`.
"""

from __future__ import annotations

import asyncio
import logging
import random
import ssl as tls
from collections.abc import Sequence
from typing import Final
from urllib.parse import urlsplit

from connectors import rest
from connectors.clock import Clock
from connectors.pipe import Endpoint
from connectors.retry import HEALTHY_S, backoff, least_wait_s
from connectors.transport import Link, LinkError, open_link
from connectors.venue import Venue
from market.schema import VenueCounters

ACK_TIMEOUT_S: Final = 10.0
WELCOME_TIMEOUT_S: Final = 10.0
BEAT_S: Final = 0.25
"""How often deadlines are looked at."""

log = logging.getLogger("mie.session")


class Session:
    """One connection to a venue, kept alive until cancelled.

    Attributes:
        frames: Messages received and not yet taken, in order, with their receive times. Bounded by the collector,
            which takes them every few milliseconds and pauses the link when it is behind.
    """

    def __init__(
        self,
        venue: Venue,
        topics: Sequence[str],
        counters: VenueCounters,
        *,
        clock: Clock,
        rng: random.Random,
        endpoint: Endpoint | None = None,
        context: tls.SSLContext | None = None,
    ) -> None:
        self.venue = venue
        self.frames: list[tuple[list[bytes], int]] = []
        self._topics = topics
        self._counters = counters
        self._clock = clock
        self._rng = rng
        self._endpoint = endpoint
        self._context = context
        self._link: Link | None = None
        self._welcome = asyncio.Event()
        self._awaited: dict[str, int] = {}  # request key -> answers to come
        self._reading = asyncio.Event()
        self._reading.set()
        self._pinged_s: float | None = None
        self._ponged = True
        self._ids = 1

    async def run(self) -> None:
        """Connect and reconnect until cancelled."""
        waits = backoff(self._rng)
        loop = asyncio.get_running_loop()
        try:
            while True:
                await self._reading.wait()  # a link opened meanwhile would be read without bound
                started_s = loop.time()
                code = await self._live_once()
                if loop.time() - started_s > HEALTHY_S:
                    waits = backoff(self._rng)
                self._counters.reconnects += 1
                await asyncio.sleep(max(next(waits), least_wait_s(code)))
        finally:
            if self._link is not None:
                await self._link.close()

    async def _live_once(self) -> int:
        """Live through one connection; return the code it ended with, 0 for none."""
        try:
            await self._connect()
            self._state("live")
            await self._watch()
        except (LinkError, rest.RestError, ValueError) as error:
            self._state("down", str(error))
            if self._link is not None:
                self._link.abort()
            return getattr(error, "code", 0) or getattr(error, "status", 0)
        return 0

    async def _connect(self) -> None:
        self._welcome.clear()
        self._awaited.clear()
        self._pinged_s = None
        reply = None
        path = self.venue.handshake()
        if path is not None:
            url = rebase(self.venue.REST_URL, self._endpoint.rest if self._endpoint else None, path)
            reply = await asyncio.to_thread(rest.call, url, post=True, context=self._context)
        base = rebase(self.venue.WS_URL, self._endpoint.ws if self._endpoint else None)
        self._link = await open_link(
            self.venue.endpoint(base, reply, self._topics), self._on_frames, self._clock, self._context
        )
        if not self._reading.is_set():
            self._link.pause()

    async def _watch(self) -> None:
        """Subscribe and beat until the link ends; raises LinkError then."""
        link = self._link
        assert link is not None
        subscribing = asyncio.create_task(self._subscribe(link))
        try:
            while True:
                await asyncio.wait([link.closed], timeout=BEAT_S)
                if link.closed.done():
                    raise link.closed.result()
                if subscribing.done() and (error := subscribing.exception()):
                    raise error
                self._beat(link)
        finally:
            subscribing.cancel()

    async def _subscribe(self, link: Link) -> None:
        if self.venue.waits_for_welcome():
            try:
                await asyncio.wait_for(self._welcome.wait(), WELCOME_TIMEOUT_S)
            except TimeoutError:
                text = f"no welcome within {WELCOME_TIMEOUT_S:.0f} s"
                raise LinkError(text) from None
        requests = self.venue.subscribe(self._topics, self._ids)
        self._ids += len(requests)
        for request in requests:
            self._awaited[request.key] = self._awaited.get(request.key, 0) + request.acks
            link.send(request.frame)
            await asyncio.sleep(1.0 / self.venue.LIMITS.messages_per_s)
        await asyncio.sleep(ACK_TIMEOUT_S)
        if self.unanswered:
            name = self.venue.NAME
            log.warning("%s: %d subscriptions not answered within %.0f s", name, self.unanswered, ACK_TIMEOUT_S)

    def _beat(self, link: Link) -> None:
        now_s = asyncio.get_running_loop().time()
        beat = self.venue.HEARTBEAT
        if not self._reading.is_set():  # what the venue says waits in the socket: its silence proves nothing
            link.heard_s, self._ponged = now_s, True
        if now_s - link.heard_s > beat.silence_s:
            text = f"no frame for {beat.silence_s:.0f} s"
            raise LinkError(text)
        if beat.ping is None:
            return
        if self._pinged_s is None:
            self._pinged_s = now_s - beat.every_s * self._rng.random()  # venues are not pinged in step
            self._ponged = True
        waited_s = now_s - self._pinged_s
        if not self._ponged and waited_s > beat.pong_s:
            text = f"no answer to a ping within {beat.pong_s:.0f} s"
            raise LinkError(text)
        if self._ponged and waited_s >= beat.every_s:
            self._pinged_s, self._ponged = now_s, False
            link.send(beat.ping)

    def _on_frames(self, messages: list[bytes], receive_ns: int) -> None:
        self.frames.append((messages, receive_ns))
        self._counters.messages += len(messages)
        self._counters.last_receive_ns = receive_ns

    def on_control(self, frame: bytes) -> None:
        """Act on a frame that was not market data."""
        reply = self.venue.answer(frame)
        if reply is not None:
            if self._link is not None:
                self._link.send(reply)
            return
        control = self.venue.control(frame)
        if control is None:
            return
        match control.kind:
            case "ack":
                self._answered(control.key)
            case "pong":
                self._ponged = True
            case "welcome":
                self._welcome.set()
            case "refusal":
                self._answered(control.key)
                self._counters.refused += 1
                log.warning(
                    "%s refused %s: %s %s", self.venue.NAME, control.native or "a topic", control.code, control.text
                )
            case "notice" | "error":
                log.warning("%s says: %s %s", self.venue.NAME, control.code, control.text)

    @property
    def unanswered(self) -> int:
        """Answers to subscriptions that are still to come."""
        return sum(self._awaited.values())

    def pause(self) -> None:
        """Stop reading from the socket, also from those of later connections."""
        self._reading.clear()
        if self._link is not None:
            self._link.pause()

    def resume(self) -> None:
        """Read again."""
        self._reading.set()
        if self._link is not None:
            self._link.resume()

    def _answered(self, key: str) -> None:
        """Count an answer off its request, or off the oldest one if it repeats no id."""
        if key not in self._awaited:
            key = next(iter(self._awaited), "")
        left = self._awaited.get(key, 0) - 1
        if left > 0:
            self._awaited[key] = left
        else:
            self._awaited.pop(key, None)

    def _state(self, state: str, reason: str = "") -> None:
        if self._counters.state != state:
            level = logging.INFO if state == "live" else logging.WARNING
            log.log(level, "%s is %s%s", self.venue.NAME, state, f": {reason}" if reason else "")
        self._counters.state = state


def rebase(url: str, base: str | None, path: str | None = None) -> str:
    """Return `url` with scheme and host of `base`, if given, and with `path`, if given."""
    parts = urlsplit(url)
    if base is not None:
        target = urlsplit(base)
        parts = parts._replace(scheme=target.scheme, netloc=target.netloc)
    if path is None:
        return parts.geturl()
    return f"{parts.scheme}://{parts.netloc}{path}"
