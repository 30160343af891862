"""Candles of every listing: before the start from a formula, since then from the model's own trades.

The past is a function of (seed, symbol, minute) alone, so any stretch of it can be asked for at once and in any
order, and the market starts where it ends. The live part is bounded: `LIVE_MINUTES` minutes.
"""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass
from typing import Final

import numpy as np

from market.schema import F64, I64
from simulator.market import Block
from simulator.universe import DAY_TURNOVER, Universe

LIVE_MINUTES: Final = 720
OCTAVES: Final = 16
"""Octave k of the past has the period 2**(k-2) minutes: from 15 s to 5.7 days."""
POINTS: Final = 8
"""Prices looked at within one candle of the past."""

_U64 = np.uint64


@dataclass(slots=True)
class Candle:
    """One candle; times in s, volume in the base currency."""

    open_s: int
    open: float
    high: float
    low: float
    close: float
    volume: float
    quote_volume: float
    trades: int


class History:
    """Candles of the past and of the run so far."""

    def __init__(self, universe: Universe, *, seed: int, start_ns: int) -> None:
        self._universe = universe
        self._seed = seed
        self._start_minute = start_ns // 60_000_000_000
        self._start_s = start_ns / 1e9
        self._minute = self._start_minute
        self._live: deque[tuple[int, F64]] = deque(maxlen=LIVE_MINUTES)
        self._forming = self._empty()

    def start_log(self) -> F64:
        """Return S float64: the log price of each symbol where the past ends."""
        symbols = np.arange(len(self._universe.symbols))
        return np.array([self._log_price(int(s), np.array([self._start_s / 60]))[0] for s in symbols])

    def record(self, block: Block) -> None:
        """Add a block's trades to the forming minute."""
        minute = block.start_ns // 60_000_000_000
        if minute != self._minute:
            self._live.append((self._minute, self._forming))
            self._minute, self._forming = minute, self._empty()
        if not len(block.listing):
            return
        first = np.flatnonzero(np.diff(block.listing, prepend=-1))
        at = block.listing[first]
        last = np.append(first[1:], len(block.listing)) - 1
        opened, high, low, close, volume, worth, count = self._forming
        opened[at] = np.where(count[at] > 0, opened[at], block.price[first])
        high[at] = np.fmax(high[at], np.maximum.reduceat(block.price, first))
        low[at] = np.fmin(low[at], np.minimum.reduceat(block.price, first))
        close[at] = block.price[last]
        volume[at] += np.add.reduceat(block.size, first)
        worth[at] += np.add.reduceat(block.size * block.price, first)
        count[at] += last - first + 1

    def candles(self, listing: int, interval_s: int, start_s: int, end_s: int) -> list[Candle]:
        """Return the candles of a listing that open in [start_s, end_s], oldest first, the forming one included."""
        minutes = max(interval_s // 60, 1)
        now_open = self._minute * 60 // interval_s * interval_s
        opens = range(-(-start_s // interval_s) * interval_s, min(end_s, now_open) + 1, interval_s)
        split = self._start_minute * 60 // interval_s * interval_s
        past = [open_s for open_s in opens if open_s < split]
        found = self._past(listing, np.array(past, np.int64), interval_s) if past else []
        live = {minute: row[:, listing] for minute, row in [*self._live, (self._minute, self._forming)]}
        last = found[-1].close if found else float(np.exp(self._log_price_of(listing, self._start_s / 60)))
        for open_s in (open_s for open_s in opens if open_s >= split):
            rows = [live[m] for m in range(open_s // 60, open_s // 60 + minutes) if m in live and live[m][6] > 0]
            found.append(_merged(open_s, rows, last))
            last = found[-1].close
        return found

    def _empty(self) -> F64:
        forming = np.zeros((7, len(self._universe.symbol)))
        forming[1:3] = np.nan
        return forming

    def _past(self, listing: int, opens: I64, interval_s: int) -> list[Candle]:
        symbol = int(self._universe.symbol[listing])
        at = opens[:, None] / 60 + np.linspace(0.0, interval_s / 60, POINTS + 1)
        price = np.round(np.exp(self._log_price(symbol, at)), int(self._universe.decimals[listing]))
        luck = np.exp(0.6 * self._noise(symbol + 1000 * listing, 99, opens))
        worth = self._universe.weight[listing] * DAY_TURNOVER / 86400 * interval_s * luck
        high, low = price.max(axis=1), price.min(axis=1)
        return [
            Candle(
                int(o), float(p[0]), float(h), float(w), float(p[-1]), float(q / p.mean()), float(q), int(q // 300) + 1
            )
            for o, p, h, w, q in zip(opens, price, high, low, worth, strict=True)
        ]

    def _log_price_of(self, listing: int, minute: float) -> float:
        return float(self._log_price(int(self._universe.symbol[listing]), np.array([minute]))[0])

    def _log_price(self, symbol: int, minute: F64) -> F64:
        """Return the log price of the past at some minutes (any shape): smooth noise of `OCTAVES` periods."""
        total = np.full(minute.shape, np.log(self._universe.prices[symbol]))
        for octave in range(OCTAVES):
            position = minute * 4.0 / 2.0**octave
            cell = np.floor(position).astype(np.int64)
            part = position - cell
            ease = part * part * (3.0 - 2.0 * part)
            here, there = self._noise(symbol, octave, cell), self._noise(symbol, octave, cell + 1)
            total += 1.2e-4 * 2.0 ** (octave / 2) * (here * (1.0 - ease) + there * ease)
        return total

    def _noise(self, symbol: int, octave: int, cell: I64) -> F64:
        """Return a fixed pseudo-random number of [-1, 1) for each cell.

        Source: the finaliser of SplitMix64 (Steele, Lea and Flood, 2014).
        """
        key = (self._seed * 0x9E3779B97F4A7C15 + symbol * 0xBF58476D1CE4E5B9 + octave * 0x94D049BB133111EB) % 2**64
        x = cell.astype(_U64) * _U64(0x9E3779B97F4A7C15) + _U64(key)
        x = (x ^ (x >> _U64(30))) * _U64(0xBF58476D1CE4E5B9)
        x = (x ^ (x >> _U64(27))) * _U64(0x94D049BB133111EB)
        return ((x ^ (x >> _U64(31))) >> _U64(11)).astype(np.float64) / 2.0**52 - 1.0


def _merged(open_s: int, rows: list[F64], last: float) -> Candle:
    """Return the candle of some live minutes; flat at `last` if there were no trades."""
    if not rows:
        return Candle(open_s, last, last, last, last, 0.0, 0.0, 0)
    high, low = max(float(row[1]) for row in rows), min(float(row[2]) for row in rows)
    volume, worth = sum(float(row[4]) for row in rows), sum(float(row[5]) for row in rows)
    trades = int(sum(row[6] for row in rows))
    return Candle(open_s, float(rows[0][0]), high, low, float(rows[-1][3]), volume, worth, trades)
