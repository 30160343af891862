"""The evidence: where venues were in cells of event time, and who was heard since."""

import pickle

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from market.schema import END_OF_INPUT, LAGGING
from market.venues import VENUES
from operators.evidence import BACK_NS, CELL_NS, CELLS, LONG_AGO, Evidence
from tests.operators.markets import BASE, MS, START_NS, Market, by_receipt, hold_of, quotes, trades

CELL_MS = CELL_NS / MS
MEMORY_MS = CELLS * CELL_MS
AT_MS = 3000.0 + CELL_MS / 2  # the middle of a cell
ONE = np.zeros(1, np.int64)


def ns(at_ms):
    return START_NS + int(at_ms * MS)


def shown(*parts, symbols=1):
    """Return the evidence of some ticks."""
    evidence = Evidence(symbols)
    for seen in hold_of(by_receipt(*parts), symbols).see(END_OF_INPUT):
        evidence.add(seen)
    return evidence


def extremes(evidence, from_ms, to_ms=None, symbol=0):
    """Return venue code -> least and greatest log price over BASE, of those that were heard."""
    to_ns = None if to_ms is None else np.array([ns(to_ms)])
    found = evidence.between(ONE + symbol, np.array([ns(from_ms)]), to_ns)
    heard = np.flatnonzero(np.isfinite(found.least[0])).tolist()
    np.testing.assert_array_equal(np.isinf(found.least), np.isinf(found.greatest))
    return {v: (found.least[0, v] - np.log(BASE), found.greatest[0, v] - np.log(BASE)) for v in heard}


@pytest.mark.parametrize("make", [trades, quotes])
def test_each_venue_s_extremes_in_a_stretch_of_time(make):
    evidence = shown(make(1, AT_MS + np.array([-50, 0, 50]), [0.01, -0.02, 0.03]), make(3, [AT_MS - 50], 0.04))
    assert extremes(evidence, AT_MS - 50) == {
        1: pytest.approx((-0.02, 0.03), abs=1e-9),
        3: pytest.approx((0.04, 0.04), abs=1e-9),
    }
    assert extremes(evidence, AT_MS - 20, AT_MS + 20) == {1: pytest.approx((-0.02, -0.02), abs=1e-9)}
    assert extremes(evidence, AT_MS + CELL_MS, AT_MS + CELL_MS) == {}


def test_before_any_tick_nobody_was_anywhere():
    evidence = Evidence(1)
    assert extremes(evidence, AT_MS) == {}
    assert not evidence.live(ONE, np.array([ns(AT_MS)])).any()
    assert np.isnan(evidence.newest).all()
    assert evidence.nearest(0, 1, ns(AT_MS), 0.0) is None


def test_the_farthest_is_the_extreme_of_the_way():
    found = shown(quotes(1, [AT_MS, AT_MS], [0.01, -0.02])).between(ONE.repeat(2), np.full(2, ns(AT_MS)))
    farthest = found.farthest(np.array([True, False]))
    np.testing.assert_allclose(farthest[:, 1] - np.log(BASE), [0.01, -0.02], atol=1e-9)
    assert farthest[:, 2].tolist() == [-np.inf, np.inf]  # not heard: infinitely far back


def test_symbols_are_apart():
    evidence = shown(quotes(1, [AT_MS], 0.01), quotes(1, [AT_MS], 0.02, symbol=1), symbols=2)
    assert extremes(evidence, AT_MS, symbol=1) == {1: pytest.approx((0.02, 0.02), abs=1e-9)}


def test_live_is_who_was_heard_with_a_later_event_time():
    evidence = shown(quotes(1, [AT_MS - 1]), quotes(2, [AT_MS]), quotes(3, [AT_MS + 1]))
    assert np.flatnonzero(evidence.live(ONE, np.array([ns(AT_MS)]))[0]).tolist() == [3]


def test_the_newest_is_by_event_time_and_of_one_time_the_last():
    evidence = shown(quotes(1, [AT_MS], 0.03, delay_ms=1), quotes(1, [AT_MS - 9], 0.02, delay_ms=40))
    assert evidence.newest[0, 1] == pytest.approx(np.log(BASE) + 0.03)
    assert evidence.newest_ns[0, 1] == ns(AT_MS)
    evidence = shown(quotes(1, [AT_MS, AT_MS], [0.03, 0.04]))
    assert evidence.newest[0, 1] == pytest.approx(np.log(BASE) + 0.04)


