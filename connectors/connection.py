"""One connection's life: open, subscribe, match the answers, beat, watch for silence, end.

It knows when to talk; what to say is the venue's. What comes after its end is the session's business. Frames go out
unread: the collector decodes them in batches, hands control frames back to `on_control` and reports ticks by `heard`.
"""

from __future__ import annotations

import asyncio
import logging
import random
from collections.abc import Sequence
from typing import Any, Final, NoReturn, Protocol

from connectors.answers import Answers, Open
from connectors.budget import Budget
from connectors.route import Route
from connectors.transport import Link, LinkError
from connectors.venue import Control, Request
from market.schema import I64, VenueCounters

ACK_TIMEOUT_S: Final = 10.0
WELCOME_TIMEOUT_S: Final = 10.0
BEAT_S: Final = 0.25
"""How often deadlines are looked at."""
PACE: Final = 0.8
"""Part of a venue's message rate that requests use: pings and pongs count too."""

log = logging.getLogger("mie.session")

_Errand = tuple[Request, frozenset[str], bool]
"""A request, the native symbols it is about, whether it subscribes."""


class Owner(Protocol):
    """What a connection asks and tells the session it belongs to."""

    native_of: dict[str, str]
    """topic -> native symbol, of all that it wants"""
    reading: asyncio.Event
    """Set unless the dataflow is behind and sockets wait."""
    patience_s: float
    """How long a link may go without a tick."""

    def groups(self) -> list[list[str]]:
        """Return the topics to subscribe; those of one group may share a request."""

    def opened(self, connection: Connection) -> None:
        """Know that it is open."""

    def accepted(self, answered: Open) -> None:
        """Know that a request was acknowledged in full."""

    def refused(self, connection: Connection, answered: Open | None, control: Control) -> None:
        """Know that the venue refused a topic, or a whole request."""

    def noticed(self, connection: Connection) -> None:
        """Know that the venue is about to close the connection."""


