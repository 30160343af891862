"""Consensus, basis and dispersion: each rule on a few hand-made ticks."""

import numpy as np
import pytest

from market.schema import NS_PER_S
from operators.cell import LAG_NS, OLD_NS
from operators.consensus import (
    ANCHOR_NS,
    BAND_LEAST,
    BAND_MOST,
    BAND_SCALES,
    EDGE_LEAST,
    EDGE_SCALES,
    FOLLOW_S,
    FRESH_NS,
    GRID_NS,
    JUMP_SCALES,
    OFF_NS,
    PATIENCE_INTERVALS,
    PATIENCE_LEAST_NS,
    PATIENCE_MOST_NS,
    QUOTES_SAY_SQUARED,
    REGIME_NS,
    REGIME_TICKED,
    SCALE_FIRST,
    STIR_HALF_LIFE_S,
    STIR_SHARE,
    WARM_NS,
    Consensus,
)
from tests.operators.markets import BASE, MS, START_NS, by_receipt, learn, quotes, trades

ONE = np.zeros(1, np.int64)
GRID_MS = GRID_NS / MS


def steady(values, *, seconds=6.0, every_ms=50.0, start_ms=0.0, make=quotes, noise=1e-6, **more):
    """Return ticks of some venues, `values` is venue -> log price (BASE is 0); without noise they would be frozen."""
    rng = np.random.default_rng(3)
    at_ms = np.arange(start_ms, start_ms + seconds * 1000, every_ms)
    return by_receipt(*(make(v, at_ms + v, x + rng.normal(0, noise, at_ms.size), **more) for v, x in values.items()))


def quotes_of(*values):
    """Return one quote of each venue, all in one cell of the grid."""
    return by_receipt(*(quotes(venue, [GRID_MS / 2], value) for venue, value in enumerate(values)))


def settled(values=(0.0, 0.0, 0.0), **more):
    """Return a consensus that has seen 10 s of trades and quotes of some venues."""
    told = dict(enumerate(values))
    rows = by_receipt(steady(told, seconds=10, **more), steady(told, seconds=10, make=trades, **more))
    return learn(Consensus(1), rows)


def level(consensus):
    return consensus.level[0] - np.log(BASE)


def premium(consensus, venue):
    """Return a venue's basis over that of venue 0."""
    return consensus.basis[0, venue] - consensus.basis[0, 0]


# level


def test_without_ticks_there_is_none():
    consensus = Consensus(2)
    assert np.isnan(consensus.level).all()
    assert consensus.count.tolist() == [0, 0]
    assert np.isinf(consensus.band).all()


def test_the_mean_of_those_that_agree_with_the_median_is_the_consensus_and_says_how_many():
    consensus = learn(Consensus(1), quotes_of(0.0, 0.001, 0.05))
    assert level(consensus) == pytest.approx(0.0005, rel=0.01)
    assert consensus.count.tolist() == [3]
    consensus = learn(Consensus(1), quotes_of(0.0, 0.002))
    assert level(consensus) == pytest.approx(0.001, rel=0.01)


def test_of_two_halves_that_disagree_it_stays_with_the_one_that_did_not_move():
    consensus = settled((0.0, 0.0))
    learn(consensus, steady({0: 0.0, 1: 0.05}, start_ms=10_000, seconds=2))
    assert level(consensus) == pytest.approx(0.0, abs=1e-4)
    learn(consensus, steady({0: 0.05, 1: 0.05}, start_ms=12_000, seconds=1))
    assert level(consensus) == pytest.approx(0.05, abs=1e-4)


def test_a_venue_takes_part_while_fresh():
    consensus = settled((0.0, 0.0))
    seconds = FRESH_NS / NS_PER_S
    learn(consensus, steady({0: 0.0}, start_ms=10_000, seconds=seconds - 0.2))
    assert consensus.count.tolist() == [2]
    learn(consensus, steady({0: 0.0}, start_ms=10_000 + (seconds - 0.2) * 1000, seconds=0.5))
    assert consensus.count.tolist() == [1]


@pytest.mark.parametrize(("witnesses", "at_ms"), [(1, [30, 30, 20, 30]), (2, [20, 10, 10, 20])])
def test_a_venue_is_witnessed_while_enough_others_were_heard(witnesses, at_ms):
    rows = by_receipt(*(quotes(venue, [10.0 * (venue + 1)]) for venue in range(3)))
    consensus = learn(Consensus(1, witnesses), rows)
    np.testing.assert_array_equal(consensus.witnessed_ns[0, :4], START_NS + np.array(at_ms) * MS)


