"""Some of a venue's symbols, kept flowing: connect, reconnect, hand over from one connection to the next.

A connection that the venue will close, after its documented life or by a notice, is replaced before: the new one
delivers before the old one closes. Meanwhile trades come twice, and the sequencer drops the copies.
"""

from __future__ import annotations

import asyncio
import logging
import random
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Final, NoReturn

from connectors.answers import Open
from connectors.connection import BEAT_S, Connection
from connectors.rest import RestError
from connectors.retry import HEALTHY_S, backoff, least_wait_s
from connectors.route import Route
from connectors.silence import LEAST_S, MOST_S
from connectors.transport import LinkError
from connectors.venue import Control
from market.schema import VenueCounters

LIFE_PART: Final = 0.9
"""A connection is replaced at this part of its documented life, up to JITTER of it earlier."""
JITTER: Final = 0.1
OVERLAP_S: Final = 5.0
"""Least time for which old and new connection both deliver: what is under way on the old one still arrives."""
HANDOVER_S: Final = 30.0
"""A successor that does not deliver what the old one does by then is given up, and tried again as much later."""
REFUSED_S: Final = 300.0
REFUSED_MOST_S: Final = 21_600.0
"""A refused symbol is asked for again after REFUSED_S at the earliest, then after twice as long each time."""

log = logging.getLogger("mie.session")


@dataclass(slots=True)
class _Refusal:
    """Until when a symbol is not asked for, and how long the wait was."""

    due_s: float
    wait_s: float


