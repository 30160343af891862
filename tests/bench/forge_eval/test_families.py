"""Every family holds what its name says."""

import numpy as np
import pytest

from bench.forge_eval.families import FAMILIES, REGIME_STATED_MS


def built(name, symbols=4, seed=1):
    return FAMILIES[name].build(np.random.default_rng(seed), symbols)


@pytest.mark.parametrize("name", FAMILIES)
def test_a_family_builds_any_size_and_has_wicks_if_it_says_so(name):
    plan = built(name)
    assert len(plan.instruments) == 4
    has = any(one.spikes or one.faults for one in plan.instruments)
    assert has == FAMILIES[name].wicks
    assert len({round(one.log_price, 6) for one in plan.instruments}) == 4


@pytest.mark.parametrize("name", ["two venues", "two-venue crash"])
def test_two_venues_are_two(name):
    assert {len(one.listings) for one in built(name).instruments} == {2}


@pytest.mark.parametrize(("name", "low", "high"), [("lead", 40, 140), ("late followers", 170, 1000)])
def test_followers_come_in_their_time(name, low, high):
    for one in built(name).instruments:
        for move in one.moves:
            first, *rest = sorted(move.delay_ms.values())
            assert first == 0
            assert all(low <= delay <= high for delay in rest)


def test_clocks_are_far_off():
    feeds = built("clocks").feeds.values()
    assert max(abs(feed.skew_ms) for feed in feeds) > 500
    assert max(abs(feed.drift_ppm) for feed in feeds) > 10


def test_stalls_last_300_to_900_ms():
    lengths = [end - start for feed in built("stall crash").feeds.values() for start, end in feed.stalls]
    assert len(lengths) >= 7
    assert min(lengths) >= 300
    assert max(lengths) <= 900


def test_a_stale_symbol_keeps_one_venue_alive_and_its_wicks_are_there():
    for seed in range(5):
        for one in built("stale", 8, seed).instruments:
            dead = {venue for venue, listing in one.listings.items() if listing.mutes or listing.frozen}
            assert dead
            at = np.array([wick.start_ms for wick in one.spikes])
            for wick, when in zip(one.spikes, at, strict=True):
                assert not one.listings[wick.venues[0]].dead_at(np.array([when]))[0]


def test_a_new_regime_is_unsettled_for_the_stated_time():
    for one in built("regime").instruments:
        (listing,) = [listing for listing in one.listings.values() if listing.own]
        assert listing.unsettled == [(listing.own[0].start_ms, listing.own[0].start_ms + REGIME_STATED_MS)]
        assert 0.02 <= abs(listing.own[0].size) <= 0.05


def test_a_sweep_steps_out_to_5_percent_within_50_ms():
    for one in built("sweep").instruments:
        for wick in one.spikes:
            assert np.all(np.diff(wick.shape) > 0)
            assert wick.length_ms == 50
            assert abs(wick.size) == pytest.approx(0.05, rel=0.01) or abs(wick.size) > 6 * one.dispersion


def test_pairs_are_pairs():
    assert {len(wick.venues) for one in built("wick pairs").instruments for wick in one.spikes} == {2}
