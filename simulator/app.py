"""The simulator as a whole: model, venues, ports, files. Options in, a running set of servers out."""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import signal
import ssl
import stat
import sys
import time
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TextIO

from market.venues import VENUES
from simulator.burst import Burst
from simulator.events import Record
from simulator.faults.control import Control
from simulator.faults.schedule import Entry, random_orders
from simulator.feed import Feed, beat
from simulator.history import History
from simulator.listener import Listener
from simulator.market import Market
from simulator.server import Connection, Port
from simulator.universe import build_universe
from simulator.venues import VENUE_TYPES

TAPE_RATE = 40_000.0
"""Rate of the model that fills the tapes of a capacity run."""
PARENT_CHECK_S = 0.2


@dataclass(frozen=True, slots=True)
class Options:
    """What a run is asked to do.

    `rate` counts ticks a second over all venues; 0 = as fast as they are read. `fault_rate` counts faults a minute.
    """

    rate: float = 2000.0
    seed: int = 1
    venues: tuple[str, ...] = VENUES
    symbols: int = 50
    data_dir: Path = Path(".mie/sim")
    duration_s: float | None = None
    wicks_per_minute: float = 12.0
    skew_ms: dict[str, float] = field(default_factory=dict)
    tls_cert: Path | None = None
    tls_key: Path | None = None
    burst: bool = False
    ledger: bool = False
    ledger_all: bool = False
    follow_parent: bool = False
    faults: tuple[Entry, ...] = ()
    fault_seed: int = 1
    fault_rate: float = 0.0

    @property
    def paced(self) -> bool:
        """Whether frames leave when they are due, and not when the client is ready."""
        return self.rate > 0


class Simulator:
    """Model, venues and ports of one run."""

    def __init__(self, options: Options, truth: TextIO, ledger: TextIO | None, faults: TextIO) -> None:
        """Build everything; open nothing. Raises `OrderError` if a fault of the options cannot be."""
        self._options = options
        self._truth = truth
        self._faults = faults
        burst = options.burst or not options.paced
        universe = build_universe(options.symbols, options.venues)
        start_ns = time.time_ns()
        history = History(universe, seed=options.seed, start_ns=start_ns)
        self.market = Market(
            universe,
            seed=options.seed,
            rate=TAPE_RATE if burst else options.rate,
            start_ns=start_ns,
            wicks_per_minute=0.0 if burst else options.wicks_per_minute,
            skew_ms=options.skew_ms,
            start_log=history.start_log(),
            on_record=self._record,
        )
        self.ports = [
            Port(VENUE_TYPES[name](universe, self.market, history), self.stats, paced=options.paced)
            for name in options.venues
        ]
        for port in self.ports:
            port.venue.notes_all = options.ledger_all
        self._feed = None if burst else Feed(self.market, history, self.ports, _noting(ledger) if ledger else None)
        self._burst = Burst(self.market, self.ports, options.rate) if burst else None
        self.control = Control(self.ports, self._fault, paced=not burst)
        for _, order in options.faults:
            self.control.check(order)

    async def listen(self) -> None:
        """Open every venue's port on the loopback interface, with the faults of second 0 in force."""
        tls = _tls_context(self._options)
        for port in self.ports:
            port.listener = Listener(_factory(port), tls)
            port.listening(port.listener.port, tls=tls is not None)
        for at_s, order in self._options.faults:
            if at_s == 0:
                self.control.begin(order)
        for port in self.ports:
            assert port.listener is not None
            await port.listener.open()

    def endpoints(self) -> dict[str, Any]:
        """Return the content of `endpoints.json`."""
        skews = dict(zip(self.market.universe.venues, (self.market.skew_ns / 1e6).tolist(), strict=True))
        urls: dict[str, Any] = {port.venue.NAME: {"ws": port.ws, "rest": port.rest} for port in self.ports}
        return {**urls, "skew_ms": skews}

    def stats(self) -> dict[str, Any]:
        """Return the counts so far, a number per venue."""
        each = {port.venue.NAME: port for port in self.ports}
        return {
            "sent": {name: port.sent for name, port in each.items()},
            "trades": {name: port.trades for name, port in each.items()},
            "made": {name: port.venue.log.made for name, port in each.items()},
            "clients": {name: len(port.clients) for name, port in each.items()},
            "dropped": {name: port.dropped for name, port in each.items()},
            "wicks": self.market.events.wicks,
            "crashes": self.market.events.crashes,
            "skipped_ms": self._feed.skipped_ms if self._feed else 0,
        }

    async def run(self, stop: asyncio.Event) -> None:
        """Drive the market until `stop` is set; an error in it ends the run."""
        engine = self._feed or self._burst
        assert engine is not None
        tasks = [asyncio.create_task(engine.run()), asyncio.create_task(beat(self.ports))]
        tasks.append(asyncio.create_task(stop.wait(), name="stop"))  # type: ignore[arg-type]
        tasks += [asyncio.create_task(self._follow(entries)) for entries in self._schedules()]
        done, running = await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
        for task in running:
            task.cancel()
        await asyncio.gather(*running, return_exceptions=True)
        if self._feed is not None:
            self._feed.finish()
        for task in done:
            task.result()

    def close(self) -> None:
        """Stop listening and say goodbye."""
        for port in self.ports:
            if port.listener is not None:
                port.listener.close()
            for client in tuple(port.clients):
                client.close(1001, "going away")

    def _schedules(self) -> list[Iterable[Entry]]:
        options = self._options
        made: list[Iterable[Entry]] = [[entry for entry in options.faults if entry[0] > 0]]
        if options.fault_rate > 0:
            places = self.market.universe.symbols.index
            symbols = {port.venue.NAME: sorted(port.venue.symbols(), key=places) for port in self.ports}
            made.append(random_orders(options.fault_seed, options.fault_rate, symbols))
        return made

    async def _follow(self, entries: Iterable[Entry]) -> None:
        """Carry out a schedule; like the other tasks of a run, end only with an error."""
        await self.control.follow(entries)
        await asyncio.Event().wait()

    def _fault(self, line: dict[str, Any]) -> None:
        self._faults.write(json.dumps(line, separators=(",", ":")) + "\n")
        self._faults.flush()

    def _record(self, record: Record) -> None:
        self._truth.write(json.dumps(record, separators=(",", ":")) + "\n")
        self._truth.flush()


