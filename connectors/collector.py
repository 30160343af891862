"""The collector process: sockets in, column batches out, for the venues one dataflow worker owns.

`python -m connectors.collector FD` talks over an inherited socket (see `connectors.pipe`). Receiving and decoding are
the dominant cost of a message, so they live outside the dataflow's interpreter. It ends when its parent does, however
the parent ends: the socket's end of stream says so.
"""

from __future__ import annotations

import asyncio
import gc
import logging
import random
import signal
import socket
import ssl as tls
import sys
from collections import Counter, deque
from collections.abc import Coroutine, Iterable, Mapping
from itertools import chain
from operator import itemgetter
from pathlib import Path
from typing import TYPE_CHECKING, Final

import numpy as np

from connectors.clock import ReceiveClock
from connectors.connection import Connection
from connectors.holes import Holes
from connectors.pipe import CollectorConfig, Serve, decode_command, decode_config, encode_batch
from connectors.rest import RestError
from connectors.route import Route
from connectors.session import Session
from connectors.silence import SilenceTable
from connectors.universe import natives_now, trading
from connectors.venue import Catalog, Reject
from connectors.venues import VENUES
from market.schema import END_OF_INPUT, TRADE, Rows, TickBatch, VenueCounters, empty_ticks, in_receive_order
from market.venues import VENUE_CODES

if TYPE_CHECKING:
    from connectors.recorder import Recorder, RecordFolder

FLUSH_S: Final = 0.005
"""Frames are decoded and sent on this often; a watermark is at most this old when it leaves."""
BACKLOG_BYTES: Final = 64 * 1024 * 1024
"""Decoded ticks waiting for the dataflow; above it the sockets are not read until half of it is gone."""
STATUS_NS: Final = 1_000_000_000
STALE_NS: Final = 15_000_000_000
"""A connected venue without a tick for this long is `stale`: heartbeats are not data."""
RENEW_NS: Final = 60_000_000_000
"""Least time between two rounds of asking for silent symbols again: venues count requests."""
NAMED_SYMBOLS: Final = 5
"""Most symbols that a line of the log names."""
REJECT_SAMPLE: Final = 32
"""Rejected frames kept a venue, the newest."""

log = logging.getLogger("mie.collector")


class VenueFeed:
    """One venue in this process: its sessions, its decoder, its counters."""

    def __init__(
        self,
        name: str,
        config: CollectorConfig,
        clock: ReceiveClock,
        context: tls.SSLContext | None,
        recorder: Recorder | None = None,
    ) -> None:
        self.name = name
        self.code = VENUE_CODES[name]
        self.counters = VenueCounters()
        self.rejected: deque[Reject] = deque(maxlen=REJECT_SAMPLE)
        self._venue = VENUES[name]
        self._clock = clock
        self._symbols = config.symbols
        self._codes = {symbol: code for code, symbol in enumerate(config.symbols)}
        self._catalog = Catalog(config.natives.get(name, {}), self._codes)
        self._silence = SilenceTable(len(config.symbols))
        self._due: set[int] = set()
        self._renewed_ns = 0
        self._listed = True
        self._reasons: Counter[str] = Counter()
        self._status_due_ns = 0
        self._ticked_ns = clock()
        self._recorder = recorder
        self._route = Route.to(self._venue, clock, config.endpoints.get(name), context)
        self._rng = random.Random(f"{config.seed}-{name}")
        codes_used, rng = len(config.symbols), random.Random(f"{config.seed}-{name}-holes")
        self.holes = Holes(self._route, self._catalog, codes_used, self.counters, rng)
        self.sessions: list[Session] = []
        self._place(self._catalog.natives)

    def flush(self) -> TickBatch:
        """Decode what arrived and promise that this was all."""
        watermark_ns = self._clock() - 1
        self._record(watermark_ns)
        parts = [
            self._decode(session, connection)
            for session in self.sessions
            for connection in session.connections
            if connection.frames
        ]
        if any(part.size for part in parts):
            self._ticked_ns = max(int(part["receive_ns"][-1]) for part in parts if part.size)
        refilled, gaps = self.holes.take(watermark_ns)
        ticks = in_receive_order(parts + refilled)
        return TickBatch(self.code, ticks, watermark_ns, self._status(watermark_ns), gaps)

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
        ticks: Rows = decoded.ticks
        self.holes.saw(ticks, decoded.spans)
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
        for session in self.sessions:
            asked = session.current.asked_ns
            asked_ns[[codes[native] for native in asked]] = list(asked.values())
        look = self._silence.look(now_ns, asked_ns)
        self.counters.silent_symbols = int(self._silence.silent.sum())
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
        self._silence.forget(np.array([self._codes[symbol] for symbol in halted], np.int64))
        late = {native: self._catalog.codes[native] for native in gone}  # what is under way is still read
        self._catalog = Catalog(natives, self._codes)
        self._catalog.codes = late | self._catalog.codes
        self.holes.follow(self._catalog)
        started = self._place(new)
        ended = [session for session in self.sessions if not session.natives]
        self.sessions = [session for session in self.sessions if session.natives]
        return started, ended

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

    async def relist(self) -> dict[str, str] | None:
        """Return what trades now by the venue's list, symbol -> native symbol; None if there is no list."""
        try:
            listed = await asyncio.to_thread(trading, self.name, self._route.endpoint, self._route.context)
        except (RestError, ValueError) as error:
            if self._listed:
                log.warning("%s: its list cannot be read (%s): symbols stay as they are", self.name, error)
            self._listed = False
            return None
        self._listed = True
        return natives_now(listed, self._catalog.natives)