def test_ticks_that_may_be_old_are_no_evidence():
    old = quotes(1, [AT_MS])
    old["flags"] |= LAGGING
    evidence = shown(old)
    assert extremes(evidence, AT_MS) == {}
    assert evidence.newest_ns[0, 1] == LONG_AGO


def test_what_is_older_than_the_cells_is_forgotten_and_said_to_be():
    last_ms = AT_MS + MEMORY_MS
    evidence = shown(quotes(1, [AT_MS, last_ms], [0.01, 0.02]), quotes(2, [AT_MS], 0.03, delay_ms=MEMORY_MS))
    assert extremes(evidence, AT_MS) == {1: pytest.approx((0.02, 0.02), abs=1e-9)}
    ends = AT_MS + CELL_MS + BACK_NS / MS + np.array([-1.0, 1.0]) * CELL_MS
    assert evidence.reaches(np.array([ns(at) for at in ends])).tolist() == [False, True]


@pytest.mark.parametrize("cells", [1, CELLS - 1, CELLS, 10 * CELLS])
def test_time_that_passes_in_silence_makes_room(cells):
    evidence = shown(quotes(1, [AT_MS], 0.01))
    evidence.advance(ns(AT_MS + cells * CELL_MS))
    assert bool(extremes(evidence, AT_MS)) == (cells < CELLS)
    assert evidence.newest_ns[0, 1] == ns(AT_MS)
    evidence.advance(ns(AT_MS))  # never back
    assert bool(extremes(evidence, AT_MS)) == (cells < CELLS)


def test_the_nearest_of_a_venue_and_when_it_was():
    evidence = shown(
        quotes(1, AT_MS + np.array([-BACK_NS / MS - CELL_MS, -100, 0, 50]), [0.05, 0.01, 0.02, 0.04]),
        quotes(3, [AT_MS], 0.05),
    )
    value, at_ns = evidence.nearest(0, 1, ns(AT_MS), np.log(BASE) + 0.05)
    assert value - np.log(BASE) == pytest.approx(0.04)
    assert abs(at_ns - ns(AT_MS + 50)) <= CELL_NS / 2
    value, at_ns = evidence.nearest(0, 1, ns(AT_MS), np.log(BASE) - 0.05)
    assert value - np.log(BASE) == pytest.approx(0.01)
    assert abs(at_ns - ns(AT_MS - 100)) <= CELL_NS / 2
    assert evidence.nearest(0, 2, ns(AT_MS), 0.0) is None


def test_forgotten_symbols_are_as_new():
    ticks = [quotes(1, [AT_MS], 0.01, symbol=code) for code in (0, 1)]
    evidence, other = shown(*ticks, symbols=2), shown(ticks[1], symbols=2)
    evidence.forget(np.array([0]))
    assert pickle.dumps(evidence) == pickle.dumps(other)


@given(st.sets(st.integers(1, 299), max_size=6), st.integers(0, 1))
def test_the_cells_say_what_the_ticks_did_however_they_came(cuts, symbol):
    rows = by_receipt(*(Market(symbol=code, seconds=2, rate=25, noise=0.01, seed=4).rows() for code in (0, 1)))
    hold, evidence = hold_of(rows, symbols=2), Evidence(2)
    for cut in [*sorted(cuts), rows.size - 1]:
        for seen in hold.see(int(rows["receive_ns"][cut])):
            evidence.add(seen)
        evidence = pickle.loads(pickle.dumps(evidence))
    seen = next(hold_of(rows, symbols=2).see(END_OF_INPUT))
    first, last = np.array([ns(300)]), np.array([ns(900)])
    found = evidence.between(ONE + symbol, first, last)
    cell = seen.event_ns // CELL_NS
    within = (cell >= first // CELL_NS) & (cell <= last // CELL_NS) & (seen.place // len(VENUES) == symbol)
    for venue in range(len(VENUES)):
        values = seen.value[within & (seen.place % len(VENUES) == venue)]
        assert found.least[0, venue] == values.min(initial=np.inf)
        assert found.greatest[0, venue] == values.max(initial=-np.inf)
