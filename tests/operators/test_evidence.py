"""The vote of the other venues on one trade, rule by rule."""

import json
import pickle

import numpy as np
import pytest

from market.schema import LAGGING
from market.venues import VENUES
from operators.evidence import BACK_NS, FEW_CHUNKS, HORIZON_NS, WAITING_ROWS, Evidence, Suspect
from tests.operators.markets import BASE, MS, START_NS, by_receipt, quotes, trades

AT_MS = 3000.0
SUSPECT = Suspect(symbol=0, venue=2, price=np.log(BASE) + 0.05, event_ns=START_NS + 3000 * MS, anchor=np.log(BASE))
NO_BASIS = np.zeros(len(VENUES))


def vote(*parts, suspect=SUSPECT, cutoff_ms=3150, basis=NO_BASIS, scale=1e-4, overdue_ms=None):
    evidence = Evidence()
    if parts:
        evidence.add(by_receipt(*parts))
    overdue_ns = None if overdue_ms is None else np.full(len(VENUES), int(overdue_ms * MS))
    cutoff_ns = START_NS + int(cutoff_ms * MS)
    return evidence.vote(suspect, cutoff_ns - 150 * MS, cutoff_ns, basis, scale, overdue_ns)


def counts(found):
    return found.support, found.against, found.presumed


def test_without_evidence_nobody_votes():
    evidence = Evidence()
    evidence.add(trades(2, [AT_MS], 0.05))
    found = evidence.vote(SUSPECT, SUSPECT.event_ns, SUSPECT.event_ns + 150 * MS, NO_BASIS, 1e-4, None)
    assert counts(found) == (0, 0, 0)
    assert np.isnan(found.reference)
    assert found.describe(0.0) == {}


@pytest.mark.parametrize("make", [trades, quotes])
def test_a_venue_heard_after_the_trade_elsewhere_is_against(make):
    assert counts(vote(make(1, [AT_MS + 1], 0.0))) == (0, 1, 0)


def test_one_heard_only_before_it_says_nothing():
    found = vote(quotes(1, [AT_MS - 1, AT_MS]))
    assert counts(found) == (0, 0, 0)
    assert found.witnesses[0].vote == "silent"


@pytest.mark.parametrize(("share", "support"), [(1.0, 1), (1.4, 1), (0.51, 1), (0.49, 0), (-0.6, 0)])
@pytest.mark.parametrize("after_ms", [-299, -1, 1, 149])
@pytest.mark.parametrize("sign", [1, -1])
def test_half_of_the_way_is_following_before_or_after(share, support, after_ms, sign):
    suspect = Suspect(0, 2, np.log(BASE) + sign * 0.05, SUSPECT.event_ns, SUSPECT.anchor)
    assert vote(quotes(1, [AT_MS + after_ms], sign * 0.05 * share), suspect=suspect).support == support


def test_in_a_wide_symbol_half_of_a_small_move_is_noise():
    assert vote(quotes(1, [AT_MS + 1], 0.03), scale=0.01).support == 0
    assert vote(quotes(1, [AT_MS + 1], 0.041), scale=0.01).support == 1
    assert vote(quotes(1, [AT_MS + 1], 0.041), scale=0.1).support == 1


def test_evidence_is_what_was_received_by_the_cutoff_near_the_trade():
    assert counts(vote(quotes(1, [AT_MS + 10], 0.05, delay_ms=141))) == (0, 0, 0)
    assert counts(vote(quotes(1, [AT_MS - BACK_NS / MS - 1], 0.05))) == (0, 0, 0)


def test_the_trade_s_own_venue_and_other_symbols_have_no_vote():
    found = vote(quotes(2, [AT_MS + 1]), quotes(1, [AT_MS + 1], symbol=1), quotes(3, [AT_MS + 5]))
    assert [witness.venue for witness in found.witnesses] == [3]


