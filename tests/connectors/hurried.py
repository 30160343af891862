"""The whole collector in this process, with short deadlines, on a simulator; and faults ordered one after another.

What a venue waits for is shortened where the product has it: in the facts of its module and in named constants.
"""

import asyncio
import json
import logging
import socket
from dataclasses import dataclass, field, replace
from urllib.request import Request, urlopen

from connectors import backfill, connection, feed, retry, session
from connectors.collector import Collector
from connectors.pipe import BatchReader, Serve, Stop, encode_line
from connectors.retry import backoff
from connectors.venues import VENUES
from market.schema import TRADE, VenueCounters, join
from market.symbols import SymbolTable
from operators.sequence import SequenceKernel

PING_S, PONG_S, SILENCE_S, STALE_S = 0.5, 2.0, 2.5, 0.8
CELL_S = 20.0
"""What a fault may take until all is whole again."""
COUNTED = ("rejects", "unknown_symbols", "refused", "reconnects")


def hurry(monkeypatch):
    """Shorten what venues wait for; the simulator allows more than the venues do."""
    for venue in VENUES.values():
        beat = replace(venue.HEARTBEAT, every_s=PING_S, pong_s=PONG_S, silence_s=SILENCE_S)
        monkeypatch.setattr(venue, "HEARTBEAT", beat)
        monkeypatch.setattr(venue, "LIMITS", replace(venue.LIMITS, connections_per_window=(1000, 1.0)))
    monkeypatch.setattr(VENUES["kucoin"], "_PING_S", (0.0, 1.5))  # of what the token's reply says
    monkeypatch.setattr(VENUES["kraken"], "REFILL", replace(VENUES["kraken"].REFILL, requests=5))
    monkeypatch.setattr(session, "backoff", lambda rng: backoff(rng, 0.05, 0.3))
    monkeypatch.setattr(session, "OVERLAP_S", 0.5)
    monkeypatch.setattr(session, "HANDOVER_S", 4.0)
    monkeypatch.setattr(connection, "BEAT_S", 0.05)
    monkeypatch.setattr(session, "BEAT_S", 0.05)
    monkeypatch.setattr(retry, "BANNED_S", 0.5)
    monkeypatch.setattr(backfill, "FIRST_WAIT_S", 0.2)
    monkeypatch.setattr(backfill, "CAP_S", 0.5)
    monkeypatch.setattr(feed, "STALE_NS", int(STALE_S * 1e9))
    monkeypatch.setattr(feed, "STATUS_NS", 50_000_000)


@dataclass
class Heard:
    """What the consumer has of one venue: trades after sequencing, counters, states, gaps."""

    kernel: SequenceKernel
    sizes: dict = field(default_factory=dict)
    """(symbol, trade id) -> size"""
    twice: list = field(default_factory=list)
    gaps: list = field(default_factory=list)
    status: VenueCounters = field(default_factory=VenueCounters)
    states: list = field(default_factory=list)
    late: int = 0
    """Ticks of an event time after their receipt."""


class Ledger:
    """What the simulator made, read along."""

    def __init__(self, path):
        self._path = path
        self._at = 0
        self._rest = ""
        self.rows = {name: [] for name in VENUES}
        """Venue -> (symbol, id, fills, size, sent, stamp) in the order made."""

    def read(self):
        with self._path.open() as file:
            file.seek(self._at)
            text = file.read()
            self._at = file.tell()
        *lines, self._rest = (self._rest + text).split("\n")
        for line in lines:
            venue, symbol, trade_id, _, size, fills, sent, stamp_ns = line.split(",")
            if venue != "venue":
                self.rows[venue].append((symbol, int(trade_id), int(fills), float(size), sent == "1", int(stamp_ns)))


