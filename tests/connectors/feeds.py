"""Configurations for collectors, a trade and a recording to go with them, and partitions driven by hand."""

import json
import time
from dataclasses import dataclass, field

from connectors.frame_files import read_frames
from connectors.pipe import CollectorConfig, Endpoint
from connectors.universe import find
from market.schema import END_OF_INPUT
from market.venues import VENUE_CODES
from market.venues import VENUES as NAMES
from tests.connectors.peers import DEADLINE_S
from tests.connectors.ticks import START_NS

SYMBOLS = ["BTC-USDT", "ETH-USDT"]
NATIVES = {"binance": {"BTC-USDT": "BTCUSDT", "ETH-USDT": "ETHUSDT"}, "okx": {"BTC-USDT": "BTC-USDT"}}


def config(url="ws://127.0.0.1:9", **options):
    endpoints = {name: Endpoint(url, "http://127.0.0.1:9") for name in NATIVES}
    return CollectorConfig(SYMBOLS, NATIVES, endpoints, seed=1, **options)


def trade(number, native="BTCUSDT"):
    data = {
        "e": "trade", "E": 1790000000000, "s": native, "t": number, "p": "61837.63", "q": "0.02",
        "T": 1790000000000, "m": True, "M": True,
    }  # fmt: skip
    return json.dumps({"stream": f"{native.lower()}@trade", "data": data}, separators=(",", ":")).encode()


class Wall:
    """A wall clock moved by hand."""

    def __init__(self):
        self.now_ns = START_NS

    def __call__(self):
        return self.now_ns


def recorded(directory, name="binance"):
    """Return (receive time, frame) of all that is on disk."""
    return [
        pair
        for path in sorted((directory / name).iterdir())
        for chunk in read_frames(path)
        for pair in zip((chunk.receive_ns - START_NS).tolist(), chunk.frames, strict=True)
    ]


def config_of(simulator, folder, venues=NAMES, wanted="top:5", context=None, **options):
    """Return the configuration of a collector that serves a running simulator's venues."""
    endpoints = {name: Endpoint(**simulator.endpoints[name]) for name in venues}
    universe = find(venues, wanted, endpoints, folder / "instruments", context)
    return CollectorConfig(list(universe.symbols), universe.natives, endpoints, seed=1, **options)


@dataclass
class Heard:
    """What a partition handed out."""

    batches: list = field(default_factory=list)
    over: bool = False

    @property
    def rows(self):
        return sum(batch.ticks.size for batch in self.batches)

    @property
    def states(self):
        return [batch.status.state for batch in self.batches if batch.status]

    def trade_ids(self, symbols):
        """Return (symbol, trade id) of the trades in order; history that a venue repeats left out."""
        return [
            (symbols[row["symbol"]], row["trade_id"].decode())
            for batch in self.batches
            for row in batch.ticks[(batch.ticks["kind"] == 0) & (batch.ticks["flags"] & 2 == 0)]
        ]


def poll(parts, heard):
    """Ask every partition once, as a worker does, and close the ended ones as it does."""
    for name, part in parts.items():
        if heard[name].over:
            continue
        try:
            items = part.next_batch()
        except StopIteration:
            heard[name].over = True
            part.close()
            continue
        assert all(key == name for key, _ in items)
        heard[name].batches += [batch for _, batch in items]


def drive(parts, heard, condition, within_s=DEADLINE_S):
    """Poll the partitions until a condition holds."""
    deadline_s = time.monotonic() + within_s
    while not condition():
        assert time.monotonic() < deadline_s, {name: h.rows for name, h in heard.items()}
        poll(parts, heard)
        time.sleep(0.003)


def check_promises(name, batches):
    """Assert a venue's batches keep the promises of a TickBatch, the last one being the end or not."""
    before_ns = 0
    for batch in batches:
        assert batch.venue == VENUE_CODES[name]
        assert batch.watermark_ns >= before_ns
        received = batch.ticks["receive_ns"]
        assert (received[1:] >= received[:-1]).all()
        assert (received > before_ns).all()
        assert (received <= batch.watermark_ns).all()
        assert (batch.ticks["venue"] == batch.venue).all()
        if batch.watermark_ns == END_OF_INPUT:
            assert batch.ticks.size == 0
            assert batch is batches[-1]
        before_ns = batch.watermark_ns
