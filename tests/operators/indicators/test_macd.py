"""MACD 12/26/9 against TA-Lib's values and a plain reading of its definition."""

import json
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from market.records import CANDLE
from operators.indicators import macd

TALIB = json.loads(Path(__file__).with_name("talib.json").read_text())
SERIES = sorted(TALIB.keys() - {"origin"})


def run(closes):
    candles = np.zeros(len(closes), CANDLE)
    candles["close"] = closes
    state, out = np.zeros(1, macd.STATE), []
    for number in range(len(closes)):
        state = macd.step(state, candles[number : number + 1])
        out.append([column[0] for column in macd.values(state)])
    return np.array(out).T


def ema(values, period):
    """Averages from index `period - 1` on, the first one a simple mean."""
    out = [np.mean(values[:period])]
    for value in values[period:]:
        out.append(out[-1] + (value - out[-1]) * 2 / (period + 1))
    return np.array(out)


def definition(closes):
    line = ema(closes[14:], 12) - ema(closes, 26)
    signal = ema(line, 9)
    none = [np.nan] * 33
    return np.array([[*none, *line[8:]], [*none, *signal], [*none, *(line[8:] - signal)]])


@pytest.mark.parametrize("series", SERIES)
def test_equals_talib(series):
    expected = np.array([TALIB[series][column] for column in macd.COLUMNS], float)
    np.testing.assert_allclose(run(TALIB[series]["close"]), expected, rtol=0, atol=1e-9)


@given(st.lists(st.integers(1, 10**7).map(lambda cents: cents / 100), min_size=34, max_size=80))
def test_equals_the_definition(closes):
    np.testing.assert_allclose(run(closes), definition(closes), rtol=1e-9, atol=1e-8)


def test_is_none_before_34_closes():
    out = run(np.linspace(1.0, 2.0, 34))
    assert np.isnan(out[:, :33]).all()
    assert not np.isnan(out[:, 33]).any()
