from itertools import pairwise

import numpy as np
import pytest

from simulator.history import History
from simulator.market import Market
from simulator.universe import build_universe

START_NS = 1_790_000_000_000_000_000 // 60_000_000_000 * 60_000_000_000
START_S = START_NS // 1_000_000_000
UNIVERSE = build_universe(6)


def history(seed=1):
    return History(UNIVERSE, seed=seed, start_ns=START_NS)


def test_the_past_does_not_depend_on_how_it_is_asked_for():
    whole = history().candles(0, 60, START_S - 3600, START_S - 60)
    part = history().candles(0, 60, START_S - 1800, START_S - 60)
    assert whole[30:] == part
    assert len(whole) == 60
    assert whole != history(seed=2).candles(0, 60, START_S - 3600, START_S - 60)


def test_candles_join_and_hold_their_prices():
    rows = history().candles(3, 60, START_S - 7200, START_S - 60)
    assert all(row.low <= min(row.open, row.close) <= max(row.open, row.close) <= row.high for row in rows)
    assert all(later.open == before.close for before, later in pairwise(rows))


def test_the_market_starts_where_the_past_ends():
    past = history()
    market = Market(UNIVERSE, seed=1, rate=100, start_ns=START_NS, start_log=past.start_log())
    last = [past.candles(at, 60, START_S - 60, START_S - 60)[-1].close for at in range(len(UNIVERSE.symbol))]
    assert market.mid_prices() == pytest.approx(last, rel=5e-3)


def test_live_candles_are_the_trades():
    past = history()
    market = Market(UNIVERSE, seed=1, rate=2000, start_ns=START_NS, wicks_per_minute=0)
    price, size = [], []
    for _ in range(600):  # one minute
        block = market.block()
        past.record(block)
        mine = block.listing == 0
        price += block.price[mine].tolist()
        size += block.size[mine].tolist()
    past.record(market.block())
    closed = past.candles(0, 60, START_S, START_S)[0]
    assert (closed.open, closed.close, closed.high, closed.low) == (price[0], price[-1], max(price), min(price))
    assert closed.volume == pytest.approx(sum(size))
    assert closed.quote_volume == pytest.approx(np.dot(price, size))
    assert closed.trades == len(price)


def test_a_quiet_minute_is_flat():
    past = history()
    block = Market(UNIVERSE, seed=1, rate=0, start_ns=START_NS, wicks_per_minute=0).block()
    block.start_ns += 120_000_000_000
    past.record(block)
    rows = past.candles(0, 60, START_S - 60, START_S + 60)
    assert [(row.open, row.close, row.trades) for row in rows[1:]] == [(rows[0].close, rows[0].close, 0)] * 2
