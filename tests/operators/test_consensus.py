"""Consensus, basis and dispersion: each rule on a few hand-made ticks."""

import numpy as np
import pytest

from market.records import CONFIRMED, WICK
from market.schema import QUOTE, TRADE, empty_ticks
from operators.consensus import (
    BAND_LEAST,
    BAND_MOST,
    FRESH_NS,
    GRID_NS,
    REGIME_FOLDS,
    USUAL_MOST_NS,
    Consensus,
    log_value,
)
from tests.operators.markets import START_NS, by_receipt, quotes, trades

NO_VERDICT = -1


def feed(consensus, rows, *, wick_ids=()):
    """Give rows cell by cell, as the forge does."""
    cell = -(-rows["receive_ns"] // GRID_NS) * GRID_NS
    for boundary in np.unique(cell).tolist():
        part = rows.take(np.flatnonzero(cell == boundary))
        verdict = np.where(part["kind"] == TRADE, CONFIRMED, NO_VERDICT).astype(np.int8)
        verdict[np.isin(part["trade_id"], wick_ids)] = WICK
        consensus.observe(part, part["symbol"].astype(np.int64), verdict)
        consensus.close_grid(boundary)
    return consensus


def steady(values, *, seconds=6, every_ms=50, start_ms=0, make=quotes):
    """Return ticks of some venues, `values` is venue -> log price (100 is 0)."""
    at_ms = np.arange(start_ms, start_ms + seconds * 1000, every_ms, dtype=float)
    return by_receipt(*(make(venue, at_ms + venue, value) for venue, value in values.items()))


def level(consensus):
    return np.log(consensus.level_of(np.array([0]))[0][0] / 100)


def compared(consensus, venue, at_ms, value):
    return consensus.compare(trades(venue, [at_ms], value), np.zeros(1, np.int64))


def test_the_log_value_is_a_trade_s_price_and_a_quote_s_mid():
    rows = by_receipt(trades(0, [0.0], 0.5), quotes(0, [1.0], 0.25, half_spread=0.01), empty_ticks(1))
    rows["kind"][0] = QUOTE  # the empty row: a quote with neither side
    value = log_value(rows)
    assert np.isnan(value[0])
    np.testing.assert_allclose(value[1:] - np.log(100), [0.5, 0.25])


def test_the_median_of_venues_is_the_consensus_and_says_how_many():
    consensus = feed(Consensus(1), steady({0: 0.0, 1: 0.001, 2: 0.05}, seconds=0.2))
    assert level(consensus) == pytest.approx(0.001)
    assert consensus.level_of(np.array([0]))[1].tolist() == [3]


def test_without_ticks_there_is_none():
    price, count = Consensus(2).level_of(np.array([0, 1]))
    assert np.isnan(price).all()
    assert count.tolist() == [0, 0]
    assert Consensus(2).close_grid(START_NS).size == 0


def test_of_two_that_disagree_it_stays_with_the_one_that_did_not_move():
    consensus = feed(Consensus(1), steady({0: 0.0, 1: 0.0}))
    feed(consensus, steady({0: 0.0, 1: 0.05}, start_ms=6000, seconds=2))
    assert level(consensus) == pytest.approx(0.0, abs=1e-6)
    feed(consensus, steady({0: 0.05, 1: 0.05}, start_ms=8000, seconds=1))
    assert level(consensus) == pytest.approx(0.05, abs=1e-6)


def test_of_two_that_agree_it_is_the_middle():
    consensus = feed(Consensus(1), steady({0: 0.0, 1: 0.002}, seconds=0.3))
    assert level(consensus) == pytest.approx(0.001)


def test_a_venue_takes_part_while_fresh():
    consensus = feed(Consensus(1), steady({0: 0.0, 1: 0.0}, seconds=1))
    feed(consensus, steady({0: 0.001}, start_ms=1000, seconds=FRESH_NS / 1e9 + 1.2))
    assert consensus.level_of(np.array([0]))[1].tolist() == [1]
    assert level(consensus) == pytest.approx(0.001, abs=3e-4)
    assert compared(consensus, 0, 5000, 0.0).peers.tolist() == [0]
    assert compared(consensus, 1, 5000, 0.0).peers.tolist() == [1]


def test_older_events_do_not_replace_newer_ones():
    rows = by_receipt(quotes(0, [50.0], 0.01, delay_ms=1), quotes(0, [10.0], 0.0, delay_ms=45))
    assert level(feed(Consensus(1), rows)) == pytest.approx(0.01)


def test_a_wick_teaches_nothing():
    calm = steady({0: 0.0, 1: 0.0, 2: 0.0})
    wick = trades(1, [5990.0], 0.05, first_id=1)
    plain, taught = feed(Consensus(1), calm), feed(Consensus(1), by_receipt(calm, wick), wick_ids=[b"1"])
    more = steady({0: 0.0, 1: 0.0, 2: 0.0}, start_ms=6000, seconds=2)
    for consensus in (plain, taught):
        feed(consensus, more)
    np.testing.assert_allclose(taught.basis, plain.basis, atol=1e-12)
    np.testing.assert_allclose(taught.scale, plain.scale, rtol=0.15)


def test_a_small_premium_is_learned_as_basis():
    consensus = feed(Consensus(1), steady({0: 0.0, 1: 0.0, 2: 0.004}, seconds=60))
    assert consensus.basis[0, 2] - consensus.basis[0, 0] == pytest.approx(0.004, rel=0.1)
    seen = compared(consensus, 2, 60_000, 0.004)
    assert seen.deviation[0] == pytest.approx(0.0, abs=4e-4)
    assert seen.reference[0] == pytest.approx(100 * np.exp(0.004), rel=4e-4)


def test_a_large_one_becomes_the_basis_once_it_has_stayed():
    consensus = feed(Consensus(1), steady({0: 0.0, 1: 0.0, 2: 0.0}))
    moved = {0: 0.0, 1: 0.0, 2: 0.04}
    feed(consensus, steady(moved, start_ms=6000, seconds=REGIME_FOLDS - 1))
    assert consensus.basis[0, 2] == pytest.approx(0.0, abs=1e-3)
    feed(consensus, steady(moved, start_ms=6000 + (REGIME_FOLDS - 1) * 1000, seconds=4))
    assert consensus.basis[0, 2] == pytest.approx(0.04, rel=0.02)


def test_a_venue_that_ticks_seldom_settles_too():
    consensus = feed(Consensus(1), steady({0: 0.0, 1: 0.0, 2: 0.0}, seconds=10))
    moved = by_receipt(
        steady({0: 0.0, 1: 0.0}, start_ms=10_000, seconds=20),
        steady({2: 0.04}, start_ms=10_000, seconds=20, every_ms=2300),
    )
    assert feed(consensus, moved).basis[0, 2] == pytest.approx(0.04, rel=0.02)


def test_trades_alone_make_no_regime():
    consensus = feed(Consensus(1), steady({0: 0.0, 1: 0.0, 2: 0.0}))
    far = steady({2: 0.04}, start_ms=6000, seconds=12, make=trades)
    feed(consensus, by_receipt(steady({0: 0.0, 1: 0.0}, start_ms=6000, seconds=12), far))
    assert consensus.basis[0, 2] == pytest.approx(0.0, abs=1e-3)


@pytest.mark.parametrize("noise", [2e-4, 2e-3, 1.5e-2])
def test_the_dispersion_is_what_trades_show(noise):
    rng = np.random.default_rng(3)
    at_ms = np.arange(0, 60_000, 25.0)
    rows = by_receipt(*(trades(v, at_ms, rng.normal(0, noise, at_ms.size), first_id=v) for v in range(5)))
    consensus = feed(Consensus(1), rows)
    assert noise <= consensus.scale[0] <= 1.35 * noise
    assert consensus.band(0) == pytest.approx(np.clip(4.5 * consensus.scale[0], BAND_LEAST, BAND_MOST))


def test_the_band_has_a_least_and_a_most():
    consensus = Consensus(2)
    consensus.scale[1] = 1.0
    assert consensus.band(np.array([0, 1])).tolist() == [BAND_LEAST, BAND_MOST]


def test_only_what_is_far_from_both_consensus_and_anchor_is_suspect():
    consensus = feed(Consensus(1), steady({0: 0.0, 1: 0.0, 2: 0.0}))
    assert compared(consensus, 1, 6000, 0.02).suspect.tolist() == [True]
    assert compared(consensus, 1, 6000, 0.007).suspect.tolist() == [False]
    feed(consensus, steady(dict.fromkeys((0, 1, 2), 0.05), start_ms=6000, seconds=0.4))
    assert level(consensus) == pytest.approx(0.05)
    assert consensus.anchor_of(0) == pytest.approx(np.log(100))
    assert compared(consensus, 1, 6400, 0.0).suspect.tolist() == [False]
    assert compared(consensus, 1, 6400, 0.025).suspect.tolist() == [True]


def test_nothing_is_suspect_before_enough_is_known():
    assert compared(Consensus(1), 0, 0, 0.5).suspect.tolist() == [False]
    early = feed(Consensus(1), steady({0: 0.0, 1: 0.0}, seconds=1))
    assert compared(early, 1, 1000, 0.5).suspect.tolist() == [False]
    known = feed(Consensus(1), steady({0: 0.0, 1: 0.0}, seconds=6))
    assert compared(known, 1, 6000, 0.5).suspect.tolist() == [True]
    assert compared(known, 2, 6000, 0.5).suspect.tolist() == [False]  # a venue not heard before


def test_the_usual_interval_says_when_a_tick_is_overdue():
    consensus = feed(Consensus(1), steady({0: 0.0}, seconds=30, every_ms=100))
    feed(consensus, steady({1: 0.0}, start_ms=30_000, seconds=60, every_ms=2500))
    feed(consensus, steady({0: 0.0}, start_ms=90_000, seconds=30, every_ms=100))
    overdue_ns = consensus.overdue_ns(0)
    assert overdue_ns[0] == pytest.approx(200e6, rel=0.3)
    assert overdue_ns[1] == USUAL_MOST_NS
    assert overdue_ns[2:].tolist() == [0] * 5