class Connection:
    """One connection of a session.

    Attributes:
        frames: Messages received and not yet taken, in order, with their receive times. Bounded by the collector,
            which takes them every few milliseconds and pauses the link when it is behind.
        asked_ns: native symbol -> when it was last asked for; those let go are not in it.
        opened_s: Loop time of the opening; None before.
        delivered: Whether a tick came over it.
        seen: Codes of symbols with a tick since it was last emptied; None while nobody asks, during no handover.
    """

    def __init__(self, route: Route, owner: Owner, counters: VenueCounters, rng: random.Random) -> None:
        self.frames: list[tuple[list[bytes], int]] = []
        self.asked_ns: dict[str, int] = {}
        self.opened_s: float | None = None
        self.delivered = False
        self.seen: set[int] | None = None
        self._route = route
        self._venue = route.venue
        self._owner = owner
        self._counters = counters
        self._rng = rng
        self._link: Link | None = None
        self._heartbeat = route.venue.HEARTBEAT
        self._welcome = asyncio.Event()
        self._answers = Answers()
        self._outbox: asyncio.Queue[_Errand] = asyncio.Queue()  # a handful a topic
        self._sending = False
        self._ids = 1
        self._data_s = 0.0
        self._ticked = False
        self._pinged_s: float | None = None
        self._ponged = True

    async def run(self) -> NoReturn:
        """Live until the link ends, and raise why.

        Raises:
            LinkError: No connection, it was lost, or it is not worth keeping.
            RestError: No token.
            ValueError: The token's reply is not what the venue documents.
        """
        topics = [topic for group in self._owner.groups() for topic in group]
        link, self._heartbeat = await self._route.open(topics, self._on_frames)
        self._link = link
        if not self._owner.reading.is_set():
            link.pause()
        self.opened_s = self._data_s = asyncio.get_running_loop().time()
        self._owner.opened(self)
        for group in self._owner.groups():  # once more: they may have changed while it opened
            self.ask(group)
        sending = asyncio.create_task(self._send(link))
        ends: tuple[asyncio.Future[Any], ...] = (link.closed, sending)
        try:
            while True:
                await asyncio.wait(ends, timeout=BEAT_S, return_when=asyncio.FIRST_COMPLETED)
                if link.closed.done():
                    raise link.closed.result()
                if sending.done():
                    sending.result()
                self._beat(link)
        except LinkError:
            link.abort()
            raise
        finally:
            sending.cancel()

    # requests

    def ask(self, topics: Sequence[str]) -> None:
        """Subscribe to topics; nothing if it is not open, then `Owner.groups` holds them."""
        self._queue(self._venue.subscribe(topics, self._ids), subscribes=True)

    def leave(self, topics: Sequence[str]) -> None:
        """Unsubscribe from topics."""
        for topic in topics:
            self.asked_ns.pop(self._owner.native_of.get(topic, ""), None)
        self._queue(self._venue.unsubscribe(topics, self._ids), subscribes=False)

    def _queue(self, requests: list[Request], *, subscribes: bool) -> None:
        if self.opened_s is None:
            return
        self._ids += len(requests)
        native_of = self._owner.native_of
        for request in requests:
            natives = frozenset(native_of[topic] for topic in request.topics if topic in native_of)
            self._outbox.put_nowait((request, natives, subscribes))

    async def _send(self, link: Link) -> NoReturn:
        """Send requests at the venue's pace as they come."""
        limits = self._venue.LIMITS
        if self._venue.waits_for_welcome():
            try:
                await asyncio.wait_for(self._welcome.wait(), WELCOME_TIMEOUT_S)
            except TimeoutError:
                text = f"no welcome within {WELCOME_TIMEOUT_S:.0f} s"
                raise LinkError(text) from None
        hourly = Budget(limits.requests_per_hour, 3600.0) if limits.requests_per_hour else None
        while True:
            self._sending = False
            request, natives, subscribes = await self._outbox.get()
            self._sending = True
            if hourly is not None:
                await hourly.take()
            self._sent(request, natives, subscribes=subscribes)
            link.send(request.frame)
            await asyncio.sleep(1.0 / (PACE * limits.messages_per_s))

    def _sent(self, request: Request, natives: frozenset[str], *, subscribes: bool) -> None:
        now_ns, now_s = self._route.clock(), asyncio.get_running_loop().time()
        wanted = (self._owner.native_of.get(topic) for topic in request.topics if subscribes)
        self.asked_ns.update((native, now_ns) for native in wanted if native is not None)
        self._answers.sent(request, natives, now_s, subscribes=subscribes)

    @property
    def unanswered(self) -> int:
        """Answers to requests that are still to come."""
        return self._answers.missing

    @property
    def is_settled(self) -> bool:
        """Whether all was asked for and answered."""
        return bool(self.asked_ns) and self._outbox.empty() and not self._sending and not self._answers.missing

    # deadlines

    def _beat(self, link: Link) -> None:
        now_s = asyncio.get_running_loop().time()
        beat = self._heartbeat
        if not self._owner.reading.is_set():  # what the venue says waits in the socket: its silence proves nothing
            link.heard_s, self._data_s, self._ponged = now_s, now_s, True
        if now_s - link.heard_s > beat.silence_s:
            text = f"no frame for {beat.silence_s:.0f} s"
            raise LinkError(text)
        if self._ticked or not self._owner.native_of:
            self._data_s, self._ticked = now_s, False
        if now_s - self._data_s > self._owner.patience_s:
            text = f"no tick for {self._owner.patience_s:.0f} s"
            raise LinkError(text)
        if late := self._answers.overdue(now_s - ACK_TIMEOUT_S):
            log.warning("%s: %d subscriptions not answered within %.0f s", self._venue.NAME, late, ACK_TIMEOUT_S)
        self._ping(link, now_s)

    def _ping(self, link: Link, now_s: float) -> None:
        beat = self._heartbeat
        if beat.ping is None:
            return
        if self._pinged_s is None:
            self._pinged_s = now_s - beat.every_s * self._rng.random()  # venues are not pinged in step
        waited_s = now_s - self._pinged_s
        if not self._ponged and waited_s > beat.pong_s:
            text = f"no answer to a ping within {beat.pong_s:.0f} s"
            raise LinkError(text)
        if self._ponged and waited_s >= beat.every_s:
            self._pinged_s, self._ponged = now_s, False
            link.send(beat.ping)

    # what comes in

    def _on_frames(self, messages: list[bytes], receive_ns: int) -> None:
        self.frames.append((messages, receive_ns))
        self._counters.messages += len(messages)
        self._counters.last_receive_ns = receive_ns

    def heard(self, symbols: I64) -> None:
        """Know that ticks of these symbol codes came over it."""
        self.delivered = self._ticked = True
        if self.seen is not None:
            self.seen.update(symbols.tolist())

    def on_control(self, frame: bytes) -> None:
        """Act on a frame that was not market data."""
        reply = self._venue.answer(frame)
        if reply is not None:
            if self._link is not None:
                self._link.send(reply)
            return
        control = self._venue.control(frame)
        if control is None:
            return
        match control.kind:
            case "ack":
                answered = self._answers.match(control)
                if answered is not None and answered.left <= 0:
                    self._owner.accepted(answered)
            case "pong":
                self._ponged = True
            case "welcome":
                self._welcome.set()
            case "refusal":
                self._owner.refused(self, self._answers.match(control), control)
            case "notice" | "error":
                log.warning("%s says: %s %s", self._venue.NAME, control.code, control.text)
                if control.kind == "notice":
                    self._owner.noticed(self)

    # the socket

    def pause(self) -> None:
        """Stop reading from the socket."""
        if self._link is not None:
            self._link.pause()

    def resume(self) -> None:
        """Read again."""
        if self._link is not None:
            self._link.resume()

    @property
    def is_over(self) -> bool:
        """Whether it was open and nothing more can come."""
        return self._link is not None and self._link.closed.done()

    async def close(self) -> None:
        """Close politely."""
        if self._link is not None:
            await self._link.close()
