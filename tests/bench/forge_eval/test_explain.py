"""A wrong verdict is told with its surroundings."""

import numpy as np
import pytest

from bench.forge_eval.draw import market, spike
from bench.forge_eval.explain import explain, wrong
from bench.forge_eval.judge import judge
from bench.forge_eval.ticks import SCAM, make
from market.records import CONFIRMED, WICK
from operators.forge import ForgePolicy


@pytest.fixture(scope="module")
def case():
    rng = np.random.default_rng(8)
    plan = market(rng, 1, 12.0, venues=(4, 4), rates=(40, 60))
    plan.instruments[0].spikes = [spike(rng, plan.instruments[0], 9000.0, sizes=(0.05, 0.06))]
    made = make(plan, rng)
    return made, judge(made, ForgePolicy())


def test_wrong_ones_are_missed_prints_and_filtered_trades(case):
    made, judged = case
    scam = int(np.flatnonzero(made.truth["label"] == SCAM)[0])
    judged.final[:] = np.where(made.truth["label"] == SCAM, WICK, CONFIRMED)
    assert wrong(made, judged).size == 0
    other = (scam + 1) % made.truth.size if made.truth["label"][(scam + 1) % made.truth.size] != SCAM else 0
    judged.final[scam], judged.final[other] = CONFIRMED, WICK
    assert set(wrong(made, judged).tolist()) == {scam, other}


def test_the_story_names_the_trade_the_wick_and_every_venue(case):
    made, judged = case
    scam = int(np.flatnonzero(made.truth["label"] == SCAM)[0])
    lines = list(explain(made, judged, scam))
    assert lines[0].startswith("wick judged")
    assert any("this wick of" in line for line in lines)
    assert any("record: deviation" in line for line in lines)
    assert sum("ms after:bps" in line for line in lines) == 4
