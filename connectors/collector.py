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
from collections.abc import Coroutine
from itertools import chain
from operator import itemgetter
from pathlib import Path
from typing import TYPE_CHECKING, Final

import numpy as np

from connectors.backfill import Backfill
from connectors.clock import ReceiveClock
from connectors.gaps import GapKernel
from connectors.pipe import CollectorConfig, Serve, decode_command, decode_config, encode_batch
from connectors.session import Session
from connectors.venue import Catalog, Reject
from connectors.venues import VENUES
from market.schema import END_OF_INPUT, Rows, TickBatch, VenueCounters, empty_ticks, join
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
        codes = {symbol: code for code, symbol in enumerate(config.symbols)}
        self._catalog = Catalog(config.natives.get(name, {}), codes)
        self._reasons: Counter[str] = Counter()
        self._status_due_ns = 0
        self._ticked_ns = clock()
        self._recorder = recorder
        self._gaps = GapKernel(len(config.symbols), numbered=self._venue.REFILL.numbered)
        self._lost = (0, False)  # reconnects, whether stale: as they were at the last flush
        endpoint = config.endpoints.get(name)
        self.backfill = Backfill(
            self._venue,
            self._catalog,
            clock=clock,
            rng=random.Random(f"{config.seed}-{name}-backfill"),
            base=endpoint.rest if endpoint else None,
            context=context,
        )
        topics = self._venue.topics(sorted(self._catalog.codes))
        size = self._venue.LIMITS.topics_per_connection
        self.sessions = [
            Session(
                self._venue,
                topics[start : start + size],
                self.counters,
                clock=clock,
                rng=random.Random(f"{config.seed}-{name}-{start}"),
                endpoint=endpoint,
                context=context,
            )
            for start in range(0, len(topics), size)
        ]

    def flush(self) -> TickBatch:
        """Decode what arrived and promise that this was all."""
        watermark_ns = self._clock() - 1
        self._record(watermark_ns)
        parts = [self._decode(session) for session in self.sessions if session.frames]
        if any(part.size for part in parts):
            self._ticked_ns = max(int(part["receive_ns"][-1]) for part in parts if part.size)
        self._note_losses()
        self._look_for_holes(watermark_ns)
        refilled, gaps = self.backfill.take()
        ticks = _in_receive_order(parts + refilled)
        return TickBatch(self.code, ticks, watermark_ns, self._status(watermark_ns), gaps)

    def _note_losses(self) -> None:
        """Tell where trades may be missing when a link was lost, or a silent one speaks again."""
        before, self._lost = self._lost, (self.counters.reconnects, self.counters.state == "stale")
        if self._lost != before:
            self._gaps.mark()

    def _look_for_holes(self, now_ns: int) -> None:
        for hole in self._gaps.due(now_ns):
            self.counters.gaps += 1
            self.backfill.ask(hole)

    def _decode(self, session: Session) -> Rows:
        chunks, session.frames = session.frames, []
        frames = [frame for messages, _ in chunks for frame in messages]
        stamps = np.repeat(
            np.array([receive_ns for _, receive_ns in chunks], np.int64), [len(messages) for messages, _ in chunks]
        )
        decoded = self._venue.decode(frames, stamps, self._catalog)
        for frame in decoded.control:
            session.on_control(frame)
        for reject in decoded.rejects:
            self._reject(reject)
        ticks: Rows = decoded.ticks
        self._gaps.add(ticks, decoded.spans)
        return ticks

    def _record(self, now_ns: int) -> None:
        """Record what all sessions received, in receive order: so it is read back."""
        if self._recorder is None:
            return
        chunks = sorted(chain.from_iterable(session.frames for session in self.sessions), key=itemgetter(1))
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
        if self.counters.state in ("live", "stale"):
            self._mark("stale" if watermark_ns - self._ticked_ns > STALE_NS else "live")
        else:
            self._ticked_ns = watermark_ns  # a new link is not blamed for the time without one
        return self.counters

    def _mark(self, state: str) -> None:
        if state != self.counters.state:
            log.warning("%s is %s", self.name, state)
            self.counters.state = state

    def give_up_holes(self) -> None:
        """Make gaps of the holes that are still open, for the next flush."""
        self._look_for_holes(END_OF_INPUT)
        self.backfill.abandon()

    def close(self) -> None:
        """Close the recording."""
        self._record(self._clock())
        if self._recorder is None:
            return
        try:
            self._recorder.close()
        except OSError as error:
            self._stop_recording(error)


def _in_receive_order(parts: list[Rows]) -> Rows:
    if len(parts) < 2:
        return parts[0] if parts else empty_ticks()
    ticks = join(parts)
    return ticks.take(np.argsort(ticks["receive_ns"], kind="stable"))


class Collector(asyncio.Protocol):
    """The worker's end of the socket: commands in, batches out."""

    def __init__(self) -> None:
        self.stopping = asyncio.Event()
        self._feeds: dict[str, VenueFeed] = {}
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
            if self._paused:
                session.pause()
            self._run(session.run())
        self._run(feed.backfill.run())

    def _recorder(self, name: str) -> Recorder | None:
        assert self._config is not None
        if self._config.record_dir is None:
            return None
        from connectors.recorder import Recorder, RecordFolder  # brings polars: 40 MB that only a recording costs

        if self._records is None:
            self._records = RecordFolder(Path(self._config.record_dir), self._config.record_max_mb << 20)
        return Recorder(self._records, name)

    def _run(self, work: Coroutine[None, None, None]) -> None:
        task = asyncio.create_task(work)
        task.add_done_callback(self._task_ended)
        self._tasks.append(task)

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
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
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
            feed.give_up_holes()
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
