"""Counts, shares and targets, on verdicts written by hand."""

import math

import numpy as np
import pytest

from bench.forge_eval.families import FAMILIES
from bench.forge_eval.judge import NEVER, Judged
from bench.forge_eval.plan import Plan
from bench.forge_eval.score import Score, missed, pool, score
from bench.forge_eval.ticks import EXCLUDED, GENUINE, REJECT, SCAM, TRUTH, Market
from market.records import CONFIRMED, UNVERIFIED, WICK


def verdicts(rows):
    """Return the score of (label, event, verdict at release, verdict in the end) rows."""
    label, event, first, final = (np.array(column) for column in zip(*rows, strict=True))
    truth = np.zeros(len(rows), TRUTH)
    truth["label"], truth["event"] = label, event
    truth["reason"] = np.where(label == EXCLUDED, 2, 0)
    held, none = np.full(len(rows), 155.0), np.full(len(rows), np.nan)
    judged = Judged(first.astype(np.int8), final.astype(np.int8), held, none, none, np.zeros(len(rows), np.int64))
    return score(Market(Plan(1, {}, []), {}, truth), judged, 150.0)


ONE = verdicts(
    [
        (GENUINE, -1, CONFIRMED, CONFIRMED),
        (GENUINE, -1, WICK, CONFIRMED),
        (GENUINE, -1, WICK, WICK),
        (GENUINE, -1, UNVERIFIED, UNVERIFIED),
        (SCAM, 0, WICK, WICK),
        (SCAM, 0, WICK, CONFIRMED),
        (SCAM, 1, WICK, WICK),
        (SCAM, 1, WICK, WICK),
        (EXCLUDED, 2, WICK, WICK),
        (REJECT, -1, NEVER, NEVER),
    ]
)


def test_trades_are_counted_by_label_and_verdict():
    assert (ONE.trades, ONE.genuine, ONE.scored, ONE.caught) == (9, 4, 4, 3)
    assert (ONE.suppressed, ONE.for_a_moment, ONE.lost) == (1, 1, 0)
    assert (ONE.events, ONE.events_split) == (2, 1)
    assert ONE.excluded == {"wick without a live witness": 1}
    assert ONE.recall == ONE.precision == 0.75
    assert ONE.suppressed_per_million == 250_000
    assert ONE.unverified_share == pytest.approx(1 / 9)
    assert ONE.added_ms.tolist() == [5.0] * 9


def test_trades_that_vanish_and_impossible_ones_that_pass_are_lost():
    assert verdicts([(GENUINE, -1, NEVER, NEVER), (REJECT, -1, CONFIRMED, CONFIRMED)]).lost == 2


def test_shares_of_nothing_are_not_numbers():
    assert math.isnan(Score().recall)
    assert math.isnan(Score().precision)


def test_pools_are_sums():
    both = pool([ONE, ONE])
    assert (both.trades, both.caught, both.added_ms.size) == (18, 6, 18)
    assert both.excluded == {"wick without a live witness": 2}
    assert both.recall == 0.75


def test_targets():
    good = Score(trades=1_000_000, genuine=1_000_000, scored=1000, caught=996)
    assert missed(FAMILIES, {"wicks": good}) == []
    assert "crash" in missed(FAMILIES, {"crash": Score(genuine=1_000_000, suppressed=1)})[0]
    assert "30.0 of a million" in missed(FAMILIES, {"regime": Score(genuine=1_000_000, suppressed=30)})[0]
    assert "recall 0.9" in missed(FAMILIES, {"wicks": Score(scored=10, caught=9)})[0]
    poor = Score(genuine=10_000_000, suppressed=10, scored=100, caught=100)
    assert "precision" in missed(FAMILIES, {"wicks": poor})[0]
    assert "lost" in missed(FAMILIES, {"calm": Score(lost=1)})[0]


def test_heavy_tails_count_nowhere():
    assert missed(FAMILIES, {"heavy tails": Score(genuine=10, suppressed=5)}) == []
