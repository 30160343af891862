"""What each stage of the way costs, µs of CPU a message, on frames of the simulator at a given rate.

The simulator runs beside; this process receives its frames with the real sessions, in the real 5 ms flushes, and then
puts them through the real stages one after the other. Batches are as small or large as they are live at that rate.
"""

from __future__ import annotations

import asyncio
import json
import random
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

import numpy as np

from connectors import universe
from connectors.clock import ReceiveClock
from connectors.pipe import FLUSH_NS, BatchReader, Endpoint, encode_batch
from connectors.route import Route
from connectors.session import Session
from connectors.venue import Catalog
from connectors.venues import VENUES
from market.records import StudyBatch, WickBatch
from market.schema import I64, Rows, TickBatch, VenueCounters
from market.symbols import KEY_GROUPS, SymbolTable
from market.venues import VENUE_CODES
from operators.candles import CandleKernel
from operators.forge import Forged, ForgeKernel, ForgePolicy
from operators.indicators.kernel import StudyKernel
from operators.sequence import SequenceKernel, Slice
from operators.steps import released_trades
from sinks.outputs import HotSink, SpoolSink

WARM_S: Final = 3.0
START_S: Final = 30.0
INTERVALS_S: Final = (1, 60, 300, 900, 3600, 14400, 86400)
HOLD_NS: Final = 210_000_000


@dataclass(slots=True)
class Flush:
    """What one venue received in one flush interval."""

    venue: str
    frames: list[bytes]
    receive_ns: I64
    watermark_ns: int


@dataclass(slots=True)
class Stages:
    """CPU seconds by stage, and the messages they were spent on."""

    messages: int = 0
    cpu_s: dict[str, float] = field(default_factory=dict)

    def us(self) -> dict[str, float]:
        """Return µs a message by stage."""
        return {name: used / self.messages * 1e6 for name, used in self.cpu_s.items()}

    @contextmanager
    def time(self, name: str) -> Iterator[None]:
        """Count the CPU time of a `with` block for a stage."""
        before = time.process_time()
        yield
        self.cpu_s[name] = self.cpu_s.get(name, 0.0) + time.process_time() - before


@contextmanager
def simulator(rate: int, directory: Path, *options: str) -> Iterator[dict[str, Endpoint]]:
    """Run the simulator for the time of a `with` block; yield its addresses."""
    command = [sys.executable, "-m", "simulator", "--rate", str(rate), "--data-dir", str(directory), "--follow-parent"]
    with subprocess.Popen([*command, *options], stdin=subprocess.PIPE, stdout=subprocess.DEVNULL) as process:
        where = directory / "endpoints.json"
        deadline = time.monotonic() + START_S
        while not where.exists():
            if time.monotonic() > deadline or process.poll() is not None:
                text = "the simulator did not start"
                raise RuntimeError(text)
            time.sleep(0.05)
        found = json.loads(where.read_text())
        yield {name: Endpoint(at["ws"], at["rest"]) for name, at in found.items() if "ws" in at}
        process.terminate()


async def _receive(
    endpoints: dict[str, Endpoint], catalogs: dict[str, Catalog], length_s: float
) -> tuple[list[Flush], float]:
    """Receive for a while; return the flushes and the CPU seconds it took."""
    clock = ReceiveClock()
    sessions: dict[str, Session] = {}
    tasks = []
    for name, endpoint in endpoints.items():
        route = Route.to(VENUES[name], clock, endpoint)
        sessions[name] = Session(route, VenueCounters(), rng=random.Random(1))
        for native in catalogs[name].codes:
            sessions[name].add(native)
        tasks.append(asyncio.create_task(sessions[name].run()))
    await asyncio.sleep(WARM_S)
    for session in sessions.values():
        session.current.frames = []
    flushes: list[Flush] = []
    started, before = time.monotonic(), time.process_time()
    while time.monotonic() - started < length_s:
        await asyncio.sleep(FLUSH_NS / 1e9)
        watermark_ns = clock() - 1
        for name, session in sessions.items():
            chunks, session.current.frames = session.current.frames, []
            frames = [frame for messages, _ in chunks for frame in messages]
            stamps = np.repeat([at_ns for _, at_ns in chunks], [len(messages) for messages, _ in chunks])
            flushes.append(Flush(name, frames, stamps.astype(np.int64), watermark_ns))
    used = time.process_time() - before
    for task in tasks:
        task.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)
    return flushes, used