async def serve(options: Options) -> None:
    """Run the simulator until a signal, the end of its time or, if asked to, of its parent."""
    stop = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stop.set)
    if options.duration_s is not None:
        loop.call_later(options.duration_s, stop.set)
    options.data_dir.mkdir(parents=True, exist_ok=True)
    with _files(options) as (truth, ledger, faults):
        simulator = Simulator(options, truth, ledger, faults)
        await simulator.listen()
        endpoints = simulator.endpoints()
        _write_atomically(options.data_dir / "endpoints.json", json.dumps(endpoints, indent=1) + "\n")
        ports = " ".join(f"{port.venue.NAME}={port.ws.rpartition(':')[2]}" for port in simulator.ports)
        sys.stdout.write(f"simulator ready: {ports}\n")
        sys.stdout.flush()
        watch = asyncio.create_task(_follow_parent(stop)) if options.follow_parent else None
        try:
            await simulator.run(stop)
        finally:
            if watch is not None:
                watch.cancel()
            simulator.close()
            await asyncio.sleep(0)
            _write_atomically(options.data_dir / "stats.json", json.dumps(simulator.stats()) + "\n")


async def _follow_parent(stop: asyncio.Event) -> None:
    """Set `stop` once the parent process is gone, or has closed our standard input."""
    parent = os.getppid()
    kind = os.fstat(0).st_mode
    if stat.S_ISFIFO(kind) or stat.S_ISSOCK(kind):
        asyncio.get_running_loop().add_reader(0, _read_stdin, stop)
    while os.getppid() == parent:
        await asyncio.sleep(PARENT_CHECK_S)
    stop.set()


def _read_stdin(stop: asyncio.Event) -> None:
    if not os.read(0, 4096):
        asyncio.get_running_loop().remove_reader(0)
        stop.set()


@contextlib.contextmanager
def _files(options: Options) -> Iterator[tuple[TextIO, TextIO | None, TextIO]]:
    with contextlib.ExitStack() as stack:
        truth = stack.enter_context((options.data_dir / "wicks.jsonl").open("w"))
        ledger = stack.enter_context((options.data_dir / "trades.csv").open("w")) if options.ledger else None
        if ledger is not None:
            ledger.write("venue,symbol,trade_id,price,size,fills,sent,stamp_ns\n")
        yield truth, ledger, stack.enter_context((options.data_dir / "faults.jsonl").open("w"))


def _noting(ledger: TextIO) -> Callable[[list[str]], None]:
    def note(lines: list[str]) -> None:
        ledger.writelines(lines)
        ledger.flush()  # who reads along sees whole steps

    return note


def _factory(port: Port) -> Callable[[], asyncio.Protocol]:
    return lambda: Connection(port)


def _tls_context(options: Options) -> ssl.SSLContext | None:
    if options.tls_cert is None:
        return None
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(options.tls_cert, options.tls_key)
    return context


def _write_atomically(path: Path, text: str) -> None:
    part = path.with_suffix(".part")
    part.write_text(text)
    part.replace(path)
