"""What a plan says: links, clocks, moves, spans."""

import numpy as np
import pytest

from bench.forge_eval.plan import Feed, Instrument, Listing, Move, Ramp, within


def at(*times):
    return np.array(times, float)


def test_a_link_keeps_order_and_adds_its_latency():
    sent = np.sort(np.random.default_rng(1).uniform(0, 1000, 500))
    received = Feed(30.0, 20.0).receive_ms(sent, np.random.default_rng(2))
    assert (np.diff(received) >= 0).all()
    assert (received - sent >= 30).all()


def test_a_stalled_link_delivers_all_at_its_end():
    received = Feed(10.0, 0.0, stalls=[(100.0, 400.0)]).receive_ms(at(80, 95, 200, 389, 391), np.random.default_rng(1))
    assert received.tolist() == [90, 400, 400, 400, 401]


def test_a_clock_is_off_and_gains():
    assert Feed(1, 1, skew_ms=-2000, drift_ppm=50).stamp_ms(at(0, 100_000)).tolist() == [-2000, 98_005]


def test_an_overshoot_is_gone_when_the_move_has_settled():
    move = Move(Ramp(1000, 100, -0.1), {1: 50}, {1: 1.2}, settle_ms=500)
    assert move.at(1, at(1000, 1050, 1150, 1650)) == pytest.approx([0, 0, -0.12, -0.1])
    assert move.at(0, at(1050, 1100)) == pytest.approx([-0.05, -0.1])


def test_the_fair_price_is_the_path_with_all_that_is_the_venues_own():
    listing = Listing(1.0, premium=0.01, lag_ms=20, own=[Ramp(100, 10, 0.03)])
    one = Instrument(True, 5.0, 1e-4, 1e-6, np.inf, 4, np.array([0, 0.2, 0.4]), {3: listing})
    assert one.fair(3, at(20, 40, 60)) == pytest.approx([5.01, 5.21, 5.41])
    assert one.fair(3, at(200))[0] == pytest.approx(5.44)


def test_spans_are_half_open():
    assert within(at(0, 1, 2, 5, 6), [(1, 2), (5, 7)]).tolist() == [False, True, False, True, True]
    listing = Listing(1, 0, 0, mutes=[(1, 2)], frozen=[(5, 6)])
    assert listing.dead_at(at(1, 3, 5)).tolist() == [True, False, True]