class Consumer:
    """A collector that serves all venues, and what comes of it."""

    def __init__(self, simulator, config):
        self.simulator = simulator
        self.symbols = config.symbols
        self.ledger = Ledger(simulator.folder / "trades.csv")
        groups = SymbolTable(config.symbols).groups
        self.heard = {name: Heard(SequenceKernel(code, groups)) for code, name in enumerate(VENUES)}
        self._config = config

    async def __aenter__(self):
        loop = asyncio.get_running_loop()
        self._end, theirs = socket.socketpair()
        self._end.setblocking(False)
        _, self.collector = await loop.create_connection(Collector, sock=theirs)
        self._running = asyncio.create_task(self.collector.run())
        for word in (self._config, *(Serve(name) for name in VENUES)):
            await loop.sock_sendall(self._end, encode_line(word) + b"\n")
        self._reading = asyncio.create_task(self._read())
        return self

    async def __aexit__(self, *_):
        await asyncio.get_running_loop().sock_sendall(self._end, encode_line(Stop()) + b"\n")
        await asyncio.wait_for(self._running, 10)
        await asyncio.wait_for(self._reading, 10)
        self._end.close()

    async def _read(self):
        reader, names = BatchReader(), list(VENUES)
        while data := await asyncio.get_running_loop().sock_recv(self._end, 1 << 18):
            for batch in reader.feed(data):
                self._take(self.heard[names[batch.venue]], batch)

    def _take(self, heard, batch):
        if batch.status is not None:
            heard.status = batch.status
            if [batch.status.state] != heard.states[-1:]:
                heard.states.append(batch.status.state)
        done = heard.kernel.add(batch)
        heard.gaps += done.gaps
        ticks = join([part.ticks for part in done.slices])
        heard.late += int((ticks["event_ns"] > ticks["receive_ns"]).sum())
        trades = ticks[ticks["kind"] == TRADE]
        columns = (trades[name].tolist() for name in ("symbol", "trade_id", "size"))
        for symbol, trade_id, size in zip(*columns, strict=True):
            key = self.symbols[symbol], int(trade_id)
            if key in heard.sizes:
                heard.twice.append(key)
            heard.sizes[key] = size

    def order(self, venue, **fields):
        """Order a fault of a venue, on the first port that answers: a fault may have shut any; return the answer."""
        posted = json.dumps({"venue": venue, **fields}).encode()
        for name in self.simulator.endpoints.keys() & VENUES.keys():
            try:
                url = f"{self.simulator.endpoints[name]['rest']}/sim/fault"
                with urlopen(Request(url, posted), timeout=5) as reply:
                    return json.load(reply)
            except OSError as error:
                refused = error
        raise refused

    def lacks(self, venue, end, begin=0):
        """Return rows begin to end of a venue's ledger that did not arrive whole and are in no unfilled gap."""
        heard = self.heard[venue]
        return [row for row in self.ledger.rows[venue][begin:end] if not self._is_whole(heard, row)]

    def _is_whole(self, heard, row):
        symbol, last, fills, size, _, stamp_ns = row
        stamp_ns -= stamp_ns % 1_000_000  # gaps go by the stamps as sent
        got = sum(heard.sizes.get((symbol, number), 0.0) for number in range(last - fills + 1, last + 1))
        if abs(got - size) <= 1e-9 * size:
            return True
        code = self.symbols.index(symbol)
        return any(g.symbol == code and not g.filled and g.from_ns <= stamp_ns <= g.to_ns for g in heard.gaps)


async def follow(ledger):
    """Read a ledger along until cancelled."""
    while True:
        ledger.read()
        await asyncio.sleep(0.02)


class Records(logging.Handler):
    """Log lines of ours as text, from informative on, while it is entered."""

    def __init__(self):
        super().__init__()
        self.lines = []
        self._logger = logging.getLogger("mie")

    def emit(self, record):
        self.lines.append(record.getMessage())

    def __enter__(self):
        self._before = self._logger.level
        self._logger.setLevel(logging.INFO)
        self._logger.addHandler(self)
        return self

    def __exit__(self, *_):
        self._logger.removeHandler(self)
        self._logger.setLevel(self._before)
