"""The forge's cost is measured on ticks that are as they say."""

import numpy as np

from bench.forge_cost import CALL_TICKS, CRASH, SYMBOLS, Market, cost
from market.records import WICK
from market.schema import TRADE, join
from operators.forge import ForgeKernel, ForgePolicy


def test_a_call_brings_its_ticks_in_order_and_below_its_watermark():
    market = Market(1)
    first, second = market.call(), market.call()
    assert sum(part.ticks.size for part in first) == CALL_TICKS
    for before, part in zip(first, second, strict=True):
        assert (np.diff(part.ticks["receive_ns"]) >= 0).all()
        assert (before.ticks["receive_ns"] <= before.watermark_ns).all()
        assert (part.ticks["receive_ns"] > before.watermark_ns).all()
    ticks = join([part.ticks for part in first])
    assert np.isfinite(ticks["price"][ticks["kind"] == TRADE]).all()


def test_ticks_cost_something_and_neither_market_has_a_wick():
    market, kernel = Market(2), ForgeKernel(np.arange(SYMBOLS), ForgePolicy())
    calls = [market.call(fall) for fall in (*np.zeros(20), *np.linspace(0, CRASH, 20))]
    assert cost(kernel, calls) > 0
    released = [done.released for done in map(kernel.add, [market.call(CRASH) for _ in range(30)]) if done is not None]
    assert sum(part.ticks.size for part in released) > 20 * CALL_TICKS
    assert not any((part.verdict == WICK).any() for part in released)
