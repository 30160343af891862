"""The vote of the other venues: each rule on a trade or two."""

import numpy as np
import pytest

from market.records import CONFIRMED, UNVERIFIED, WICK
from operators.votes import (
    FOLLOWED,
    FOLLOWED_LATE,
    FOLLOWED_MOST,
    FOLLOWED_PART,
    NOISE_SCALES,
    OVERSHOT,
    OVERSHOT_SCALES,
    SAME_LEAST,
    SAME_SCALES,
    left_to_go,
    rule,
    same_price,
    way,
)

MOVE = 0.05
QUIET = 1e-5


def one_way(end=MOVE, *, anchor=0.0, level=0.0, scale=QUIET):
    return way(*(np.array([value]) for value in (end, anchor, level, scale)))


@pytest.mark.parametrize(
    ("support", "against", "least", "verdict"),
    [
        (0, 0, 1, UNVERIFIED),
        (0, 1, 1, WICK),
        (0, 1, 2, UNVERIFIED),
        (0, 2, 2, WICK),
        (1, 0, 1, CONFIRMED),
        (1, 2, 1, CONFIRMED),  # one of four may lead, one of five may not
        (1, 3, 1, WICK),
        (2, 3, 1, CONFIRMED),
        (2, 4, 1, WICK),
    ],
)
def test_a_wick_is_what_enough_venues_did_not_follow_and_few_did(support, against, least, verdict):
    assert rule(np.array([support]), np.array([against]), least).tolist() == [verdict]


@pytest.mark.parametrize("end", [MOVE, -MOVE])
def test_half_of_the_way_is_following_and_later_it_takes_more(end):
    gone = one_way(end)
    assert gone.up.tolist() == [end > 0]
    assert gone.end.tolist() == [end]
    assert gone.short == pytest.approx((1 - FOLLOWED) * MOVE)
    assert gone.short_late == pytest.approx((1 - FOLLOWED_LATE) * MOVE)
    assert gone.short_part == pytest.approx((1 - FOLLOWED_PART) * MOVE)


def test_without_an_anchor_the_way_begins_at_the_level():
    assert one_way(0.05, anchor=np.nan, level=0.01).short == pytest.approx((1 - FOLLOWED) * 0.04)


def test_in_a_wide_symbol_half_of_a_small_move_is_noise_but_not_all_of_it():
    scale = 0.7 * MOVE / NOISE_SCALES
    assert one_way(scale=scale).short == pytest.approx(MOVE - NOISE_SCALES * scale)
    assert one_way(scale=10 * scale).short == pytest.approx((1 - FOLLOWED_MOST) * MOVE)
    assert one_way(scale=10 * scale).short_part == pytest.approx((1 - FOLLOWED) * MOVE)


def test_a_wick_on_top_of_a_real_move_must_be_followed_from_where_that_move_is():
    rest = 0.5 * MOVE
    assert one_way(level=MOVE - rest).short == pytest.approx((1 - FOLLOWED) * rest)
    assert one_way(level=-rest).short == pytest.approx((1 - FOLLOWED) * MOVE)  # against it: that is no part of the way
    assert one_way(level=2 * MOVE).short == pytest.approx((1 - FOLLOWED) * MOVE)  # nor is one that is past it


def test_a_move_may_go_a_little_farther_than_the_others():
    assert one_way(level=0.95 * MOVE).short == pytest.approx(OVERSHOT * MOVE)


def test_nor_are_two_ends_of_a_move_known_better_than_by_some_dispersions():
    scale = MOVE / 5
    gone = one_way(level=MOVE / 4, scale=scale)
    assert gone.short[0] == pytest.approx(min(OVERSHOT_SCALES * scale, MOVE * (1 - NOISE_SCALES / 5)))


def test_what_is_left_to_go_has_the_sign_of_the_way():
    reached = np.array([[0.03, 0.06, -np.inf], [0.03, 0.06, np.inf]])
    left = left_to_go(reached, np.array([True, False]), np.array([0.05, 0.05]))
    np.testing.assert_allclose(left, [[0.02, -0.01, np.inf], [-0.02, 0.01, np.inf]])


@pytest.mark.parametrize("scale", [QUIET, 10 * SAME_LEAST])
@pytest.mark.parametrize(
    ("least", "greatest", "same"),
    [(-0.9, 0.9, True), (0.9, 2.0, True), (1.1, 2.0, False), (-2.0, -1.1, False), (np.inf, -np.inf, False)],
)
def test_the_same_price_elsewhere_is_near_or_on_both_sides(least, greatest, same, scale):
    room = max(SAME_SCALES * scale, SAME_LEAST)
    found = same_price(
        np.array([[least * room]]), np.array([[greatest * room]]), np.zeros(1), np.zeros(1), np.array([scale])
    )
    assert found.tolist() == [[same]]


@pytest.mark.parametrize("own", [0.5, np.nan])
def test_it_counts_only_where_the_venue_itself_stands_there(own):
    at = np.zeros((1, 1))
    assert same_price(at, at, np.zeros(1), np.zeros(1), np.array([QUIET])).all()
    assert not same_price(at, at, np.zeros(1), np.array([own]), np.array([QUIET])).any()
