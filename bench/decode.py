"""What decoding costs, µs of CPU a frame, beside a floor: a bare typed msgspec decode of the same frames.

`python -m bench.decode`. The bound is 1.5 times the floor plus 0.3 µs, in batches of 200 real frames; `over` is how
far a venue lies above it. Ours and the floor are timed in turns, so that a noisy machine hits both.
"""

from __future__ import annotations

import time
import timeit
from collections.abc import Callable
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
    def over_us(self) -> float:
        """µs a frame above the bound; negative is below it."""
        return self.ours_us - FLOORS * self.floor_us - MARGIN_US


def run(rounds: int = 100, repeats: int = 5) -> list[Cost]:
    """Return costs, the best of `rounds` rounds of `repeats` batches."""
    floors = _floor_types()
    return [_cost(venue, kind, floors[venue, kind], rounds, repeats) for venue, kind in CASES]


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


def _cost(venue: str, kind: str, floor: type[msgspec.Struct], rounds: int, repeats: int) -> Cost:
    module, frames = VENUES[venue], frames_of(venue, kind)
    receive_ns = np.arange(1, FRAMES + 1)
    learned = OpenCatalog(module.symbol_of_native)
    module.decode(frames, receive_ns, learned)
    catalog = Catalog(learned.natives, {name: code for code, name in enumerate(learned.names)})
    read = msgspec.json.Decoder(floor, strict=False).decode

    def ours() -> None:
        module.decode(frames, receive_ns, catalog)

    def bare() -> None:
        [read(frame) for frame in frames]

    best = {ours: float("inf"), bare: float("inf")}
    for _ in range(rounds):
        for call in best:
            best[call] = min(best[call], _us_a_frame(call, repeats))
    return Cost(venue, kind, best[ours], best[bare])


def _us_a_frame(call: Callable[[], None], repeats: int) -> float:
    return timeit.timeit(call, number=repeats, timer=time.process_time) / repeats / FRAMES * 1e6


def main() -> None:
    """Print the table."""
    print(f"µs of CPU a frame, batches of {FRAMES}; over = ours - {FLOORS} x floor - {MARGIN_US}, wanted below 0")
    print(f"{'venue':8} {'kind':6} {'ours':>7} {'floor':>7} {'ratio':>6} {'ours-1.5*floor':>15} {'over':>7}")
    for cost in run():
        ratio, above = cost.ours_us / cost.floor_us, cost.ours_us - FLOORS * cost.floor_us
        numbers = f"{cost.ours_us:7.3f} {cost.floor_us:7.3f} {ratio:6.2f} {above:15.3f} {cost.over_us:7.3f}"
        print(f"{cost.venue:8} {cost.kind:6} {numbers}")


if __name__ == "__main__":
    main()
