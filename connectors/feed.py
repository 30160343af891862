"""One venue of a collector: its sessions, its decoder, its holes, its counters. Sockets and timers are others'."""

from __future__ import annotations

import logging
import random
import ssl as tls
from collections import Counter, deque
from collections.abc import Iterable, Mapping
from itertools import chain
from math import inf
from operator import itemgetter
from typing import TYPE_CHECKING, Final
from weakref import WeakKeyDictionary

import numpy as np

from connectors.clock import ReceiveClock
from connectors.connection import Connection
from connectors.holes import Holes
from connectors.pipe import CollectorConfig, News
from connectors.position import Known
from connectors.relisting import Relisting
from connectors.route import Route
from connectors.session import Session
from connectors.silence import SilenceTable
from connectors.venue import Catalog, Reject
from connectors.venues import VENUES
from market.schema import TRADE, Rows, TickBatch, VenueCounters, in_receive_order
from market.venues import VENUE_CODES

if TYPE_CHECKING:
    from connectors.recorder import Recorder

STATUS_NS: Final = 1_000_000_000
STALE_NS: Final = 15_000_000_000
"""A connected venue without a tick for this long is `stale`: heartbeats are not data."""
RENEW_NS: Final = 60_000_000_000
"""Least time between two rounds of asking for silent symbols again: venues count requests."""
NAMED_SYMBOLS: Final = 5
"""Most symbols that a line of the log names."""
AHEAD_S: Final = 1.0
"""A venue that waits before it connects again promises so far ahead at most, and sends nothing meanwhile."""
LATE_NS: Final = 5_000_000_000
"""So long what is still under way of a symbol that is let go is read."""
REJECT_SAMPLE: Final = 32
"""Rejected frames kept a venue, the newest."""

log = logging.getLogger("mie.collector")


