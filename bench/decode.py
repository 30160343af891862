"""What decoding costs, µs of CPU a frame, beside a floor: a bare typed msgspec decode of the same frames.

`python -m bench.decode`. The bound is 1.5 times the floor plus 0.3 µs, in batches of 200 real frames. On a shared
machine other work, and phases of some seconds in which all takes twice as long, only ever add: what counts is the least
of some batches, at the fastest tenth of many visits. Visits go round the venues, ours and the floor in turns, so that
all meet the same phases, and a tenth rather than the best of all, so that one lucky moment decides nothing.
"""

from __future__ import annotations

import gc
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import msgspec
import numpy as np

from connectors.venue import Catalog, OpenCatalog
from connectors.venues import VENUES

CAPTURES = Path(__file__).parents[1] / "tests" / "captures"
FRAMES = 200
FLOORS = 1.5
MARGIN_US = 0.3
VISITS = 60
BATCHES = 25
"""How often each venue and kind is visited, and batches each time: the first ones warm the caches."""

CASES = {
    ("binance", "trade"): "trade",
    ("binance", "quote"): "bookTicker",
    ("okx", "trade"): "trades_2026-09-03",
    ("okx", "quote"): "bbo-tbt",
    ("bybit", "trade"): "spot_publicTrade_2026-09-03",
    ("bybit", "quote"): "spot_orderbook1",
    ("kraken", "trade"): "v2_trade",
    ("kraken", "quote"): "v2_ticker",
    ("gateio", "trade"): "trades",
    ("gateio", "quote"): "book_ticker",
    ("bitget", "trade"): "v2_trade",
    ("bitget", "quote"): "v2_books1",
    ("kucoin", "trade"): "match_capture",
    ("kucoin", "quote"): "level1",
}
"""Venue and kind -> capture."""

TODAY = {("kraken", "quote"): b"timestamp", ("gateio", "trade"): b'"create_time_ms":"17'}
"""What marks the frames of today's form, in captures that hold others too."""

_Fields = list[tuple[str, Any]]


class _Level(msgspec.Struct, array_like=True, gc=False):
    price: float
    size: float


def _struct(name: str, fields: _Fields) -> type[msgspec.Struct]:
    return msgspec.defstruct(name, fields, gc=False)


_OkxArg = _struct("OkxArg", [("channel", str), ("instId", str)])
_BitgetArg = _struct("BitgetArg", [("instType", str), ("channel", str), ("instId", str)])


def _enveloped(field: str, row: _Fields, envelope: _Fields, many: bool = False) -> type[msgspec.Struct]:
    inner: Any = _struct("Row", row)
    return _struct("Message", [*envelope, (field, list[inner] if many else inner)])


def _floor_types() -> dict[tuple[str, str], type[msgspec.Struct]]:
    """Return the least types that hold what a tick needs: one kind each, every field required."""
    okx, bitget, stream = [("arg", _OkxArg)], [("action", str), ("arg", _BitgetArg)], [("stream", str)]
    topic, kraken, gate = [("topic", str)], [("channel", str), ("type", str)], [("channel", str), ("event", str)]
    levels = [("asks", list[_Level]), ("bids", list[_Level])]
    number, text = float, str
    trade = [("e", text), ("s", text), ("t", int), ("p", number), ("q", number), ("T", int), ("m", bool)]
    quote = [("u", int), ("s", text), ("b", number), ("B", number), ("a", number), ("A", number)]
    sized = [("price", number), ("size", number), ("side", text)]
    best = [(name, number) for name in ("bid", "bid_qty", "ask", "ask_qty")]
    sold = [("side", text), ("price", number), ("qty", number), ("trade_id", int), ("timestamp", text)]
    filled = [("i", text), ("T", int), ("p", number), ("v", number), ("S", text)]
    paid = [("id", int), ("create_time_ms", text), ("side", text), ("currency_pair", text)]
    return {
        ("binance", "trade"): _enveloped("data", trade, stream),
        ("binance", "quote"): _enveloped("data", quote, stream),
        ("okx", "trade"): _enveloped(
            "data", [("tradeId", text), ("px", number), ("sz", number), ("side", text), ("ts", int)], okx, many=True
        ),
        ("okx", "quote"): _enveloped("data", [*levels, ("ts", int)], okx, many=True),
        ("bybit", "trade"): _enveloped("data", filled, topic, many=True),
        ("bybit", "quote"): _enveloped(
            "data", [("b", list[_Level]), ("a", list[_Level])], [*topic, ("ts", int), ("cts", int)]
        ),
        ("kraken", "trade"): _enveloped("data", [("symbol", text), *sold], kraken, many=True),
        ("kraken", "quote"): _enveloped("data", [("symbol", text), *best, ("timestamp", text)], kraken, many=True),
        ("gateio", "trade"): _enveloped("result", [*paid, ("amount", number), ("price", number)], gate),
        ("gateio", "quote"): _enveloped("result", [("t", int), *quote], gate),
        ("bitget", "trade"): _enveloped("data", [("ts", int), *sized, ("tradeId", text)], bitget, many=True),
        ("bitget", "quote"): _enveloped("data", [*levels, ("ts", int)], bitget, many=True),
        ("kucoin", "trade"): _enveloped(
            "data", [("symbol", text), *sized, ("tradeId", text), ("time", int)], [*topic, ("subject", text)]
        ),
        ("kucoin", "quote"): _enveloped(
            "data", [("asks", list[float]), ("bids", list[float]), ("timestamp", int)], [*topic, ("subject", text)]
        ),
    }


