"""Seeded ticks."""

import numpy as np

from market.schema import NO_SIDE, QUOTE, TRADE, UNSTAMPED, TickBatch, empty_ticks

START_NS = 1_790_000_000_000_000_000
NAMES = ("ADA-USDT", "BTC-USDT", "ETH-USDT", "PEPE-USDT")


def ticks_of(rows, seed=1, venues=7, step_ns=1_000_000):
    """Return `rows` TICK rows in receive order, about one in three sharing its receive time with the one before."""
    rng = np.random.default_rng(seed)
    ticks = empty_ticks(rows)
    trade = rng.random(rows) < 0.6
    ticks["kind"] = np.where(trade, TRADE, QUOTE)
    ticks["venue"] = rng.integers(0, venues, rows)
    ticks["symbol"] = rng.integers(0, len(NAMES), rows)
    ticks["receive_ns"] = START_NS + np.cumsum(rng.integers(0, 3, rows)) * step_ns
    ticks["exchange_ns"] = ticks["receive_ns"] - rng.integers(1_000_000, 90_000_000, rows)
    unstamped = rng.random(rows) < 0.1
    ticks["flags"] = np.where(unstamped, UNSTAMPED, 0)
    ticks["exchange_ns"][unstamped] = 0
    price = np.round(100 * np.exp(rng.normal(0, 0.2, rows)), 4)
    ticks["price"] = np.where(trade, price, np.nan)
    ticks["size"] = np.where(trade, rng.integers(1, 1_000, rows) / 1_000, np.nan)
    ticks["side"] = np.where(trade, rng.integers(-1, 2, rows), NO_SIDE)
    for column, shift in (("bid", -0.01), ("ask", 0.01)):
        there = ~trade & (rng.random(rows) < 0.9)
        ticks[column] = np.where(there, price + shift, np.nan)
        ticks[f"{column}_size"] = np.where(there, rng.integers(1, 9, rows) / 10, np.nan)
    ticks["trade_id"] = [str(number) if is_trade else "" for number, is_trade in enumerate(trade.tolist(), 10_000)]
    return ticks


def batches_of(count, seed=1, rows=20):
    """Return batches of one venue with rising watermarks."""
    ticks = ticks_of(count * rows, seed, venues=1)
    parts = [ticks[start : start + rows] for start in range(0, count * rows, rows)]
    return [TickBatch(0, part, int(part["receive_ns"][-1])) for part in parts]