def test_history_moves_nothing():
    consensus, plain = settled(), settled()
    late = trades(1, [10_010.0], 0.2, delay_ms=OLD_NS / MS + 1, first_id=1_000)
    calm = steady({0: 0.0, 1: 0.0, 2: 0.0}, start_ms=10_000, seconds=2)
    learn(consensus, by_receipt(calm, late))
    learn(plain, calm)
    for name, value in vars(plain).items():
        np.testing.assert_array_equal(getattr(consensus, name), value, err_msg=name)


def test_a_move_of_the_others_gives_a_silent_venue_no_premium():
    noise = 0.002
    consensus = settled((0.0, 0.0, 0.0, 0.004), noise=noise)
    before = premium(consensus, 3)
    at_ms = np.arange(10_001.0, 11_000.0, 20.0)
    moves = (quotes(venue, at_ms + venue, 6 * noise * (at_ms - 10_000) / 1000) for venue in range(3))
    learn(consensus, by_receipt(*moves))
    assert premium(consensus, 3) == pytest.approx(before, abs=0.3 * noise)


@pytest.mark.parametrize(("delay_ms", "learned"), [(LAG_NS / MS - 50, 0.006), (LAG_NS / MS + 50, 0.0)])
def test_a_venue_that_lags_has_no_premium(delay_ms, learned):
    """After a stall, or on a link that is clogged: it is where the others were."""
    consensus = settled()
    others = steady({0: 0.0, 1: 0.0}, start_ms=10_000, seconds=30)
    lagging = steady({2: 0.006}, start_ms=10_000, seconds=30, delay_ms=delay_ms)
    assert premium(learn(consensus, by_receipt(others, lagging)), 2) == pytest.approx(learned, abs=0.0015)


def test_a_venue_has_no_say_while_it_has_a_wick_and_teaches_nothing():
    """Its quotes went along, not so far that the other venue would be alone in the right."""
    consensus = settled((0.0, 0.0), noise=0.003)
    before = premium(consensus, 1)
    wick = trades(1, [10_100.0, 10_110.0], 0.02, first_id=1_000)
    along = steady({1: 0.011}, start_ms=10_050, seconds=0.1)
    other = steady({0: 0.0}, start_ms=10_001, seconds=0.2)
    learn(consensus, by_receipt(wick, along, other), wicks=[b"1000", b"1001"])
    assert consensus.count.tolist() == [1]
    assert level(consensus) == pytest.approx(0.0, abs=1e-3)
    assert premium(consensus, 1) == before
    learn(consensus, steady({0: 0.0, 1: 0.0}, start_ms=10_201, seconds=0.2))
    assert consensus.count.tolist() == [2]


def test_where_all_have_a_wick_they_all_have_a_say():
    consensus = settled((0.0, 0.0))
    rows = by_receipt(
        quotes(0, [10_001.0]), quotes(1, [10_002.0]), trades(0, [10_003.0], 0.1), trades(1, [10_004.0], 0.1)
    )
    rows["trade_id"][2:] = b"1000", b"1001"
    learn(consensus, rows, wicks=[b"1000", b"1001"])
    assert consensus.count.tolist() == [2]
    assert level(consensus) == pytest.approx(0.0, abs=1e-4)


def test_noise_is_averaged_a_trend_is_followed_and_a_jump_at_once():
    noise = 3e-4
    rng = np.random.default_rng(1)
    consensus, seen = settled((0.0,), noise=noise), []
    for number in range(100):
        learn(consensus, quotes(0, [10_000 + number * GRID_MS + 50], rng.normal(0, noise)))
        seen.append(level(consensus))
    assert np.std(seen[20:]) < 0.6 * noise
    slope = noise / 2
    for number in range(30):
        learn(consensus, quotes(0, [20_000 + number * GRID_MS + 50], number * slope))
    assert level(consensus) == pytest.approx(29 * slope, abs=3 * slope)
    jump = level(consensus) + 1.5 * JUMP_SCALES * consensus.scale[0]
    learn(consensus, quotes(0, [23_050.0], jump))
    assert level(consensus) == pytest.approx(jump)


def test_after_a_pause_it_follows_at_once():
    consensus = settled((0.0,), noise=3e-4)
    step = JUMP_SCALES * consensus.scale[0] / 2
    learn(consensus, quotes(0, [10_000 + (FOLLOW_S + 1) * 1000], step))
    assert level(consensus) == pytest.approx(step)


