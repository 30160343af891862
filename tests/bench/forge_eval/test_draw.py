"""The ingredients stay in the stated ranges."""

import numpy as np
import pytest

from bench.forge_eval.draw import SCORED_DISPERSIONS, feeds, instrument, moments, move, spike, walk


@pytest.fixture
def rng():
    return np.random.default_rng(5)


def test_links_are_3_to_150_ms_long_and_some_venues_do_not_stamp_quotes(rng):
    links = feeds(rng, skew_ms=2000, drift_ppm=50)
    assert len(links) == 7
    assert all(3 <= one.latency_ms <= 150 and abs(one.skew_ms) <= 2000 for one in links.values())
    assert not links[0].quotes_stamped


@pytest.mark.parametrize(("major", "low", "high", "least"), [(True, 1, 3, 20), (False, 20, 150, 1)])
def test_instruments_are_of_their_class(rng, major, low, high, least):
    for _ in range(50):
        one = instrument(rng, 10.0, major=major)
        assert low <= one.dispersion * 1e4 <= high
        assert np.log(1e-5) <= one.log_price <= np.log(1e5)
        assert 3 <= len(one.listings) <= 7
        assert all(listing.rate >= least for listing in one.listings.values())


def test_wicks_are_of_the_sizes_asked_and_mostly_scored(rng):
    one = instrument(rng, 10.0, major=False)
    drawn = [spike(rng, one, 9000.0) for _ in range(200)]
    sizes = np.abs([wick.size for wick in drawn])
    assert sizes.min() >= 0.015
    assert sizes.max() <= max(0.12, 1.31 * SCORED_DISPERSIONS * one.dispersion)
    assert (sizes >= SCORED_DISPERSIONS * one.dispersion).mean() > 0.8
    assert all(1 <= wick.shape.size <= 12 and wick.shape.max() == 1 and wick.length_ms <= 400 for wick in drawn)
    assert {wick.quoted for wick in drawn} == {True, False}


def test_moves_have_a_first_venue_and_the_size_asked(rng):
    one = instrument(rng, 10.0, major=True)
    for _ in range(50):
        made = move(rng, one, 9000.0)
        assert min(made.delay_ms.values()) == 0
        assert 0.03 <= 1 - np.exp(-abs(made.ramp.size)) <= 0.15


def test_nothing_happens_in_the_warm_up_or_at_the_end(rng):
    at = moments(rng, 30.0)
    assert at[0] >= 8000
    assert at[-1] <= 27_000
    assert np.diff(at).min() >= 3000


def test_a_walk_has_the_volatility_asked(rng):
    steps = np.diff(walk(rng, 400.0, 1e-3))
    assert np.median(np.abs(steps)) == pytest.approx(0.6745 * 1e-3 * np.sqrt(0.02), rel=0.1)