def _some(symbols: Iterable[str]) -> str:
    names = sorted(symbols)
    return ", ".join(names[:NAMED_SYMBOLS]) + (", ..." if len(names) > NAMED_SYMBOLS else "")


class Collector(asyncio.Protocol):
    """The worker's end of the socket: commands in, batches out."""

    def __init__(self) -> None:
        self.stopping = asyncio.Event()
        self._feeds: dict[str, VenueFeed] = {}
        self._sessions: dict[Session, asyncio.Task[None]] = {}
        self._tasks: list[asyncio.Task[None]] = []
        self._config: CollectorConfig | None = None
        self._context: tls.SSLContext | None = None
        self._records: RecordFolder | None = None
        self._clock = ReceiveClock()
        self._lines = bytearray()
        self._paused = False
        self._failure: BaseException | None = None
        self.gone = False
        """Whether the socket is closed and all that was written has left."""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Keep the transport; its write buffer is the backlog."""
        assert isinstance(transport, asyncio.Transport)
        self._transport = transport
        transport.set_write_buffer_limits(high=BACKLOG_BYTES, low=BACKLOG_BYTES // 2)

    def data_received(self, data: bytes) -> None:
        """Act on each complete line."""
        self._lines += data
        while (end := self._lines.find(b"\n")) >= 0:
            line = bytes(self._lines[:end])
            del self._lines[: end + 1]
            self._act(line)

    def connection_lost(self, exc: Exception | None) -> None:
        """End: the parent is gone, or has all."""
        self.gone = True
        self.stopping.set()

    def pause_writing(self) -> None:
        """Stop reading the sockets: the dataflow is BACKLOG_BYTES behind."""
        self._paused = True
        log.warning("the dataflow is %d MiB behind: sockets wait", BACKLOG_BYTES >> 20)
        for feed in self._feeds.values():
            for session in feed.sessions:
                session.pause()

    def resume_writing(self) -> None:
        """Read the sockets again."""
        self._paused = False
        for feed in self._feeds.values():
            for session in feed.sessions:
                session.resume()

    def _act(self, line: bytes) -> None:
        if self._config is None:
            self._config = decode_config(line)
            self._context = tls.create_default_context()
            if self._config.ca_file:
                self._context.load_verify_locations(self._config.ca_file)
            return
        command = decode_command(line)
        if isinstance(command, Serve):
            self._serve(command.venue)
        else:
            self.stopping.set()

    def _serve(self, name: str) -> None:
        assert self._config is not None
        feed = VenueFeed(name, self._config, self._clock, self._context, self._recorder(name))
        self._feeds[name] = feed
        for session in feed.sessions:
            self._run(session)
        self._watched(feed.holes.run())
        if self._config.refresh_s:
            self._watched(self._refresh(feed, self._config.refresh_s))

    def _run(self, session: Session) -> None:
        if self._paused:
            session.pause()
        task = asyncio.create_task(session.run())
        task.add_done_callback(self._task_ended)
        self._sessions[session] = task

    def _watched(self, work: Coroutine[None, None, None]) -> None:
        task = asyncio.create_task(work)
        task.add_done_callback(self._task_ended)
        self._tasks.append(task)

    async def _refresh(self, feed: VenueFeed, every_s: float) -> None:
        """Follow the venue's list: what is halted or delisted is let go, what is listed again is taken up."""
        while True:
            await asyncio.sleep(every_s * (1.0 - 0.2 * random.random()))
            natives = await feed.relist()
            if natives is None:
                continue
            started, ended = feed.update(natives)
            for session in started:
                self._run(session)
            for session in ended:
                self._sessions.pop(session).cancel()

    def _recorder(self, name: str) -> Recorder | None:
        assert self._config is not None
        if self._config.record_dir is None:
            return None
        from connectors.recorder import Recorder, RecordFolder  # brings polars: 40 MB that only a recording costs

        if self._records is None:
            self._records = RecordFolder(Path(self._config.record_dir), self._config.record_max_mb << 20)
        return Recorder(self._records, name)

    def _task_ended(self, task: asyncio.Task[None]) -> None:
        """End the process over a bug in a session or a refill: a venue must not fall silent without a word."""
        if not task.cancelled() and (error := task.exception()):
            self._failure = error
            self.stopping.set()

    def flush(self) -> None:
        """Send what each venue received since the last time."""
        backlog = self._transport.get_write_buffer_size()
        for feed in self._feeds.values():
            batch = feed.flush()
            feed.counters.backlog_rows = backlog // batch.ticks.dtype.itemsize
            self._transport.write(encode_batch(batch))

    async def run(self) -> None:
        """Flush until told to stop, then close the links and send the rest. Raises what ended a session."""
        while not self.stopping.is_set():
            if not self._paused:
                self.flush()
            try:
                await asyncio.wait_for(self.stopping.wait(), FLUSH_S)
            except TimeoutError:
                continue
        tasks = [*self._sessions.values(), *self._tasks]
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        if self._failure is None and not self._transport.is_closing():
            self._finish()
        for feed in self._feeds.values():
            feed.close()  # also when the worker is gone: what was received is on record
        if self._failure is not None:
            self._transport.abort()
            raise self._failure

    def _finish(self) -> None:
        for feed in self._feeds.values():
            self._transport.write(encode_batch(feed.flush()))
            feed.holes.give_up()
            self._transport.write(encode_batch(feed.flush()))
            feed.counters.state = "ended"
            self._transport.write(encode_batch(TickBatch(feed.code, empty_ticks(), END_OF_INPUT, feed.counters)))
        self._transport.close()


async def serve(end: socket.socket) -> None:
    """Collect until the socket's other end says stop or goes away."""
    loop = asyncio.get_running_loop()
    _, collector = await loop.create_connection(Collector, sock=end)
    await collector.run()
    while not collector.gone:  # the transport closes once its buffer is out, or the parent ends
        await asyncio.sleep(FLUSH_S)


def main() -> None:
    """Entry point of the process."""
    logging.basicConfig(level=logging.INFO, format="%(levelname)s %(name)s %(message)s", stream=sys.stderr)
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # a terminal's Ctrl-C reaches the whole group; the worker tells us
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    gc.freeze()
    gc.set_threshold(50_000, 20, 100)  # ticks make no cycles
    asyncio.run(serve(socket.socket(fileno=int(sys.argv[1]))))


if __name__ == "__main__":
    main()
