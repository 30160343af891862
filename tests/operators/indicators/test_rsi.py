"""RSI 14 against TA-Lib's values and a plain reading of Wilder's definition."""

import json
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from market.records import CANDLE
from operators.indicators import rsi

TALIB = json.loads(Path(__file__).with_name("talib.json").read_text())
SERIES = sorted(TALIB.keys() - {"origin"})


def run(closes):
    candles = np.zeros(len(closes), CANDLE)
    candles["close"] = closes
    state, out = np.zeros(1, rsi.STATE), []
    for number in range(len(closes)):
        state = rsi.step(state, candles[number : number + 1])
        out.append(rsi.values(state)[0][0])
    return np.array(out)


def wilder(closes):
    changes = np.diff(closes)
    gains, losses = np.maximum(changes, 0), np.maximum(-changes, 0)
    gain, loss = gains[:14].mean(), losses[:14].mean()
    out = [np.nan] * 14
    for number in range(14, len(closes)):
        if number > 14:
            gain, loss = (gain * 13 + gains[number - 1]) / 14, (loss * 13 + losses[number - 1]) / 14
        out.append(100 * gain / (gain + loss) if gain + loss else 0.0)
    return np.array(out)


@pytest.mark.parametrize("series", SERIES)
def test_equals_talib(series):
    expected = np.array(TALIB[series]["rsi_14"], float)
    np.testing.assert_allclose(run(TALIB[series]["close"]), expected, rtol=0, atol=1e-9)


@given(st.lists(st.integers(1, 10**9).map(lambda cents: cents / 100), min_size=15, max_size=60))
def test_equals_the_definition(closes):
    np.testing.assert_allclose(run(closes), wilder(closes), rtol=0, atol=1e-9)


def test_is_none_before_15_closes():
    assert np.isnan(run([1.0, 2.0] * 7)).all()
    assert not np.isnan(run([*[1.0, 2.0] * 7, 1.0])[-1])