def test_the_anchor_is_the_consensus_before():
    consensus = settled()
    step_ms = ANCHOR_NS / MS
    first_ms = 10_000 + -(START_NS + 10_000 * MS) % ANCHOR_NS / MS
    for number in range(1, 5):
        now_ms = first_ms + number * step_ms
        learn(
            consensus,
            steady(dict.fromkeys(range(3), 0.01 * number), start_ms=now_ms + 1, seconds=(step_ms - GRID_MS) / 1000),
        )
        assert level(consensus) == pytest.approx(0.01 * number, abs=1e-4)
        assert consensus.anchor[0] - np.log(BASE) == pytest.approx(0.01 * (number - 2) if number > 1 else 0.0, abs=1e-4)


# basis


def test_a_premium_is_learned_as_basis():
    consensus = settled((0.0, 0.0, 0.004))
    assert premium(consensus, 2) == pytest.approx(0.004, rel=0.05)
    assert level(consensus) == pytest.approx(0.0, abs=2e-4)
    np.testing.assert_allclose(consensus.centre, consensus.level[:, None] + consensus.basis)


def test_it_may_drift_but_a_venue_that_is_late_has_none():
    consensus = settled()
    learn(consensus, steady({0: 0.0, 1: 0.0, 2: 0.004}, start_ms=10_000, seconds=OFF_NS / NS_PER_S / 2))
    assert premium(consensus, 2) < 0.002
    learn(consensus, steady({0: 0.0, 1: 0.0, 2: 0.004}, start_ms=10_500, seconds=3 * OFF_NS / NS_PER_S))
    assert premium(consensus, 2) == pytest.approx(0.004, rel=0.05)


def test_nothing_is_learned_while_the_market_moves():
    consensus = settled()
    for number in range(1, 20):
        values = {0: 0.01 * number, 1: 0.01 * number, 2: 0.01 * number - 0.004}
        learn(consensus, steady(values, start_ms=10_000 + number * GRID_MS + 1, seconds=0.09))
    assert premium(consensus, 2) == pytest.approx(0.0, abs=1e-4)


def test_a_venue_far_away_with_its_quotes_becomes_a_regime():
    moved, seconds = {0: 0.0, 1: 0.0, 2: 0.04}, REGIME_NS / NS_PER_S
    consensus = settled()
    learn(consensus, steady(moved, start_ms=10_000, seconds=seconds - 0.2))
    assert premium(consensus, 2) == pytest.approx(0.0, abs=1e-3)
    learn(consensus, steady(moved, start_ms=10_000 + (seconds - 0.2) * 1000, seconds=1))
    assert premium(consensus, 2) == pytest.approx(0.04, rel=0.02)


def test_trades_alone_make_no_regime():
    consensus = settled()
    others = steady({0: 0.0, 1: 0.0}, start_ms=10_000, seconds=2 * REGIME_NS / NS_PER_S)
    far = steady({2: 0.04}, start_ms=10_000, seconds=2 * REGIME_NS / NS_PER_S, make=trades)
    assert premium(learn(consensus, by_receipt(others, far)), 2) == pytest.approx(0.0, abs=1e-3)


def test_a_few_ticks_make_no_regime_and_a_venue_that_ticks_seldom_settles_too():
    consensus = settled()
    others = steady({0: 0.0, 1: 0.0}, start_ms=10_000, seconds=30)
    every_ms = 2 * REGIME_NS / MS / (REGIME_TICKED - 1)
    values = 0.04 + 1e-6 * np.arange(REGIME_TICKED + 1)
    few = quotes(2, 10_000 + np.arange(REGIME_TICKED - 1) * every_ms, values[:-2])
    assert premium(learn(settled(), by_receipt(others, few)), 2) == pytest.approx(0.0, abs=1e-3)
    more = quotes(2, 10_000 + np.arange(REGIME_TICKED + 1) * every_ms, values)
    assert premium(learn(consensus, by_receipt(others, more)), 2) == pytest.approx(0.04, rel=0.02)


@pytest.mark.parametrize("ticked", [REGIME_TICKED - 1, REGIME_TICKED])
def test_its_wicks_are_ticks_too(ticked):
    consensus = settled()
    others = steady({0: 0.0, 1: 0.0}, start_ms=10_000, seconds=5)
    at_ms = 10_000 + np.linspace(1, REGIME_NS / MS + 300, ticked)
    wicks = trades(2, at_ms[1:], 0.04, first_id=1_000)
    rows = by_receipt(others, quotes(2, at_ms[:1], 0.04), wicks)
    learn(consensus, rows, wicks=wicks["trade_id"].tolist())
    assert premium(consensus, 2) == pytest.approx(0.04 if ticked == REGIME_TICKED else 0.0, abs=1e-3)


