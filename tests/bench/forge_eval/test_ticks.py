"""Ticks are true to their plan, and labels to the ticks."""

import numpy as np
import pytest

from bench.forge_eval.draw import feeds, instrument
from bench.forge_eval.families import FAMILIES
from bench.forge_eval.plan import START_NS, Fault, Plan, Spike
from bench.forge_eval.ticks import EXCLUDED, GENUINE, REASONS, REJECT, SCAM, dispersion_of, make
from market.schema import QUOTE, REPLAYED, TRADE, UNSTAMPED

SECONDS = 20.0


def quiet(seed=1, *, major=False, **more):
    rng = np.random.default_rng(seed)
    one = instrument(rng, SECONDS, major=major, **{"venues": (5, 5), "rates": (40, 40), **more})
    return Plan(SECONDS, feeds(rng), [one]), one


def made(plan):
    return make(plan, np.random.default_rng(2))


def wick_on(one, *, size, venues=1, quoted=False):
    return Spike(tuple(list(one.listings)[:venues]), 9000.0, 50.0, np.ones(4), size, quoted, False)


@pytest.mark.parametrize("major", [True, False])
def test_ordinary_trades_have_the_stated_dispersion(major):
    plan, one = quiet(major=major)
    assert dispersion_of(made(plan), 0) == pytest.approx(one.dispersion * 1e4, rel=0.25)


def test_ordinary_trades_stay_within_their_cut():
    plan, one = quiet()
    one.degrees = 4.0
    off = np.abs(made(plan).truth["deviation"])
    assert off.max() <= 4.6 * one.dispersion  # half a price step beyond, at most
    assert (off > 3 * one.dispersion).any()


def test_ticks_come_in_receive_order_with_ids_that_are_rows_of_the_truth():
    market = made(quiet()[0])
    ids = []
    for venue, rows in market.ticks.items():
        assert (np.diff(rows["receive_ns"]) >= 0).all()
        trades = rows[rows["kind"] == TRADE]
        own = trades["trade_id"].astype(int)
        assert (market.truth["venue"][own] == venue).all()
        assert market.truth["price"][own].tolist() == trades["price"].tolist()
        ids += own.tolist()
    assert sorted(ids) == list(range(market.truth.size))


def test_quotes_have_a_spread_and_some_venues_do_not_stamp_them():
    plan, _ = quiet(venues=(7, 7))
    market = made(plan)
    quotes = market.ticks[0][market.ticks[0]["kind"] == QUOTE]
    assert (quotes["ask"] > quotes["bid"]).all()
    assert (quotes["flags"] == UNSTAMPED).all()
    assert (quotes["exchange_ns"] == 0).all()
    assert (market.ticks[0]["exchange_ns"][market.ticks[0]["kind"] == TRADE] > 0).all()


def test_prints_of_a_wick_are_scored_from_six_dispersions_on():
    plan, one = quiet()
    one.spikes = [wick_on(one, size=8 * one.dispersion), wick_on(one, size=-3 * one.dispersion)]
    truth = made(plan).truth
    assert truth["label"][truth["event"] == 0].tolist() == [SCAM] * 4
    assert truth["label"][truth["event"] == 1].tolist() == [EXCLUDED] * 4
    assert (truth["label"][truth["event"] < 0] == GENUINE).all()


@pytest.mark.parametrize("quoted", [True, False])
def test_quotes_go_along_with_a_wick_or_do_not(quoted):
    plan, one = quiet()
    one.spikes = [wick_on(one, size=10 * one.dispersion, quoted=quoted)]
    venue = one.spikes[0].venues[0]
    rows = made(plan).ticks[venue]
    bids = rows["bid"][rows["kind"] == QUOTE]
    far = np.log(bids) - one.log_price > 6 * one.dispersion + np.abs(one.walk).max()
    assert far.any() == quoted


def test_a_wick_of_half_the_venues_is_not_scored():
    plan, one = quiet(venues=(4, 4))
    one.spikes = [wick_on(one, size=10 * one.dispersion, venues=2)]
    truth = made(plan).truth
    found = truth[truth["event"] == 0]
    assert [REASONS[reason] for reason in found["reason"]] == [
        "wick of several venues without a majority against it"
    ] * 8


def test_a_wick_that_nobody_could_see_is_not_scored():
    plan, one = quiet()
    one.spikes = [wick_on(one, size=10 * one.dispersion)]
    for venue in list(one.listings)[1:]:
        one.listings[venue].mutes.append((7000.0, 12_000.0))
    truth = made(plan).truth
    assert [REASONS[reason] for reason in truth["reason"][truth["event"] == 0]] == ["wick without a live witness"] * 4


def test_a_muted_listing_is_silent_and_replays_its_last_trades():
    plan, one = quiet()
    venue = next(iter(one.listings))
    one.listings[venue].mutes, one.listings[venue].replays = [(5000.0, 9000.0)], True
    rows = made(plan).ticks[venue]
    again = rows[rows["flags"] & REPLAYED != 0]
    assert 1 <= again.size <= 20
    assert ((again["exchange_ns"] - START_NS) / 1e6 < 5100).all()
    at_ms = (rows["receive_ns"] - START_NS) / 1e6
    assert not ((at_ms > 5500) & (at_ms < 9000)).any()


def test_a_frozen_listing_repeats_one_old_quote():
    plan, one = quiet()
    venue = next(code for code in one.listings if plan.feeds[code].quotes_stamped)
    one.listings[venue].frozen = [(5000.0, 9000.0)]
    rows = made(plan).ticks[venue]
    at_ms = (rows["receive_ns"] - START_NS) / 1e6
    inside = rows[(at_ms > 5500) & (at_ms < 8900)]
    assert inside.size > 20
    assert set(inside["kind"].tolist()) == {QUOTE}
    assert np.unique(inside["exchange_ns"]).size == np.unique(inside["bid"]).size == 1


def test_impossible_trades_are_labelled():
    plan, one = quiet()
    venue = next(iter(one.listings))
    prices = (0.0, -1.0, float("nan"), 1.0, 1e12)
    sizes = (1.0, 1.0, 1.0, 0.0, 1.0)
    one.faults = [Fault(venue, 9000.0 + 500 * n, *pair) for n, pair in enumerate(zip(prices, sizes, strict=True))]
    market = made(plan)
    truth = market.truth
    assert (truth["label"] == REJECT).sum() == 4
    assert truth["price"][truth["label"] == SCAM].tolist() == [1e12]


def test_the_same_seed_gives_the_same_market():
    one, two = (make(FAMILIES["stale"].build(rng := np.random.default_rng(3), 2), rng) for _ in range(2))
    assert one.truth.tobytes() == two.truth.tobytes()
    assert all(one.ticks[venue].tobytes() == two.ticks[venue].tobytes() for venue in one.ticks)