def test_the_basis_of_a_venue_is_taken_off():
    basis = NO_BASIS.copy()
    basis[1] = 0.05
    assert counts(vote(quotes(1, [AT_MS + 1], 0.05), basis=basis)) == (0, 1, 0)
    assert counts(vote(quotes(1, [AT_MS + 1], 0.10), basis=basis)) == (1, 0, 0)


def test_one_that_is_not_overdue_is_presumed_to_stand_where_it_stood():
    last = quotes(1, [AT_MS - 400])
    assert counts(vote(last, overdue_ms=600)) == (0, 0, 1)
    assert counts(vote(last, overdue_ms=500)) == (0, 0, 0)
    assert counts(vote(last)) == (0, 0, 0)
    assert vote(last, overdue_ms=600).witnesses[0].vote == "not overdue"


def test_a_last_value_at_the_price_supports_and_one_elsewhere_says_nothing():
    assert counts(vote(quotes(1, [AT_MS - 400], 0.05), overdue_ms=600)) == (1, 0, 0)
    assert counts(vote(quotes(1, [AT_MS - 400], -0.08), overdue_ms=600)) == (0, 0, 0)


def test_ticks_that_may_be_old_are_no_evidence():
    old = quotes(1, [AT_MS + 1])
    old["flags"] |= LAGGING
    assert counts(vote(old)) == (0, 0, 0)


def test_the_reference_is_the_median_of_the_values_at_the_trade_s_time():
    found = vote(
        quotes(1, [AT_MS - 50, AT_MS - 10, AT_MS + 20], [0.0, 0.001, 0.04]),
        quotes(3, [AT_MS + 5, AT_MS + 9], [0.003, 0.04]),
        quotes(4, [AT_MS - 5], 0.002),
    )
    assert found.reference - np.log(BASE) == pytest.approx(0.002)


def test_the_words_for_a_wick_s_row_are_json():
    found = vote(quotes(1, [AT_MS + 12], 0.01), quotes(3, [AT_MS + 1], 0.05), quotes(4, [AT_MS - 5]))
    told = found.describe(SUSPECT.price)
    assert told == {
        "okx": {"nearest_bps": -400.0, "age_ms": -12.0, "vote": "did not follow"},
        "kraken": {"nearest_bps": 0.0, "age_ms": -1.0, "vote": "followed"},
        "gateio": {"nearest_bps": -500.0, "age_ms": 5.0, "vote": "silent"},
    }
    assert json.loads(json.dumps(told)) == told


def test_votes_do_not_depend_on_how_evidence_came_or_was_kept():
    rng = np.random.default_rng(2)
    rows = by_receipt(*(quotes(v, np.sort(rng.uniform(0, 3200, 300)), rng.normal(0, 1e-3, 300)) for v in (0, 1, 3)))
    whole = Evidence()
    whole.add(rows)
    parts = Evidence()
    for number in range(0, rows.size, 7):
        parts.add(rows[number : number + 7])
        parts.forget(int(rows["receive_ns"][number]))
        if number % 3 == 0:
            parts.settle()
        if number % 5 == 0:
            parts = pickle.loads(pickle.dumps(parts))
    assert len(parts._chunks) <= FEW_CHUNKS + 1
    released_ns = START_NS + 3000 * MS
    args = (SUSPECT, released_ns, released_ns + 150 * MS, NO_BASIS, 1e-3, np.full(7, 10**8))
    assert parts.vote(*args) == whole.vote(*args)


def test_what_is_beyond_the_horizon_is_dropped():
    evidence = Evidence()
    for start_ms in range(0, 20_000, 100):
        evidence.add(quotes(1, np.linspace(start_ms, start_ms + 99, 100)))
        evidence.forget(START_NS + start_ms * MS)
        rows = sum(chunk.size for chunk in evidence._chunks) + evidence._new_rows
        assert rows <= 2 * HORIZON_NS / MS + WAITING_ROWS