def test_one_that_comes_back_in_between_starts_anew():
    consensus = settled()
    seconds = 0.6 * REGIME_NS / NS_PER_S
    for start_s, value in ((10.0, 0.04), (10 + seconds, 0.0), (11 + seconds, 0.04)):
        parts = {0: 0.0, 1: 0.0, 2: value}
        learn(consensus, steady(parts, start_ms=start_s * 1000, seconds=seconds if value else 1.0))
    assert premium(consensus, 2) == pytest.approx(0.0, abs=1e-3)


@pytest.mark.parametrize(("wobble", "expected"), [(0.0, 0.0), (1e-7, -0.006)])
def test_a_frozen_venue_has_no_premium(wobble, expected):
    """One that says the same while the others wander off does not trade lower than they do; it is not there."""
    consensus = settled()
    at_ms = np.arange(10_000.0, 50_000.0, 50.0)
    way = np.minimum((at_ms - at_ms[0]) / 30_000, 1.0) * 0.006
    frozen = quotes(2, at_ms + 2, wobble * np.arange(at_ms.size))
    learn(consensus, by_receipt(quotes(0, at_ms, way), quotes(1, at_ms + 1, way), frozen))
    assert premium(consensus, 2) == pytest.approx(expected, abs=0.0015)


# dispersion and band


def test_a_first_guess_that_is_far_too_small_is_outgrown():
    """Quotes agree to a basis point, trades are 300 apart: all of them are beyond the band, and it must grow still."""
    rows = steady({0: 0.0, 1: 0.0}, seconds=20)
    apart = steady({0: 0.0, 1: 0.0}, start_ms=5000, seconds=15, every_ms=500.0, make=trades, noise=0.03)
    assert learn(Consensus(1), by_receipt(rows, apart)).scale[0] > 0.01


def test_a_venue_that_stays_off_within_the_band_says_so_once_a_second():
    """Prints of a wick that is small enough to pass must not widen the band for the next one."""
    consensus = settled(noise=2e-3, every_ms=500.0)
    before = consensus.scale[0]
    at_ms = np.arange(10_000.0, 10_400.0, 20.0)
    others = steady({0: 0.0, 1: 0.0}, start_ms=10_000, seconds=0.4, noise=2e-3)
    learn(consensus, by_receipt(trades(2, at_ms + 2, 3.5 * before), others))
    assert consensus.scale[0] == pytest.approx(before, rel=0.1)


def test_trades_beyond_four_dispersions_teach_nothing():
    consensus = settled(noise=2e-3)
    before = consensus.scale[0]
    learn(consensus, trades(2, [10_050.0], 4.5 * before))
    assert consensus.scale[0] < before * 1.0001


@pytest.mark.parametrize("noise", [2e-4, 2e-3, 1.5e-2])
def test_the_dispersion_is_what_trades_show(noise):
    consensus = learn(Consensus(1), steady(dict.fromkeys(range(5), 0.0), seconds=60, make=trades, noise=noise))
    assert consensus.scale[0] == pytest.approx(noise, rel=0.25)


def test_where_trades_are_few_quotes_say_it():
    consensus = learn(Consensus(1), steady({0: 0.0, 1: 0.0, 2: 0.0}, seconds=10, half_spread=0.01))
    assert consensus.scale[0] == pytest.approx(np.sqrt(QUOTES_SAY_SQUARED) * 0.01, rel=0.1)


def test_prints_of_one_moment_teach_little():
    calm, many = settled(noise=3e-4), settled(noise=3e-4)
    far = 0.9 * BAND_LEAST
    learn(calm, by_receipt(quotes(1, [10_001.0]), trades(0, [10_010.0, 10_011.0], far)))
    learn(many, by_receipt(quotes(1, [10_001.0]), trades(0, np.linspace(10_010, 10_080, 500), far)))
    assert many.scale[0] == pytest.approx(calm.scale[0], rel=0.05)


def test_before_enough_is_known_nothing_is_far():
    assert Consensus(1).scale.tolist() == [SCALE_FIRST]
    early = learn(Consensus(1), steady({0: 0.0, 1: 0.0}, seconds=WARM_NS / NS_PER_S - 0.2))
    assert np.isinf(early.band).all()
    known = learn(Consensus(1), steady({0: 0.0, 1: 0.0}, seconds=WARM_NS / NS_PER_S + 0.5))
    assert np.isfinite(known.band[0, :2]).all()
    assert known.band[0, 1] < known.band[0, 2]  # of a venue not heard yet the premium is in doubt