@dataclass(frozen=True, slots=True)
class Cost:
    """Cost of one venue's frames of one kind.

    Attributes:
        ours_us: Our decode, µs a frame.
        floor_us: A bare typed decode, µs a frame.
    """

    venue: str
    kind: str
    ours_us: float
    floor_us: float

    @property
    def bound_us(self) -> float:
        """µs a frame that decoding may take."""
        return FLOORS * self.floor_us + MARGIN_US

    @property
    def over_us(self) -> float:
        """µs a frame above the bound; negative is below it."""
        return self.ours_us - self.bound_us

    @property
    def verdict(self) -> str:
        """`ok` or `over`."""
        return "over" if self.over_us > 0 else "ok"


def run(visits: int = VISITS, batches: int = BATCHES) -> list[Cost]:
    """Return the cost of each venue and kind."""
    floors = _floor_types()
    calls = {case: _calls(*case, floors[case]) for case in CASES}
    least: dict[tuple[str, str], list[tuple[float, float]]] = {case: [] for case in CASES}
    with _no_collection():
        for _ in range(visits):
            for case, (ours, bare) in calls.items():
                pairs = [(_us_a_frame(ours), _us_a_frame(bare)) for _ in range(batches)]
                least[case].append((min(pair[0] for pair in pairs), min(pair[1] for pair in pairs)))
    return [Cost(*case, *(sorted(costs)[visits // 10] for costs in zip(*least[case], strict=True))) for case in CASES]


def frames_of(venue: str, kind: str) -> list[bytes]:
    """Return a batch of real frames, those with one row each, repeated to fill it.

    Of Kraken's quotes and Gate's trades only those in today's form: earlier ones had no time, or fewer decimals.
    """
    lines = (CAPTURES / venue / f"{CASES[venue, kind]}.jsonl").read_bytes().splitlines()
    if (venue, kind) in TODAY:
        lines = [line for line in lines if TODAY[venue, kind] in line]
    single = [line for line in lines if _rows_in(venue, line) == 1]
    return (single * (FRAMES // len(single) + 1))[:FRAMES]


def _rows_in(venue: str, frame: bytes) -> int:
    module = VENUES[venue]
    return len(module.decode([frame], np.zeros(1, np.int64), OpenCatalog(module.symbol_of_native)).ticks)


def _calls(venue: str, kind: str, floor: type[msgspec.Struct]) -> tuple[Callable[[], object], Callable[[], object]]:
    """Return what decodes a batch as we do, and as barely as can be."""
    module, frames = VENUES[venue], frames_of(venue, kind)
    receive_ns = np.arange(1, FRAMES + 1)
    catalog = catalog_of(venue, frames)
    read = msgspec.json.Decoder(floor, strict=False).decode
    return lambda: module.decode(frames, receive_ns, catalog), lambda: [read(frame) for frame in frames]


def catalog_of(venue: str, frames: list[bytes]) -> Catalog:
    """Return a catalog of the symbols in frames, as it is in a run."""
    module = VENUES[venue]
    learned = OpenCatalog(module.symbol_of_native)
    module.decode(frames, np.ones(len(frames), np.int64), learned)
    return Catalog(learned.natives, {name: code for code, name in enumerate(learned.names)})


def _us_a_frame(call: Callable[[], object]) -> float:
    start = time.process_time_ns()
    call()
    return (time.process_time_ns() - start) / FRAMES / 1000


@contextmanager
def _no_collection() -> Iterator[None]:
    """Keep the garbage collector out: a collector process has it wait for 50,000 objects."""
    was = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if was:
            gc.enable()


def main() -> None:
    """Print the table."""
    print(
        f"µs of CPU a frame, batches of {FRAMES}, {VISITS} x {BATCHES} of them; bound: {FLOORS} x floor + {MARGIN_US}"
    )
    print(f"{'venue':8} {'kind':6} {'ours':>7} {'floor':>7} {'ratio':>6} {'bound':>7} {'over':>7} verdict")
    costs = run()
    for cost in costs:
        numbers = f"{cost.ours_us:7.3f} {cost.floor_us:7.3f} {cost.ours_us / cost.floor_us:6.2f} {cost.bound_us:7.3f}"
        print(f"{cost.venue:8} {cost.kind:6} {numbers} {cost.over_us:+7.3f} {cost.verdict}")
    over = sum(cost.over_us > 0 for cost in costs)
    print(f"{len(costs) - over} of {len(costs)} within the bound")


if __name__ == "__main__":
    main()