class VenueFeed:
    """One venue in this process: its sessions, its decoder, its counters.

    Attributes:
        due_s: Loop time of the next `flush`: each empty one costs every step of the dataflow some.
    """

    def __init__(
        self,
        name: str,
        config: CollectorConfig,
        clock: ReceiveClock,
        context: tls.SSLContext | None,
        recorder: Recorder | None = None,
        known: Known | None = None,
    ) -> None:
        self.name = name
        self.code = VENUE_CODES[name]
        self.counters = VenueCounters()
        self.rejected: deque[Reject] = deque(maxlen=REJECT_SAMPLE)
        self._venue = VENUES[name]
        self._clock = clock
        self._symbols = config.symbols
        self._codes = _codes(config.symbols)
        self._catalog = Catalog(config.natives.get(name, {}), self._codes)
        self._silence = SilenceTable(len(config.symbols))
        self._due: set[int] = set()
        self._renewed_ns = 0
        self._leaving: set[int] = set()
        self._leave_ns = 0
        self._version = config.version
        self._news = News(follows=config.version)
        self._reasons: Counter[str] = Counter()
        self._status_due_ns = 0
        self._ticked_ns = clock()
        self._promised_ns = 0
        self.due_s = 0.0
        self._recorder = recorder
        self._route = Route.to(self._venue, clock, config.endpoints.get(name), context)
        self._rng = random.Random(f"{config.seed}-{name}")
        codes_used, rng = len(config.symbols), random.Random(f"{config.seed}-{name}-holes")
        self.holes = Holes(self._route, self._catalog, codes_used, self.counters, rng, known)
        self.sessions: list[Session] = []
        self._before: WeakKeyDictionary[Session, list[int]] = WeakKeyDictionary()
        endpoint, context = self._route.endpoint, self._route.context
        self.listing = Relisting(name, self._catalog.natives, ranks=config.ranks, endpoint=endpoint, context=context)
        self._place(self._catalog.natives)

    @property
    def waiting_frames(self) -> int:
        """How many frames have come since the last flush."""
        connections = (connection for session in self.sessions for connection in session.connections)
        return sum(len(messages) for connection in connections for messages, _ in connection.frames)

    def flush(self, now_s: float = inf) -> TickBatch:
        """Decode what arrived and promise that this was all.

        Args:
            now_s: Loop time, to promise for as long as all sessions only wait; without it nothing is promised ahead.
        """
        now_ns = self._clock() - 1
        self._record(now_ns)
        if self._leaving and now_ns >= self._leave_ns:
            self._forget()
        connections = [(session, one) for session in self.sessions for one in session.connections]
        over = [pair for pair in connections if pair[1].is_over]
        parts = [self._decode(*pair) for pair in over if pair[1].frames]
        self.holes.look()  # after a lost link's last trades, before those of the next
        self._follow_handovers()
        parts += [self._decode(*pair) for pair in connections if pair[1].frames]
        if any(part.size for part in parts):
            self._ticked_ns = max(int(part["receive_ns"][-1]) for part in parts if part.size)
        refilled, gaps = self.holes.take(now_ns)
        ticks = in_receive_order(parts + refilled)
        if ticks.size and int(ticks["receive_ns"][0]) <= self._promised_ns:  # the clock stood, or a session is new
            ticks["receive_ns"] = np.maximum(ticks["receive_ns"], self._promised_ns + 1)
            now_ns = max(now_ns, self._promised_ns + 1)
        self._promised_ns = max(self._promised_ns, now_ns + self._ahead_ns(now_s))
        return TickBatch(self.code, ticks, self._promised_ns, self._status(now_ns), gaps, self.holes.step())

    def _ahead_ns(self, now_s: float) -> int:
        """Return for how long nothing can come."""
        wakes_s = min((session.wakes_s for session in self.sessions), default=now_s + AHEAD_S)
        self.due_s = max(now_s, min(wakes_s, now_s + AHEAD_S))
        return int((self.due_s - now_s) * 1e9) if now_s < inf else 0

    def _follow_handovers(self) -> None:
        """Note what came before a successor is begun, for when nobody knows whether all came until it was there."""
        for session in self.sessions:
            if session.in_handover and session not in self._before:
                self._before[session] = self.holes.stamps()
            elif not session.in_handover and (before := self._before.pop(session, None)) is not None and session.unsure:
                self.holes.reopen([self._catalog.codes[native] for native in session.natives], before)
            session.unsure &= session in self._before

    def _decode(self, session: Session, connection: Connection) -> Rows:
        chunks, connection.frames = connection.frames, []
        frames = [frame for messages, _ in chunks for frame in messages]
        stamps = np.repeat(
            np.array([receive_ns for _, receive_ns in chunks], np.int64), [len(messages) for messages, _ in chunks]
        )
        decoded = self._venue.decode(frames, stamps, self._catalog)
        for frame in decoded.control:
            connection.on_control(frame)
        for reject in decoded.rejects:
            self._reject(reject)
        ticks = self.holes.saw(decoded.ticks, decoded.spans)
        if ticks.size:
            connection.heard(ticks["symbol"])
            self._silence.saw(ticks["symbol"], ticks["receive_ns"])
        if connection is not session.current:  # of two connections' quotes one would put the clock back
            ticks = ticks.take(np.flatnonzero(ticks["kind"] == TRADE))
        return ticks

    def _record(self, now_ns: int) -> None:
        """Record what all sessions received, in receive order: so it is read back."""
        if self._recorder is None:
            return
        connections = chain.from_iterable(session.connections for session in self.sessions)
        chunks = sorted(chain.from_iterable(one.frames for one in connections), key=itemgetter(1))
        try:
            for messages, receive_ns in chunks:
                self._recorder.write(messages, receive_ns)
            self._recorder.flush(now_ns)
        except OSError as error:
            self._stop_recording(error)

    def _stop_recording(self, error: OSError) -> None:
        log.error("%s: raw frames are not recorded any more: %s", self.name, error)
        self._recorder = None

    def _reject(self, reject: Reject) -> None:
        self.rejected.append(reject)
        self._reasons[reject.reason] += 1
        if reject.reason == "unknown symbol":
            self.counters.unknown_symbols += 1
        else:
            self.counters.rejects += 1
        self.counters.last_reject = f"{reject.reason}: {reject.frame[:200].decode(errors='replace')}"
        if self._reasons[reject.reason] == 1:
            log.warning("%s: first frame rejected as %s", self.name, self.counters.last_reject)

    def _status(self, watermark_ns: int) -> VenueCounters | None:
        if watermark_ns < self._status_due_ns:
            return None
        self._status_due_ns = watermark_ns + STATUS_NS
        self._look(watermark_ns)
        if self.counters.state in ("live", "stale"):
            self._mark("stale" if watermark_ns - self._ticked_ns > STALE_NS else "live")
        else:
            self._ticked_ns = watermark_ns  # a new link is not blamed for the time without one
        return self.counters

    def _look(self, now_ns: int) -> None:
        """Find the symbols that have fallen silent, and ask for them again."""
        asked_ns = np.zeros(len(self._symbols), np.int64)
        codes = self._catalog.codes
        unheard = np.zeros(len(self._symbols), bool)  # without a connection they are not to be judged one by one
        for session in self.sessions:
            asked = session.current.asked_ns if session.is_open else {}
            asked_ns[[codes[native] for native in asked]] = list(asked.values())
            unheard[[codes[native] for native in session.natives]] = not session.is_open
        look = self._silence.look(now_ns, asked_ns)
        self.counters.silent_symbols = int((self._silence.silent | unheard).sum())
        for changed, words in ((look.fell, "silent"), (look.rose, "heard again")):
            if changed.size:
                names = _some(self._symbols[code] for code in changed.tolist())
                log.warning("%s: %d symbols are %s: %s", self.name, changed.size, words, names)
        self._due = (self._due | set(look.due.tolist())) - set(look.rose.tolist())
        if self._due and now_ns - self._renewed_ns > RENEW_NS:
            self._renewed_ns = now_ns
            self._renew()
        for session in self.sessions:
            own = np.array([codes[native] for native in session.natives], np.int64)
            session.patience_s = self._silence.link_patience_s(own)

    def _renew(self) -> None:
        due = {self._symbols[code] for code in self._due}
        self._due = set()
        natives = {native for symbol, native in self._catalog.natives.items() if symbol in due}
        for session in self.sessions:
            if natives & session.natives:
                session.renew(natives)

    def update(self, natives: dict[str, str]) -> tuple[list[Session], list[Session]]:
        """Go over to the symbols that trade now: symbol -> native symbol, of those that the run has.

        Returns:
            The sessions to start and those to end, which are not in `sessions` any more.
        """
        natives = {symbol: native for symbol, native in natives.items() if symbol in self._codes}
        before = self._catalog.natives
        gone = {native for symbol, native in before.items() if natives.get(symbol) != native}
        new = {symbol: native for symbol, native in natives.items() if before.get(symbol) != native}
        halted = before.keys() - natives.keys()
        for what, names in (("do not trade any more", halted), ("trade now", new)):
            if names:
                log.info("%s: %d symbols %s: %s", self.name, len(names), what, _some(names))
        for session in self.sessions:
            session.drop(gone)
            session.retry_refused()
        known = self._catalog.codes
        self._silence.forget(np.array([known[before[symbol]] for symbol in halted], np.int64))
        # What is under way is still read.
        late = {native: code for native, code in known.items() if native in gone or code in self._leaving}
        self._catalog = Catalog(natives, self._codes)
        self._catalog.codes = late | self._catalog.codes
        self.holes.follow(self._catalog, [self._codes[symbol] for symbol in new])
        started = self._place(new)
        ended = [session for session in self.sessions if not session.natives]
        self.sessions = [session for session in self.sessions if session.natives]
        return started, ended

    def follow(self, version: int, symbols: list[str]) -> tuple[list[Session], list[Session]]:
        """Go over to other symbols of the run, by code; return as `update` does.

        Those let go are read for LATE_NS more; then `news` says that this version is followed.
        """
        self._leaving |= {code for symbol, code in self._codes.items() if symbols[code] != symbol}
        self._symbols, self._codes, self._version = symbols, _codes(symbols), version
        if self._leaving:
            self._leave_ns = self._clock() + LATE_NS
        else:
            self._news.follows = version
        return self.update(self.listing.trading)

    def _forget(self) -> None:
        """Let go of all that is known of symbols that are let go."""
        gone, self._leaving = self._leaving, set()
        self._catalog.codes = {native: code for native, code in self._catalog.codes.items() if code not in gone}
        self._silence.forget(np.array(sorted(gone), np.int64))
        self._due -= gone
        self.holes.forget(gone)
        self._news.follows = self._version

    def news(self) -> News | None:
        """Return what is to be said of the symbols with the batch that was flushed last, if anything."""
        news, self._news = self._news, News()
        news.listed, self.listing.turnover = self.listing.turnover, None
        return news if news.follows is not None or news.listed is not None else None

    def _place(self, natives: Mapping[str, str]) -> list[Session]:
        """Spread symbols over sessions, within the venue's limits; return the sessions opened for it."""
        opened: list[Session] = []
        for native in sorted(natives.values()):
            session = next((one for one in self.sessions if one.has_room(native)), None)
            if session is None:
                session = Session(self._route, self.counters, rng=self._rng)
                opened.append(session)
                self.sessions.append(session)
            session.add(native)
        for session in self.sessions:
            session.ask(natives.values())
        return opened

    def _mark(self, state: str) -> None:
        if state != self.counters.state:
            log.warning("%s is %s", self.name, state)
            self.counters.state = state

    def close(self) -> None:
        """Close the recording."""
        self._record(self._clock())
        if self._recorder is None:
            return
        try:
            self._recorder.close()
        except OSError as error:
            self._stop_recording(error)


def _codes(symbols: Iterable[str]) -> dict[str, int]:
    return {symbol: code for code, symbol in enumerate(symbols) if symbol}


def _some(symbols: Iterable[str]) -> str:
    names = sorted(symbols)
    return ", ".join(names[:NAMED_SYMBOLS]) + (", ..." if len(names) > NAMED_SYMBOLS else "")