def measure(rate: int, length_s: float = 6.0) -> Stages:
    """Measure all stages at a rate of the simulator, messages a second."""
    stages = Stages()
    with tempfile.TemporaryDirectory(prefix="mie-stages-") as folder:
        directory = Path(folder)
        with simulator(rate, directory / "sim") as endpoints:
            found = universe.find(tuple(endpoints), "top:50", endpoints, directory / "lists")
            table = SymbolTable(found.symbols)
            catalogs = {name: Catalog(natives, table.codes) for name, natives in found.natives.items()}
            flushes, used = asyncio.run(_receive(endpoints, catalogs, length_s))
        stages.messages = sum(len(flush.frames) for flush in flushes)
        stages.cpu_s["receive"] = used
        _through(stages, flushes, table, catalogs, directory)
    return stages


def _through(
    stages: Stages, flushes: list[Flush], table: SymbolTable, catalogs: dict[str, Catalog], directory: Path
) -> None:
    reader = BatchReader()
    sequencers = {name: SequenceKernel(VENUE_CODES[name], table.groups) for name in catalogs}
    policy = ForgePolicy(venues=tuple(VENUE_CODES[name] for name in catalogs))
    groups = [table.of_group(group) for group in range(KEY_GROUPS)]
    forges = [ForgeKernel(codes, policy) for codes in groups]
    candles = [CandleKernel(codes, INTERVALS_S, hold_ns=HOLD_NS) for codes in groups]
    studies = [StudyKernel(codes, INTERVALS_S) for codes in groups]
    spool = SpoolSink(directory, table.names, 64).build("history", 0, 1)
    hot = HotSink(directory, table.names).build("hot", 0, 1)
    for start in range(0, len(flushes), len(catalogs)):
        part = flushes[start : start + len(catalogs)]
        with stages.time("decode"):
            decoded = [_decode(flush, catalogs) for flush in part]
        with stages.time("pipe"):
            batches = list(reader.feed(b"".join([encode_batch(batch) for batch in decoded])))
        with stages.time("sequence"):
            slices = _sequence(batches, sequencers)
        with stages.time("forge"):
            forged = [forge.add(mine) for forge, mine in zip(forges, slices, strict=True)]
        with stages.time("candles"):
            closed = _candles(forged, candles)
        with stages.time("indicators"):
            studied = [s.add(rows) for s, rows in zip(studies, closed, strict=True) if rows is not None]
        with stages.time("sinks"):
            _sink(studied, forged, spool, hot)
    spool.close()
    hot.close()


def _decode(flush: Flush, catalogs: dict[str, Catalog]) -> TickBatch:
    decoded = VENUES[flush.venue].decode(flush.frames, flush.receive_ns, catalogs[flush.venue])
    return TickBatch(VENUE_CODES[flush.venue], decoded.ticks, flush.watermark_ns)


def _sequence(batches: list[TickBatch], sequencers: dict[str, SequenceKernel]) -> list[list[Slice]]:
    done = [sequencer.add(batch) for sequencer, batch in zip(sequencers.values(), batches, strict=True)]
    return [[sequenced.slices[group] for sequenced in done] for group in range(KEY_GROUPS)]


def _candles(forged: list[Forged | None], kernels: list[CandleKernel]) -> list[Rows | None]:
    return [
        None if done is None else kernel.add(*released_trades(done), done.watermark_ns)
        for kernel, done in zip(kernels, forged, strict=True)
    ]


def _sink(studied: list[StudyBatch], forged: list[Forged | None], spool: Any, hot: Any) -> None:
    lasting: list[Any] = [batch for batch in studied if batch.candles.size]
    lasting += [WickBatch(done.wicks) for done in forged if done is not None and done.wicks]
    if lasting:
        spool.write_batch(lasting)
    newest = [done.hot for done in forged if done is not None and done.hot.size]
    if newest:
        hot.write_batch(newest)
