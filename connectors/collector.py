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
from collections.abc import Coroutine
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import TYPE_CHECKING, Final

import msgspec

from connectors.clock import ReceiveClock
from connectors.feed import VenueFeed
from connectors.pipe import FLUSH_NS, CollectorConfig, Follow, Serve, decode_command, decode_config, encode_batch
from connectors.session import Session
from connectors.venues import VENUES
from market.schema import END_OF_INPUT, TickBatch, empty_ticks

if TYPE_CHECKING:
    from connectors.recorder import Recorder, RecordFolder

PAST_NS: Final = 100_000
"""How far past its time a flush is meant to be: a watermark that is early says nothing of the quantum."""
MUCH_FRAMES: Final = 64
"""Frames that are worth a flush halfway: some 0.3 ms of decoding, which the next one is then spared."""
BACKLOG_BYTES: Final = 64 * 1024 * 1024
"""Decoded ticks waiting for the dataflow; above it the sockets are not read until half of it is gone."""
TIDY_S: Final = 20.0
"""How often the cycles of ended links and REST calls are collected, some milliseconds."""
REST_CALLS: Final = 4
"""REST calls of a venue at a time that wait for nobody: a list, a refill, two tokens. Each may hang for seconds."""

log = logging.getLogger("mie.collector")


def until_flush_s(now_ns: int) -> float:
    """Return the seconds from a moment of the receive clock to the next time for a flush, whole or halfway."""
    half_ns = FLUSH_NS // 2
    return ((now_ns // half_ns + 1) * half_ns + PAST_NS - now_ns) / 1e9


def is_flush_due(now_ns: int, waiting_frames: int) -> bool:
    """Return whether to flush at a moment that `until_flush_s` led to: halfway only if there is much to decode."""
    return now_ns % FLUSH_NS < FLUSH_NS // 2 or waiting_frames >= MUCH_FRAMES


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
            self._serve(command)
        elif isinstance(command, Follow):
            self._follow(command)
        else:
            self.stopping.set()

    def _serve(self, command: Serve) -> None:
        assert self._config is not None
        name = command.venue
        feed = VenueFeed(name, self._config, self._clock, self._context, self._recorder(name), command.known)
        self._feeds[name] = feed
        for session in feed.sessions:
            self._run(session)
        self._watched(feed.holes.run())
        if self._config.refresh_s:
            self._watched(self._refresh(feed, self._config.refresh_s))

    def _follow(self, command: Follow) -> None:
        assert self._config is not None
        symbols = list(self._config.symbols)
        for code, symbol in command.changes.items():
            symbols[code] = symbol
        self._config = msgspec.structs.replace(self._config, symbols=symbols, version=command.version)
        for feed in self._feeds.values():
            self._change(*feed.follow(command.version, symbols))

    def _change(self, started: list[Session], ended: list[Session]) -> None:
        for session in started:
            self._run(session)
        for session in ended:
            self._sessions.pop(session).cancel()

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
        assert self._config is not None
        # A successor does not know the native names of symbols that came during the run.
        wait_s = every_s if self._config.version == 0 else 0.0
        while True:
            await asyncio.sleep(max(wait_s * (1.0 - 0.2 * random.random()), feed.listing.hold_s))
            wait_s = every_s
            trading = await feed.listing.read()
            if trading is not None:
                self._change(*feed.update(trading))

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
        backlog, now_s = self._transport.get_write_buffer_size(), asyncio.get_running_loop().time()
        messages = []
        for feed in self._feeds.values():
            if now_s < feed.due_s:
                continue
            batch = feed.flush(now_s)
            feed.counters.backlog_rows = backlog // batch.ticks.dtype.itemsize
            messages.append(encode_batch(batch, feed.news()))
        self._transport.write(b"".join(messages))  # at once: the forge waits for the last of them

    def _waiting_frames(self) -> int:
        return sum(feed.waiting_frames for feed in self._feeds.values())

    async def run(self) -> None:
        """Flush until told to stop, then close the links and send the rest. Raises what ended a session."""
        tidy_s = 0.0
        while not self.stopping.is_set():
            if not self._paused and is_flush_due(self._clock(), self._waiting_frames()):
                self.flush()
            if (now_s := asyncio.get_running_loop().time()) >= tidy_s:
                gc.collect()  # a few thousand objects: what came with the imports is frozen
                tidy_s = now_s + TIDY_S
            try:
                await asyncio.wait_for(self.stopping.wait(), until_flush_s(self._clock()))
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
    loop.set_default_executor(ThreadPoolExecutor(REST_CALLS * len(VENUES), "rest"))  # threads are made as needed
    _, collector = await loop.create_connection(Collector, sock=end)
    await collector.run()
    while not collector.gone:  # the transport closes once its buffer is out, or the parent ends
        await asyncio.sleep(FLUSH_NS / 1e9)


def main() -> None:
    """Entry point of the process."""
    logging.basicConfig(level=logging.INFO, format="%(levelname)s %(name)s %(message)s", stream=sys.stderr)
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # a terminal's Ctrl-C reaches the whole group; the worker tells us
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    gc.freeze()
    gc.disable()  # ticks make no cycles; links do, with all that they had read: see TIDY_S
    asyncio.run(serve(socket.socket(fileno=int(sys.argv[1]))))


if __name__ == "__main__":
    main()
