"""MACD 12/26/9: fast EMA less slow EMA of the closes, the EMA of that as signal, and their difference.

Source: TA-Lib's `TA_MACD`. Every EMA starts as the simple mean of its first `period` inputs; the fast one starts
together with the slow one, from the last 12 of the first 26 closes; all three columns start with the signal.
"""

from __future__ import annotations

from typing import Final

import numpy as np

from market.schema import F64, I64, Rows

FAST: Final = 12
SLOW: Final = 26
SIGNAL: Final = 9
COLUMNS: Final = ("macd", "macd_signal", "macd_histogram")
STATE: Final = np.dtype(
    [
        ("closes", "i8"),  # seen so far
        ("fast", "f8"),  # EMA; until it starts the sum of its inputs, like the two below
        ("slow", "f8"),
        ("signal", "f8"),
    ]
)


def step(state: Rows, candles: Rows) -> Rows:
    """Return the states after one more closed candle each.

    Args:
        state: n rows of STATE, zeros at the start; not changed.
        candles: n rows of CANDLE.
    """
    close = candles["close"]
    after = state.copy()
    after["closes"] += 1
    closes = after["closes"]
    after["fast"] = _average(state["fast"], close, closes - (SLOW - FAST), FAST)
    after["slow"] = _average(state["slow"], close, closes, SLOW)
    after["signal"] = _average(state["signal"], after["fast"] - after["slow"], closes - (SLOW - 1), SIGNAL)
    return after


def _average(before: F64, value: F64, count: I64, period: int) -> F64:
    """Return the EMA after the `count`-th input: a sum until it starts, nothing while `count` < 1."""
    weight = 2.0 / (period + 1)
    total = before + np.where(count >= 1, value, 0.0)
    seed = np.where(count == period, total / period, total)
    return np.where(count > period, (value - before) * weight + before, seed)


def values(state: Rows) -> tuple[F64, ...]:
    """Return MACD, signal and histogram of n states in the quote currency, NaN while there are less than 34 closes."""
    warming = state["closes"] < SLOW + SIGNAL - 1
    macd = np.where(warming, np.nan, state["fast"] - state["slow"])
    signal = np.where(warming, np.nan, state["signal"])
    return macd, signal, macd - signal
