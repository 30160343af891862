from collections import defaultdict

import numpy as np
import pytest

from simulator.market import BLOCK_NS, Market, running_totals
from simulator.universe import TRAITS, build_universe

START_NS = 1_790_000_000_000_000_000
UNIVERSE = build_universe(12)


def blocks(count, *, seed=1, rate=5000.0, wicks=0.0, records=None):
    market = Market(
        UNIVERSE,
        seed=seed,
        rate=rate,
        start_ns=START_NS,
        wicks_per_minute=wicks,
        on_record=None if records is None else records.append,
    )
    return [market.block() for _ in range(count)]


def content(made):
    return [(block.trades, block.quotes) for block in made]


def test_a_seed_gives_one_market():
    first, again, other = [], [], []
    assert content(blocks(60, wicks=600, records=first)) == content(blocks(60, wicks=600, records=again))
    assert first == again
    assert first
    assert content(blocks(60, wicks=600, records=first)) != content(blocks(60, seed=2, wicks=600, records=other))


def test_rate_and_share_of_trades():
    made = blocks(100)
    trades = sum(len(rows.symbol) for block in made for rows in block.trades.values())
    quotes = sum(len(rows.symbol) for block in made for rows in block.quotes.values())
    assert trades + quotes == pytest.approx(50_000, rel=0.02)
    assert trades / (trades + quotes) == pytest.approx(0.25, abs=0.02)


def test_quotes_are_not_crossed_and_times_never_go_back():
    made = blocks(50)
    for name in UNIVERSE.venues:
        for rows in ([block.quotes[name] for block in made], [block.trades[name] for block in made]):
            sent = [ns for row in rows for ns in row.send_ns]
            assert sent == sorted(sent)
        for block in made:
            assert all(bid < ask for bid, ask in zip(block.quotes[name].bid, block.quotes[name].ask, strict=True))


def test_frames_leave_after_the_venues_delay_and_stamps_are_skewed():
    block = blocks(1)[0]
    for name in UNIVERSE.venues:
        trait, rows = TRAITS[name], block.quotes[name]
        true = np.array(rows.stamp_ns) - round(trait.skew_ms * 1e6)
        assert ((true >= block.start_ns) & (true < block.start_ns + BLOCK_NS)).all()
        delay_ms = (np.array(rows.send_ns) - true) / 1e6
        assert delay_ms.min() >= trait.delay_ms
        assert delay_ms.min() < trait.delay_ms + trait.jitter_ms


def test_ids_rise_and_are_contiguous_where_the_venue_says_so():
    ids = defaultdict(list)
    for block in blocks(50):
        for name, rows in block.trades.items():
            for symbol, trade_id, fills in zip(rows.symbol, rows.trade_id, rows.fills, strict=True):
                ids[name, symbol].append((trade_id, fills))
    assert len(ids) == len(UNIVERSE.symbol)
    for (name, _), rows in ids.items():
        steps = np.diff([trade_id for trade_id, _ in rows])
        assert (steps > 0).all()
        if TRAITS[name].id_step == 1:
            assert (steps == [fills for _, fills in rows[1:]]).all()
        assert len(str(rows[0][0])) == TRAITS[name].id_digits
    assert any(fills > 1 for rows in ids.values() for _, fills in rows)


def test_venues_agree_within_the_dispersion():
    market = Market(UNIVERSE, seed=3, rate=100, start_ns=START_NS, wicks_per_minute=0)
    for _ in range(600):
        market.block()
    mids = np.log(market.mid_prices())
    for symbol, scale in enumerate(market.dispersion()):
        mine = mids[UNIVERSE.symbol == symbol]
        assert np.ptp(mine) < 8 * scale
        assert np.ptp(mine) > 0


def test_a_present_quote_is_older_than_all_that_follow():
    market = Market(UNIVERSE, seed=1, rate=5000, start_ns=START_NS, wicks_per_minute=0)
    for _ in range(10):
        market.block()
    present = market.present_quote(0, market.now_ns)
    later = [row for row in zip(*_of_symbol(market.block().quotes["binance"], present.symbol[0]), strict=True)]
    assert later
    assert all(sequence > present.sequence[0] for _, sequence in later)
    assert present.bid[0] < present.ask[0]


def _of_symbol(rows, symbol):
    keep = [at for at, of in enumerate(rows.symbol) if of == symbol]
    return [rows.bid[at] for at in keep], [rows.sequence[at] for at in keep]


def test_old_trades_end_where_the_new_ones_begin():
    market = Market(UNIVERSE, seed=1, rate=5000, start_ns=START_NS, wicks_per_minute=0)
    old = market.old_trades(0, 50)
    assert old.trade_id == list(range(old.trade_id[0], old.trade_id[0] + 50))
    assert old.stamp_ns == sorted(old.stamp_ns)
    first = next(
        trade_id
        for rows in (market.block().trades["binance"] for _ in range(100))
        for symbol, trade_id in zip(rows.symbol, rows.trade_id, strict=True)
        if symbol == old.symbol[0]
    )
    assert first == old.trade_id[-1] + 1


def test_running_totals():
    last = np.array([10, 20, 30])
    totals = running_totals(last, np.array([2, 0, 2, 0, 0]), np.array([1, 5, 2, 0, 1]))
    assert totals.tolist() == [31, 15, 33, 15, 16]
    assert last.tolist() == [16, 20, 33]
    assert running_totals(last, np.zeros(0, np.int64), np.zeros(0, np.int64)).tolist() == []