class Session:
    """Symbols of a venue that share a connection, kept alive until cancelled.

    Attributes:
        natives: Its native symbols.
        native_of: topic -> native symbol.
        current: The connection that counts: its quotes are the ones to use.
        reading: Set unless the dataflow is behind.
        patience_s: How long a link may go without a tick; set by the collector, which knows the rates.
        unsure: Set when a handover is over in which the old connection delivered nothing any more: nobody knows since
            when. The collector, which knows what came before the new one was begun, resets it.
    """

    def __init__(self, route: Route, counters: VenueCounters, *, rng: random.Random) -> None:
        self.natives: set[str] = set()
        self.native_of: dict[str, str] = {}
        self.reading = asyncio.Event()
        self.reading.set()
        self._route = route
        self._venue = route.venue
        self._counters = counters
        self._rng = rng
        self._usual_s = LEAST_S
        self._fruitless = 0
        self._refused: dict[str, _Refusal] = {}
        self._suspects: list[list[str]] = []  # topics of requests that were refused without naming a symbol
        self._tasks: dict[Connection, asyncio.Task[NoReturn]] = {}
        self._successor: Connection | None = None
        self._replace_s: float | None = None
        self._overlap_s: float | None = None
        self._noticed_s = float("-inf")
        self._closing: set[asyncio.Task[None]] = set()
        self.unsure = False
        self._wakes_s = 0.0
        self.current = self._new()

    # which symbols

    def has_room(self, native: str) -> bool:
        """Return whether another symbol fits within the venue's limits of one connection."""
        limits = self._venue.LIMITS
        topics = self._venue.topics([native])
        if len(self.native_of) + len(topics) > limits.topics_per_connection:
            return False
        most_bytes = limits.topic_bytes_per_connection
        all_bytes = (len(topic.encode()) + 3 for topic in (*self.native_of, *topics))  # quotes, comma
        return most_bytes is None or sum(all_bytes) <= most_bytes

    def add(self, native: str) -> None:
        """Take a symbol up; the next connection subscribes it, `ask` does on the present one."""
        self.natives.add(native)
        self.native_of.update(dict.fromkeys(self._venue.topics([native]), native))

    def ask(self, natives: Iterable[str]) -> None:
        """Subscribe to symbols of its own on the present connection, if there is one."""
        self._ask(self._venue.topics(sorted(self.natives & set(natives))))

    def drop(self, natives: Iterable[str]) -> None:
        """Let symbols go, and all that is known of them."""
        gone = sorted(self.natives & set(natives))
        topics = self._venue.topics(gone)
        for connection in self._open():
            connection.leave(topics)
        for native in gone:
            self.natives.discard(native)
            self._refused.pop(native, None)
        for topic in topics:
            del self.native_of[topic]

    def renew(self, natives: Iterable[str]) -> None:
        """Subscribe to symbols anew: they were acknowledged once and are not heard."""
        topics = self._venue.topics(sorted(self.natives & set(natives) - self._refused.keys()))
        for connection in self._open():
            connection.leave(topics)
            connection.ask(topics)

    def retry_refused(self) -> None:
        """Ask again for refused symbols whose time has come."""
        due = [native for native in self._askable() if native in self._refused and native not in self.current.asked_ns]
        self._ask(self._venue.topics(due))

    def _ask(self, topics: list[str]) -> None:
        for connection in self._open():
            connection.ask(topics)

    def _open(self) -> Iterator[Connection]:
        return (one for one in (self.current, self._successor) if one is not None and one.opened_s is not None)

    def _askable(self) -> list[str]:
        now_s = asyncio.get_running_loop().time()
        return sorted(n for n in self.natives if n not in self._refused or self._refused[n].due_s <= now_s)

    # what a connection asks and tells (`connection.Owner`)

    @property
    def patience_s(self) -> float:
        """How long a link may go without a tick: longer after each one that never had any."""
        return min(self._usual_s * 2.0**self._fruitless, MOST_S)

    @patience_s.setter
    def patience_s(self, usual_s: float) -> None:
        self._usual_s = usual_s

    def groups(self) -> list[list[str]]:
        """Return the topics to subscribe: suspects apart, so that one bad symbol cannot hold up the others for ever."""
        topics = self._venue.topics(self._askable())
        kept = set(topics)
        self._suspects = [group for group in ([t for t in group if t in kept] for group in self._suspects) if group]
        apart = {topic for group in self._suspects for topic in group}
        return [[topic for topic in topics if topic not in apart], *self._suspects]

    def opened(self, connection: Connection) -> None:
        """Say that the venue is live."""
        if connection is self.current:
            self._state("live")

    def accepted(self, answered: Open) -> None:
        """Clear suspects."""
        if answered.subscribes and self._suspects:
            good = set(answered.request.topics)
            self._suspects = [group for group in self._suspects if not good.issuperset(group)]

    def refused(self, connection: Connection, answered: Open | None, control: Control) -> None:
        """Report and skip a refused symbol; where none is named, find it by asking for halves."""
        if answered is not None and not answered.subscribes:
            return
        self._counters.refused += 1
        native = control.native if control.native in self.natives else ""
        if not native and answered is not None and len(answered.natives) == 1:
            (native,) = answered.natives
        if not native or native in connection.asked_ns or native not in self._refused:
            name = native or control.native or "a request"
            log.warning("%s refused %s: %s %s", self._venue.NAME, name, control.code, control.text)
        if native:
            connection.asked_ns.pop(native, None)
            self._skip(native)
        if answered is None or answered.request.acks > 1:
            return  # its other topics are answered for themselves
        good = [topic for topic in answered.request.topics if self.native_of.get(topic, native) != native]
        self._ask_apart(connection, good, halved=not native)

    def _skip(self, native: str) -> None:
        now_s = asyncio.get_running_loop().time()
        before = self._refused.get(native)
        if before is None:
            self._refused[native] = _Refusal(now_s + REFUSED_S, REFUSED_S)
        elif before.due_s <= now_s:  # else its other channel
            wait_s = min(2.0 * before.wait_s, REFUSED_MOST_S)
            self._refused[native] = _Refusal(now_s + wait_s, wait_s)

    def _ask_apart(self, connection: Connection, topics: list[str], *, halved: bool) -> None:
        middle = (len(topics) + 1) // 2 if halved else len(topics)
        groups = [group for group in (topics[:middle], topics[middle:]) if group]
        whole = set(topics)
        self._suspects = [group for group in self._suspects if whole.isdisjoint(group)] + groups
        for group in groups:
            connection.ask(group)

    def noticed(self, connection: Connection) -> None:
        """Replace a connection that the venue is about to close, but not each by the next in a row of notices."""
        now_s = asyncio.get_running_loop().time()
        if connection is self.current and now_s - self._noticed_s > HANDOVER_S:
            self._replace_s = self._noticed_s = now_s

    # connections

    async def run(self) -> None:
        """Connect and reconnect until cancelled."""
        waits = backoff(self._rng)
        try:
            while True:
                await self.reading.wait()  # a link opened meanwhile would be read without bound
                self.current = self._start()
                error = await self._live()
                self._state("down", str(error))
                if self._lived_well(self.current):
                    waits = backoff(self._rng)
                self._counters.reconnects += 1
                code = getattr(error, "code", 0) or getattr(error, "status", 0)
                wait_s = max(next(waits), least_wait_s(code))
                self._wakes_s = asyncio.get_running_loop().time() + wait_s
                await asyncio.sleep(wait_s)
        finally:
            self._route.states.pop(self, None)
            await self._close()

    def _lived_well(self, connection: Connection) -> bool:
        if connection.opened_s is None:
            return False
        self._fruitless = 0 if connection.delivered else min(self._fruitless + 1, 10)
        return connection.delivered and asyncio.get_running_loop().time() - connection.opened_s > HEALTHY_S

    def _new(self) -> Connection:
        return Connection(self._route, self, self._counters, self._rng)

    def _start(self) -> Connection:
        connection = self._new()
        self._tasks[connection] = asyncio.create_task(connection.run())
        return connection

    async def _live(self) -> Exception:
        """Live through connections that take over from each other; return why the last one ended."""
        self._replace_s = None
        while True:
            await asyncio.wait([self._tasks[self.current]], timeout=BEAT_S)
            self._tend()
            ended = self._end_of(self.current)
            if ended is None:
                continue
            if self._successor is None or self._end_of(self._successor) is not None:
                self._successor = None
                return ended
            self._state("down", str(ended))
            self._counters.reconnects += 1
            self._take_over(self._successor)  # ready or not

    def _tend(self) -> None:
        """Open a successor when it is time, let it take over once it is ready."""
        current, successor, now_s = self.current, self._successor, asyncio.get_running_loop().time()
        if current.opened_s is None:
            return
        if self._replace_s is None:
            self._replace_s = self._end_of_life_s(current.opened_s)
        if successor is None:
            if now_s >= self._replace_s and self.reading.is_set():
                self._successor, self._overlap_s = self._start(), None
        elif (error := self._end_of(successor)) is not None:
            self._give_up(successor, str(error))
        elif self.reading.is_set() and self._is_ready(successor, now_s):
            self._take_over(successor)

    def _end_of_life_s(self, opened_s: float) -> float:
        life_s = self._venue.LIMITS.connection_life_s
        return float("inf") if life_s is None else opened_s + life_s * (LIFE_PART - JITTER * self._rng.random())

    def _is_ready(self, successor: Connection, now_s: float) -> bool:
        """Return whether a successor delivers all that the old connection delivers, since both were subscribed."""
        old = self.current
        if self._overlap_s is None or successor.seen is None or old.seen is None:
            if successor.is_settled:
                self._overlap_s, old.seen, successor.seen = now_s, set(), set()
            elif successor.opened_s is not None and now_s - successor.opened_s > HANDOVER_S:
                self._give_up(successor, "it is not subscribed")
            return False
        overlap_s = now_s - self._overlap_s
        delivers = old.seen <= successor.seen and bool(successor.seen)
        if overlap_s > HANDOVER_S and old.seen - successor.seen:
            self._give_up(successor, f"it lacks {len(old.seen - successor.seen)} symbols")
            return False
        return overlap_s > HANDOVER_S or (delivers and overlap_s >= OVERLAP_S)

    def _give_up(self, successor: Connection, reason: str) -> None:
        log.warning("%s: a successor is given up: %s", self._venue.NAME, reason)
        self.unsure |= successor.opened_s is not None and not self.current.seen
        self._successor = self.current.seen = None
        self._replace_s = asyncio.get_running_loop().time() + HANDOVER_S
        self._retire(successor)

    def _take_over(self, successor: Connection) -> None:
        retired, self.current = self.current, successor
        self.unsure |= successor.opened_s is not None and not retired.seen
        self._successor = self._replace_s = successor.seen = None
        if successor.opened_s is not None:
            self._state("live")
        if self._end_of(retired) is None:
            log.info("%s: a new connection has taken over", self._venue.NAME)
            self._retire(retired)

    def _retire(self, connection: Connection) -> None:
        """Close a connection; its task ends with it."""
        closing = asyncio.create_task(self._end(connection, self._tasks[connection]))
        self._closing.add(closing)
        closing.add_done_callback(self._closing.discard)

    async def _end(self, connection: Connection, task: asyncio.Task[NoReturn]) -> None:
        await connection.close()
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)

    def _end_of(self, connection: Connection) -> Exception | None:
        """Return why a connection ended, None while it lives. Raises what is no fault of the link."""
        task = self._tasks[connection]
        if not task.done() or task.cancelled():
            return None
        error = task.exception()
        if isinstance(error, LinkError | RestError | ValueError):
            return error
        raise error or RuntimeError

    @property
    def in_handover(self) -> bool:
        """Whether a connection is begun that is to take over."""
        return self._successor is not None

    @property
    def connections(self) -> list[Connection]:
        """All whose frames are to be taken, the current one too; those that ended and have none left are forgotten."""
        kept = (self.current, self._successor)
        for connection, task in list(self._tasks.items()):
            if connection not in kept and task.done() and not connection.frames:
                del self._tasks[connection]
        return [*self._tasks] if self.current in self._tasks else [self.current, *self._tasks]

    @property
    def is_open(self) -> bool:
        """Whether it has a connection."""
        task = self._tasks.get(self.current)
        return task is not None and not task.done() and self.current.opened_s is not None

    @property
    def wakes_s(self) -> float:
        """Loop time before which nothing can come, because it waits before it connects again; else a past one."""
        return self._wakes_s if all(task.done() for task in self._tasks.values()) else 0.0

    @property
    def unanswered(self) -> int:
        """Answers to subscriptions that are still to come."""
        return self.current.unanswered

    def pause(self) -> None:
        """Stop reading from the sockets, also from those of later connections."""
        self.reading.clear()
        self._overlap_s = None  # what they deliver is not seen
        for connection in self._tasks:
            connection.pause()

    def resume(self) -> None:
        """Read again."""
        self.reading.set()
        for connection in self._tasks:
            connection.resume()

    async def _close(self) -> None:
        await asyncio.gather(*(self._end(*pair) for pair in self._tasks.items()), *self._closing)

    def _state(self, state: str, reason: str = "") -> None:
        """Say how it is, once a change; the venue is live when all of its sessions are."""
        states = self._route.states
        before, states[self] = states.get(self), state
        if before == state:
            return
        live = sum(each == "live" for each in states.values())
        whole = "live" if live == len(states) else "down"
        level = logging.INFO if whole == "live" else logging.WARNING
        words = f": {reason}" if reason else ""
        if whole != self._counters.state:
            log.log(level, "%s is %s%s", self._venue.NAME, whole, words)
            self._counters.state = whole
        elif len(states) > 1 and "down" in (before, state):
            log.log(level, "%s: %d of %d connections are live%s", self._venue.NAME, live, len(states), words)
