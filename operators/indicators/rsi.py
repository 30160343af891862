"""RSI 14 after Wilder: average gain against average loss of the closes.

Source: J. W. Wilder, New Concepts in Technical Trading Systems (1978), section VI; seed and edge cases as TA-Lib's
`TA_RSI`: the first averages are the means of the first 14 changes, and 0 where nothing ever moved.
"""

from __future__ import annotations

from typing import Final

import numpy as np

from market.schema import F64, Rows

PERIOD: Final = 14
COLUMNS: Final = ("rsi_14",)
STATE: Final = np.dtype(
    [
        ("closes", "i8"),  # seen so far; more than PERIOD: seeded
        ("close", "f8"),  # the last one
        ("gain", "f8"),  # average gain; until seeded the sum of gains
        ("loss", "f8"),  # average loss, positive; until seeded the sum
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
    change = np.where(state["closes"] > 0, close - state["close"], 0.0)
    seeded = state["closes"] > PERIOD
    last_of_seed = state["closes"] == PERIOD
    for column, move in (("gain", np.maximum(change, 0.0)), ("loss", np.maximum(-change, 0.0))):
        total = np.where(seeded, state[column] * (PERIOD - 1), state[column]) + move
        after[column] = np.where(seeded | last_of_seed, total / PERIOD, total)
    after["closes"] += 1
    after["close"] = close
    return after


def values(state: Rows) -> tuple[F64, ...]:
    """Return the RSI of n states, 0 to 100, NaN while there are at most 14 closes."""
    total = state["gain"] + state["loss"]
    rsi = np.zeros(state.size)
    np.divide(100.0 * state["gain"], total, out=rsi, where=total > 0)
    rsi[state["closes"] <= PERIOD] = np.nan
    return (rsi,)
