"""What the forge costs, µs of CPU a tick, and whether its memory stays flat: `python -m bench.forge_cost`.

One kernel with 1,000 symbols on seven venues, fed 500 ticks a call as 40,000 ticks a second bring them; the ticks of a
calm market, which nearly all are, and of one that crashes in every symbol at once, the worst that can happen to it.
"""

from __future__ import annotations

import argparse
import resource
import time
from typing import Final

import numpy as np
from rich.progress import track

from market.schema import QUOTE, TICK, TRADE, Rows
from market.venues import VENUES
from operators.forge import ForgeKernel, ForgePolicy
from operators.sequence import Slice

SYMBOLS: Final = 1_000
CALL_TICKS: Final = 500
TICKS_PER_S: Final = 40_000
START_NS: Final = 1_790_000_000_000_000_000
TRADE_SHARE: Final = 0.35
CRASH: Final = 0.08
CRASH_S: Final = 0.5
_VENUES: Final = len(VENUES)


class Market:
    """Endless ticks: every symbol a random walk of its own, every venue a few bps around it, up to 40 ms late."""

    def __init__(self, seed: int) -> None:
        self._rng = np.random.default_rng(seed)
        self._price = self._rng.uniform(-5, 5, SYMBOLS)
        self._now_ns = START_NS
        self._ids = 0

    def call(self, fall: float = 0.0) -> list[Slice]:
        """Return the next CALL_TICKS ticks as slices with their watermarks; all prices lower by `fall`, log."""
        rng, size = self._rng, CALL_TICKS
        span_ns = CALL_TICKS * 1_000_000_000 // TICKS_PER_S
        ticks = np.zeros(size, TICK)
        ticks["receive_ns"] = np.sort(rng.integers(self._now_ns, self._now_ns + span_ns, size))
        late_ms = rng.integers(1, 40, size)
        ticks["event_ns"] = (ticks["receive_ns"] // 1_000_000 - late_ms) * 1_000_000 + 12_345
        ticks["exchange_ns"] = ticks["event_ns"]
        symbol = rng.integers(0, SYMBOLS, size)
        ticks["symbol"], ticks["venue"] = symbol, rng.integers(0, _VENUES, size)
        ticks["kind"] = np.where(rng.random(size) < TRADE_SHARE, TRADE, QUOTE)
        self._price += rng.normal(0, 2e-5, SYMBOLS)
        price = np.exp(self._price[symbol] - fall + rng.normal(0, 2e-4, size))
        trade = ticks["kind"] == TRADE
        ticks["price"], ticks["size"] = np.where(trade, price, np.nan), np.where(trade, 1.0, np.nan)
        ticks["bid"], ticks["ask"] = (np.where(trade, np.nan, price * (1 + half)) for half in (-1e-4, 1e-4))
        ticks["bid_size"] = ticks["ask_size"] = np.where(trade, np.nan, 1.0)
        ids = np.arange(self._ids, self._ids + size)
        ticks["trade_id"] = np.where(trade, ids.astype("S20"), b"")
        self._now_ns += span_ns
        self._ids += size
        return [Slice(venue, _of(ticks, venue), self._now_ns - 1) for venue in range(_VENUES)]


def _of(ticks: Rows, venue: int) -> Rows:
    return ticks.take(np.flatnonzero(ticks["venue"] == venue))


def cost(kernel: ForgeKernel, calls: list[list[Slice]]) -> float:
    """Return µs of CPU a tick of some calls."""
    before = time.process_time()
    for call in calls:
        kernel.add(call)
    return (time.process_time() - before) / (len(calls) * CALL_TICKS) * 1e6


def main() -> None:
    """Measure and print; status 1 if a tick costs more than 0.5 µs in a calm market."""
    parser = argparse.ArgumentParser(prog="python -m bench.forge_cost", description=__doc__)
    parser.add_argument("--million", type=float, default=1.0, help="ticks of the run whose memory is watched, millions")
    asked = parser.parse_args()
    market, kernel = Market(1), ForgeKernel(np.arange(SYMBOLS), ForgePolicy())
    for _ in range(400):  # 5 s: levels and bands are known, nothing is new
        kernel.add(market.call())
    calm = [cost(kernel, [market.call() for _ in range(160)]) for _ in range(9)]
    best = min(calm)
    print(f"calm market: {best:.2f} µs a tick at the least, {np.median(calm):.2f} median of {len(calm)} parts of 2 s")
    print(f"in its first minutes: state {len(kernel.snapshot()) / 1e6:.1f} MB")
    sizes, rounds = [], round(asked.million * 1e6 / CALL_TICKS)
    for number in track(range(rounds), "long run"):
        kernel.add(market.call())
        if number % max(rounds // 10, 1) == 0:
            sizes.append((len(kernel.snapshot()), resource.getrusage(resource.RUSAGE_SELF).ru_maxrss))
    last, most = sizes[-1][0] / 1e6, max(sizes)[0] / 1e6
    print(f"after {asked.million:g} million ticks: state {last:.1f} MB, largest {most:.1f} MB")
    print(f"most resident: {sizes[0][1] / 1024:.0f} MiB at first, {sizes[-1][1] / 1024:.0f} MiB at the end")
    steps = np.linspace(0, CRASH, round(CRASH_S * TICKS_PER_S / CALL_TICKS))
    falling = [market.call(fall) for fall in steps] + [market.call(CRASH) for _ in range(80)]
    print(f"every symbol falls {CRASH:.0%} in {CRASH_S} s: {cost(kernel, falling):.2f} µs a tick")
    raise SystemExit(int(best > 0.5))


if __name__ == "__main__":
    main()
