"""Markets go through the kernels whole, and come out the same however they were cut."""

import numpy as np
import pytest

from bench.forge_eval.draw import market, moments, spike
from bench.forge_eval.judge import NEVER, admit, chunks, flushes, judge
from bench.forge_eval.plan import Fault
from bench.forge_eval.ticks import REJECT, SCAM, make
from market.records import WICK
from market.schema import END_OF_INPUT
from operators.forge import QUANTUM_NS, ForgePolicy

SECONDS = 14.0
POLICY = ForgePolicy()


@pytest.fixture(scope="module")
def busy():
    """A small market with clear wicks and one impossible trade of each kind."""
    rng = np.random.default_rng(4)
    plan = market(rng, 2, SECONDS, dispersion_bps=(1, 20), rates=(30, 60), venues=(5, 5))
    for one in plan.instruments:
        one.spikes = [spike(rng, one, at, sizes=(0.04, 0.12)) for at in moments(rng, SECONDS)]
        venue = next(iter(one.listings))
        one.faults = [Fault(venue, 3000, 0.0, 1.0), Fault(venue, 3500, float("nan"), 1.0), Fault(venue, 4000, 1.0, 0.0)]
    return make(plan, rng)


@pytest.fixture(scope="module")
def judged(busy):
    return judge(busy, POLICY)


def test_every_possible_trade_has_a_verdict_and_no_other(busy, judged):
    assert ((judged.first == NEVER) == (busy.truth["label"] == REJECT)).all()
    assert judged.duplicates == 0
    assert judged.rejects == {"bad price": 4, "bad size": 2}


def test_clear_wicks_are_caught(busy, judged):
    scams = busy.truth["label"] == SCAM
    assert scams.sum() > 5
    assert (judged.final[scams] == WICK).mean() > 0.9
    assert set(np.flatnonzero(judged.first == WICK)) == set(judged.wicks)


def test_trades_are_held_for_the_window_and_at_most_a_quantum_more(judged):
    held = judged.held_ms[judged.first != NEVER]
    assert held.min() >= 150
    assert held.max() <= 150 + QUANTUM_NS / 1e6


def test_random_chunks_give_the_same(busy, judged):
    again = judge(busy, POLICY, chunks(admit(busy)[0], np.random.default_rng(1)))
    for column in ("first", "final", "held_ms", "readmitted_ms", "reference", "event_ns"):
        np.testing.assert_array_equal(getattr(again, column), getattr(judged, column))
    assert again.wicks == judged.wicks


@pytest.mark.parametrize("cut", [flushes, lambda ticks: chunks(ticks, np.random.default_rng(2))])
def test_a_cut_keeps_all_rows_in_order_and_its_promise(busy, cut):
    seen = {venue: [] for venue in busy.ticks}
    marks = dict.fromkeys(busy.ticks, 0)
    for step in cut(busy.ticks):
        for venue, rows, mark in step:
            if rows.size:
                assert rows["receive_ns"][0] > marks[venue] or not seen[venue]
                assert rows["receive_ns"][-1] <= mark
            marks[venue] = mark
            seen[venue].append(rows)
    assert set(marks.values()) == {END_OF_INPUT}
    for venue, parts in seen.items():
        assert np.concatenate(parts).tobytes() == busy.ticks[venue].tobytes()
