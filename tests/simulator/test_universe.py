import numpy as np
import pytest

from market.venues import VENUES
from simulator.universe import EVERYWHERE, build_universe


def test_most_symbols_are_on_many_venues_and_some_on_few():
    universe = build_universe(60)
    listed = np.bincount(universe.symbol, minlength=60)
    assert (listed[:EVERYWHERE] == len(VENUES)).all()
    assert (listed >= 5).mean() > 0.8
    assert set(listed[listed < 5].tolist()) <= {2, 3, 4}
    assert (listed <= 3).any()


def test_activity_falls_with_rank_and_sums_to_one():
    universe = build_universe(50)
    on_binance = universe.weight[universe.venue == 0]
    assert universe.weight.sum() == pytest.approx(1.0)
    assert (np.diff(on_binance) < 0).all()
    assert universe.turnover()[0] > 1e8


def test_ticks_are_small_against_the_price():
    universe = build_universe(60)
    tick = 10.0**-universe.decimals / universe.prices[universe.symbol]
    assert tick.max() < 1.1e-3  # capped decimals on one venue
    assert np.median(tick) < 1e-4
    assert universe.sizes.min() >= 1


def test_coins_beyond_the_table_are_made_up_and_venues_can_be_few():
    universe = build_universe(200, ("okx", "kraken"))
    assert universe.symbols[0] == "BTC-USDT"
    assert any(name.startswith("SIM") for name in universe.symbols)
    assert len(set(universe.symbols)) == len(universe.symbols)
    assert set(universe.symbol.tolist()) == set(range(len(universe.symbols)))