@pytest.mark.parametrize("noise", [1e-5, 5e-3])
def test_band_and_edge_are_so_many_dispersions_and_have_a_least(noise):
    consensus = learn(Consensus(1), steady(dict.fromkeys(range(5), 0.0), seconds=30, make=trades, noise=noise))
    scale = consensus.scale[0]
    assert consensus.band[0, 0] == pytest.approx(max(BAND_SCALES * scale, BAND_LEAST), rel=0.1)
    assert consensus.edge[0, 0] == pytest.approx(max(EDGE_SCALES * scale, EDGE_LEAST), rel=0.1)


def test_amid_a_move_the_band_is_wider_and_then_it_is_not():
    consensus = settled()
    band, edge, move = consensus.band[0, 0], consensus.edge[0, 0], 0.05
    learn(consensus, steady(dict.fromkeys(range(3), move), start_ms=10_001, seconds=0.09))
    assert consensus.band[0, 0] - band == pytest.approx(STIR_SHARE * move, rel=0.1)
    assert consensus.edge[0, 0] - edge == pytest.approx(STIR_SHARE * move, rel=0.1)
    learn(consensus, steady(dict.fromkeys(range(3), move), start_ms=10_100, seconds=1 + 8 * STIR_HALF_LIFE_S))
    assert consensus.band[0, 0] == pytest.approx(band, rel=0.05)


def test_the_band_has_a_most():
    consensus = learn(Consensus(1), steady({0: 0.0, 1: 0.0}, seconds=20, half_spread=0.4))
    assert consensus.band[0].tolist() == [BAND_MOST] * 7


# intervals


@pytest.mark.parametrize("every_ms", [100.0, 500.0])
def test_a_venue_is_overdue_after_some_of_its_usual_intervals(every_ms):
    consensus = learn(Consensus(1), steady({0: 0.0}, seconds=120, every_ms=every_ms))
    patience_ns = consensus.patience_ns(ONE)[0]
    assert patience_ns[0] == pytest.approx(PATIENCE_LEAST_NS + PATIENCE_INTERVALS * every_ms * MS, rel=0.1)
    assert patience_ns[1:].tolist() == [0] * 6  # never heard


def test_patience_has_a_most():
    consensus = learn(Consensus(1), steady({0: 0.0, 1: 0.0}, seconds=60, every_ms=10_000))
    assert consensus.patience_ns(ONE)[0, :2].tolist() == [PATIENCE_MOST_NS] * 2


def test_the_silence_before_a_symbol_s_first_tick_is_no_interval():
    consensus = learn(Consensus(1), steady({0: 0.0}, seconds=10, every_ms=50))
    assert consensus.patience_ns(ONE)[0, 0] == pytest.approx(PATIENCE_LEAST_NS + PATIENCE_INTERVALS * 50 * MS, rel=0.2)


# symbols


@pytest.mark.parametrize("symbols", [2, 9])  # most of them tick, or few do
def test_what_is_learned_of_a_symbol_depends_on_its_ticks_alone(symbols):
    parts = steady({0: 0.0, 1: 0.01}, seconds=3), steady({0: 0.5, 2: 0.5}, start_ms=1_000, seconds=5, symbol=1)
    consensus = learn(Consensus(symbols), by_receipt(*parts))
    for symbol, rows in enumerate((*parts, None)):
        alone = Consensus(symbols) if rows is None else learn(Consensus(symbols), rows)
        for name in ("level", "count", "anchor", "basis", "scale", "band", "edge", "centre", "heard_ns", "value"):
            found, expected = (getattr(one, name)[symbol : symbol + 1] for one in (consensus, alone))
            np.testing.assert_array_equal(found, expected, err_msg=name)


def test_a_forgotten_symbol_is_as_new_and_the_others_stay():
    calm = steady({0: 0.0, 1: 0.01}, seconds=3)
    both = by_receipt(calm, steady({0: 0.5, 2: 0.5}, seconds=3, symbol=1))
    consensus, alone = learn(Consensus(2), both), learn(Consensus(2), calm)
    consensus.forget(np.array([1]))
    for name, value in vars(alone).items():
        np.testing.assert_array_equal(getattr(consensus, name), value, err_msg=name)
