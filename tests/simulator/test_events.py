import math

import numpy as np
import pytest

from simulator.events import DISPERSIONS, LEAST_WICK, MOST_WICK, MS, SECOND, Events
from simulator.market import Market
from simulator.universe import build_universe

START_NS = 1_790_000_000_000_000_000
UNIVERSE = build_universe(14)


def run(seconds, *, wicks_per_minute, rate=8000.0):
    """Return a market's records, and all its trades and quotes as (venue, symbol, true ns, price, id)."""
    records, trades, quotes = [], [], []
    market = Market(
        UNIVERSE, seed=5, rate=rate, start_ns=START_NS, wicks_per_minute=wicks_per_minute, on_record=records.append
    )
    scale = {
        (UNIVERSE.venues[v], s): 10.0**-d
        for v, s, d in zip(UNIVERSE.venue, UNIVERSE.symbol, UNIVERSE.decimals, strict=True)
    }
    for _ in range(int(seconds * 10)):
        block = market.block()
        for place, name in enumerate(UNIVERSE.venues):
            skew, rows = int(market.skew_ns[place]), block.trades[name]
            for s, ns, ticks, trade_id in zip(rows.symbol, rows.stamp_ns, rows.price, rows.trade_id, strict=True):
                trades.append((name, UNIVERSE.symbols[s], ns - skew, ticks * scale[name, s], trade_id))
            rows = block.quotes[name]
            for s, ns, ticks in zip(rows.symbol, rows.stamp_ns, rows.bid, strict=True):
                quotes.append((name, UNIVERSE.symbols[s], ns - skew, ticks * scale[name, s]))
    return market, records, trades, quotes


@pytest.fixture(scope="module")
def wicked():
    return run(20, wicks_per_minute=240)


def test_wicks_are_alone_far_and_short(wicked):
    market, records, trades, _ = wicked
    dispersion = dict(zip(UNIVERSE.symbols, market.dispersion(), strict=True))
    by_id = {(name, symbol, str(trade_id)): (ns, price) for name, symbol, ns, price, trade_id in trades}
    wicks = [record for record in records if record["kind"] == "wick"]
    assert len(wicks) == market.events.wicks
    assert len(wicks) > 20
    for wick in wicks:
        prints = [by_id[wick["venue"], wick["symbol"], trade_id] for trade_id in wick["trade_ids"]]
        times = [ns for ns, _ in prints]
        assert 1 <= len(prints) == wick["prints"] <= 12
        assert (times[0], times[-1]) == (wick["start_ns"], wick["end_ns"])
        assert wick["end_ns"] - wick["start_ns"] <= 400 * MS
        least = max(LEAST_WICK, DISPERSIONS * dispersion[wick["symbol"]])
        others = [
            price
            for name, symbol, ns, price, _ in trades
            if symbol == wick["symbol"] and name != wick["venue"] and abs(ns - times[0]) < SECOND
        ]
        for _, price in prints:
            move = abs(price / np.median(others) - 1.0)
            assert 0.95 * least - 2 * dispersion[wick["symbol"]] < move < MOST_WICK + 0.01
        assert abs(wick["size_pct"]) <= 100 * MOST_WICK + 1e-6


def test_no_natural_trade_is_far_away(wicked):
    _, records, trades, _ = wicked
    labelled = {(record["venue"], record["symbol"], i) for record in records for i in record.get("trade_ids", ())}
    moving = {record["symbol"] for record in records if record["kind"] == "crash"}
    typical = {}
    for _, symbol, _, price, _ in trades:
        typical.setdefault(symbol, []).append(price)
    typical = {symbol: np.median(prices) for symbol, prices in typical.items()}
    for name, symbol, _, price, trade_id in trades:
        if (name, symbol, str(trade_id)) not in labelled and symbol not in moving:
            assert abs(math.log(price / typical[symbol])) < 0.012


def test_quotes_follow_half_of_the_wicks_and_come_back(wicked):
    _, records, _, quotes = wicked
    wicks = [record for record in records if record["kind"] == "wick"]
    following = [wick for wick in wicks if wick["quotes_follow"]]
    assert 0.2 < len(following) / len(wicks) < 0.8
    for wick in wicks:
        mine = [(ns, bid) for name, symbol, ns, bid in quotes if (name, symbol) == (wick["venue"], wick["symbol"])]
        around = np.median([bid for ns, bid in mine if abs(ns - wick["start_ns"]) < SECOND])
        inside = [bid for ns, bid in mine if wick["start_ns"] - MS <= ns <= wick["end_ns"]]
        moved = any(abs(bid / around - 1.0) > 0.01 for bid in inside)
        assert moved == wick["quotes_follow"]
        after = [bid for ns, bid in mine if wick["end_ns"] + 5 * MS <= ns < wick["end_ns"] + SECOND]
        assert not after or abs(after[0] / around - 1.0) < 0.01


def test_a_crash_moves_every_venue_and_stays():
    records = []
    market = Market(UNIVERSE, seed=1, rate=8000, start_ns=START_NS, wicks_per_minute=0)
    market.events = Events(
        UNIVERSE,
        market.dispersion(),
        seed=1,
        start_ns=START_NS,
        wicks_per_minute=1e-9,
        crash_every_s=5.0,
        on_record=records.append,
    )
    before = None
    while not records:
        before = np.log(market.mid_prices())
        market.block()
    crash = records[0]
    assert crash["kind"] == "crash"
    while market.now_ns < crash["end_ns"] + 200 * MS:
        market.block()
    move = np.log(market.mid_prices()) - before
    symbol = UNIVERSE.symbols.index(crash["symbol"])
    size = math.log1p(crash["size_pct"] / 100)
    assert move[UNIVERSE.symbol == symbol] == pytest.approx(size, abs=0.01)
    assert set(crash["delays_ms"]) == {UNIVERSE.venues[v] for v in UNIVERSE.venue[UNIVERSE.symbol == symbol]}
    assert 0.3 * SECOND <= crash["end_ns"] - crash["start_ns"] <= 2.1 * SECOND


def test_two_venues_are_too_few_for_a_wick():
    universe = build_universe(5, ("binance", "okx"))
    records = []
    market = Market(universe, seed=1, rate=100, start_ns=START_NS, wicks_per_minute=6000, on_record=records.append)
    for _ in range(50):
        market.block()
    assert records == []
