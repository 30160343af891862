"""The clock of one venue: offset and drift from the lower envelope, on any link and in any batches."""

import pickle
from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from operators.clock import DRIFT, WINDOW_BUCKETS, WINDOW_NS, ClockKernel, lower_line
from tests.operators.clocks import LEAST_NS, MS, SECOND_NS, STALL_NS, START_NS, Link, correct, errors_ms, link

MEDIAN_MS, P99_MS = 5.0, 25.0
CLOCKS = {
    "5 s behind": {"skew_ms": -5000},
    "5 s ahead": {"skew_ms": 5000},
    "100 ppm slow": {"ppm": -100},
    "100 ppm fast": {"ppm": 100},
    "venue set forward": {"venue_step_ms": 1000},
    "venue set back": {"venue_step_ms": -1000},
    "ours set forward": {"our_step_ms": 1000},
    "ours set back": {"our_step_ms": -1000},
}
LINKS = {
    "calm": {},
    "stalls": {"stall_every_s": 7},
    "jitter": {"jitter_ms": 20, "spikes_ms": 30},
    "stalls and spikes": {"stall_every_s": 7, "spikes_ms": 30},
}


def at_s(ticks):
    return (ticks.receive_ns - START_NS) / SECOND_NS


@pytest.mark.parametrize("rate", [20, 500])
@pytest.mark.parametrize("course", LINKS.values(), ids=LINKS)
@pytest.mark.parametrize("clock", CLOCKS.values(), ids=CLOCKS)
def test_event_times_are_near_the_truth_steps_included(clock, course, rate):
    ticks = link(rate=rate, **clock, **course)
    errors = errors_ms(ticks)
    late_ns = ticks.receive_ns - ticks.true_ns - LEAST_NS
    assert (errors * MS <= late_ns + 1).all()  # never after receipt
    for least_ns in (LEAST_NS, 0):  # a delay that every tick has is part of the offset
        error = np.abs(errors_ms(ticks, least_ns) if least_ns == 0 else errors)[at_s(ticks) >= 30]
        assert np.median(error) < MEDIAN_MS
        assert np.percentile(error, 99) < P99_MS


@pytest.mark.parametrize("course", LINKS.values(), ids=LINKS)
@pytest.mark.parametrize("clock", CLOCKS.values(), ids=CLOCKS)
def test_one_tick_a_second_is_enough_after_30_s(clock, course):
    ticks = link(rate=1, seconds=300, **clock, **course)
    error = np.abs(errors_ms(ticks))[(at_s(ticks) >= 30) & ~((at_s(ticks) > 60) & (at_s(ticks) < 90))]
    assert np.median(error) < MEDIAN_MS
    assert np.percentile(error, 99) < P99_MS


@pytest.mark.parametrize("ppm", [-100, -20, 0, 100])
def test_the_drift_is_known_after_a_minute(ppm):
    ticks = link(ppm=ppm, skew_ms=400)
    kernel = ClockKernel()
    errors = errors_ms(ticks, kernel=kernel)
    assert kernel.drift * 1e6 == pytest.approx(-ppm, abs=5)
    assert np.abs(errors[at_s(ticks) > 60]).max() < 0.2
    assert kernel.offset_ns == pytest.approx(LEAST_NS - 400 * MS - 120 * ppm * 1000, abs=0.2 * MS)
    assert 0 <= kernel.error_ns < 0.5 * MS


@pytest.mark.parametrize("clock", [CLOCKS[name] for name in CLOCKS if "set" in name], ids=lambda c: str(c))
def test_a_step_is_followed_within_half_a_second_and_only_a_late_one_costs_anything(clock):
    ticks = link(rate=100, **clock)
    after_s = at_s(ticks) - 60 - max(clock.get("our_step_ms", 0), 0) / 1000
    errors = np.abs(errors_ms(ticks))
    assert errors[after_s > 0.5].max() < 3
    later = clock.get("venue_step_ms", 0) < 0 or clock.get("our_step_ms", 0) > 0  # stamps now look a second late
    assert (errors.max() > 900) == later


def test_a_step_among_ticks_that_are_few_is_believed_at_the_third():
    receive_ns = START_NS + np.arange(60) * SECOND_NS
    exchange_ns = receive_ns - LEAST_NS - np.where(np.arange(60) >= 50, 1000 * MS, 0)
    late = receive_ns - correct(exchange_ns, receive_ns) > 0
    assert np.flatnonzero(late).tolist() == [50, 51]


def differing_ms(ticks, changed):
    """Return how far a change of the link moved event times at most, among ticks whose stamp is the same in both."""
    plain, now = (correct(t.exchange_ns, t.receive_ns) for t in (ticks, changed))
    return np.abs(now - plain)[ticks.exchange_ns == changed.exchange_ns].max() / MS


@pytest.mark.parametrize("rate", [3, 50, 1000])
def test_a_stall_and_its_burst_do_not_move_it(rate):
    ticks = link(rate=rate, seconds=30)
    left_ms = 900 - (at_s(ticks) - 14) * 1000
    assert differing_ms(ticks, ticks.slow(14, 14 + STALL_NS / SECOND_NS, left_ms)) < 2


@pytest.mark.parametrize("drained_in_s", [0.2, 1.0, 5.0])
def test_a_stall_that_is_made_up_for_slowly_is_no_stepped_clock(drained_in_s):
    ticks = link(seconds=30, rate=200)
    left_ms = 900 * (1 - (at_s(ticks) - 14) / (0.9 + drained_in_s))
    assert differing_ms(ticks, ticks.slow(14, 14.9 + drained_in_s, left_ms)) < 2


def test_a_link_that_is_slow_for_longer_is_no_stepped_clock():
    ticks = link(seconds=30)
    assert differing_ms(ticks, ticks.slow(14, 19, 200)) < 2


@pytest.mark.parametrize("swells_s", [0.3, 1.0])
def test_a_queue_that_swells_and_stays_full_for_seconds_is_no_stepped_clock(swells_s):
    ticks = link(seconds=30, rate=200)
    corners_s = 14 + np.array([0, swells_s, swells_s + 3, 2 * swells_s + 3])
    queue_ms = np.interp(at_s(ticks), corners_s, [0, 600, 600, 0])
    assert differing_ms(ticks, ticks.slow(14, corners_s[-1], queue_ms)) < 2


def test_a_clock_that_is_set_while_the_link_stands_still_is_followed_too():
    ticks = link(rate=100, our_step_ms=1000, step_s=60, stall_every_s=7)  # a stall lasts from 59.14 s to 60.04 s
    assert np.abs(errors_ms(ticks))[at_s(ticks) > 61.6].max() < 3


def test_where_no_tick_comes_near_the_line_for_seconds_the_line_gives_way():
    ticks = link(seconds=30, rate=200)
    rising_ms = 400 + (at_s(ticks) - 14) * 200  # as on a link that is ever further behind: never level
    slow = ticks.slow(14, 30, rising_ms)
    error = np.abs(errors_ms(slow))
    before, after = (error[(at_s(slow) > a) & (at_s(slow) < b)] for a, b in ((13, 19.4), (19.7, 20)))
    assert before.max() < 1
    assert after.min() > 500


@pytest.mark.parametrize("ahead_ms", [40, 1000, 3_600_000])
@pytest.mark.parametrize("rows", [1, 20], ids=["one tick", "a message of 20"])
def test_stamps_from_the_future_move_only_themselves(ahead_ms, rows):
    ticks = link(seconds=30, rate=100)
    receive_ns, exchange_ns = ticks.receive_ns.copy(), ticks.exchange_ns.copy()
    for stamps in (receive_ns, exchange_ns):
        stamps[1500 : 1500 + rows] = stamps[1500]
    same = Link(ticks.true_ns, exchange_ns.copy(), receive_ns)
    exchange_ns[1500 : 1500 + rows] += ahead_ms * MS
    wrong = Link(ticks.true_ns, exchange_ns, receive_ns)
    assert differing_ms(same, wrong) < 0.5
    assert correct(exchange_ns, receive_ns)[1500] == receive_ns[1500]


@pytest.mark.parametrize("off_ms", [-2000, 2000])
@pytest.mark.parametrize("every", [20, 500])
def test_a_stream_whose_stamps_are_off_for_good_moves_only_itself(off_ms, every):
    ticks = link(seconds=60, rate=100)
    off = (np.arange(6000) % every == 0) & (at_s(ticks) > 15)
    wrong = Link(ticks.true_ns, ticks.exchange_ns + np.where(off, off_ms * MS, 0), ticks.receive_ns)
    assert differing_ms(ticks, wrong) < 1


def test_wrong_stamps_now_and_then_prove_nothing_also_in_batches_of_their_own():
    ticks = link(seconds=20, rate=50)
    exchange_ns = ticks.exchange_ns - np.where(np.arange(1000) % 60 == 59, 2000 * MS, 0)
    event_ns = correct(exchange_ns, ticks.receive_ns, cuts=[row for k in range(59, 1000, 60) for row in (k, k + 1)])
    assert event_ns.tolist() == correct(exchange_ns, ticks.receive_ns).tolist()


def test_a_start_on_a_stalled_link_or_with_a_wrong_stamp_is_made_good():
    ticks = link(seconds=40, rate=100)
    for first_ms in (-5000, 900):
        exchange_ns = ticks.exchange_ns.copy()
        exchange_ns[:10] -= first_ms * MS
        error = np.abs(errors_ms(Link(ticks.true_ns, exchange_ns, ticks.receive_ns)))
        assert error[at_s(ticks) > 0.7].max() < 3


def test_after_a_long_silence_what_was_before_is_forgotten():
    ticks = link(seconds=60)
    for silence_ns, forgotten in ((WINDOW_NS // 2, False), (2 * WINDOW_NS, True)):
        gap_ns = np.where(np.arange(3000) >= 1500, silence_ns, 0)
        slewed_ns = gap_ns - np.where(gap_ns, 150 * MS, 0)
        later = Link(ticks.true_ns + gap_ns, ticks.exchange_ns + slewed_ns, ticks.receive_ns + gap_ns)
        errors = np.abs(errors_ms(later))[1600:]
        assert errors.max() < 3 if forgotten else errors.min() > 90


@given(
    st.lists(st.tuples(st.integers(0, 3 * 10**9), st.integers(-(10**10), 10**10), st.booleans()), min_size=1),
    st.sets(st.integers(0, 40)),
)
def test_never_after_receipt_and_the_same_in_any_batches(rows, cuts):
    receive_ns = START_NS + np.cumsum([gap for gap, _, _ in rows])
    exchange_ns = receive_ns + np.array([off for _, off, _ in rows])
    stamped = np.array([flag for _, _, flag in rows])
    whole = correct(exchange_ns, receive_ns, stamped=stamped)
    assert (whole <= receive_ns).all()
    assert (whole[~stamped] == receive_ns[~stamped]).all()
    split = correct(exchange_ns, receive_ns, cuts=[c for c in cuts if c < len(rows)], stamped=stamped)
    assert split.tolist() == whole.tolist()


TROUBLED = link(rate=60, seconds=40, ppm=100, venue_step_ms=-700, step_s=20, stall_every_s=6, spikes_ms=30)


@given(st.sets(st.integers(1, 2399), max_size=60), st.integers(0, 2399), st.integers(0, 2**32 - 1))
def test_batches_and_restarts_change_nothing_on_a_troubled_link(cuts, restart, seed):
    rng = np.random.default_rng(seed)
    exchange_ns = TROUBLED.exchange_ns + np.where(rng.random(2400) < 0.02, rng.integers(-3000, 3000, 2400) * MS, 0)
    old = rng.random(2400) < 0.05
    kernel, parts = ClockKernel(), []
    bounds = sorted({0, *cuts, restart, 2400})
    for a, b in pairwise(bounds):
        if a == restart:
            kernel = ClockKernel.restore(pickle.loads(pickle.dumps(kernel.snapshot())))
        parts.append(correct(exchange_ns[a:b], TROUBLED.receive_ns[a:b], kernel, old=old[a:b]))
    whole_kernel = ClockKernel()
    whole = correct(exchange_ns, TROUBLED.receive_ns, whole_kernel, old=old)
    assert np.concatenate(parts).tolist() == whole.tolist()
    assert kernel.snapshot() == whole_kernel.snapshot()


def test_its_state_is_small():
    ticks = link(rate=20, seconds=600, stall_every_s=5)
    kernel = ClockKernel()
    correct(ticks.exchange_ns, ticks.receive_ns, kernel)
    assert len(kernel.snapshot()[1]) == WINDOW_BUCKETS
    assert len(pickle.dumps(kernel.snapshot())) < 2_000


def test_history_teaches_nothing_and_keeps_its_own_time():
    ticks = link(seconds=12, skew_ms=50)
    old_ns = ticks.receive_ns[0] - np.array([60_000, 30_000, 700]) * MS
    exchange_ns = np.concatenate((old_ns, ticks.exchange_ns))
    receive_ns = np.concatenate((np.full(3, ticks.receive_ns[0]), ticks.receive_ns))
    kernel = ClockKernel()
    event_ns = correct(exchange_ns, receive_ns, kernel, old=np.arange(len(receive_ns)) < 3)
    assert event_ns[:3].tolist() == old_ns.tolist()
    assert event_ns[3:].tolist() == correct(ticks.exchange_ns, ticks.receive_ns).tolist()
    before = kernel.snapshot()
    more = correct(old_ns[:1], ticks.receive_ns[-1:], kernel, old=np.ones(1, bool))
    assert more.tolist() == [old_ns[0] + kernel.offset_ns]
    assert kernel.snapshot() == before


def test_without_any_stamp_there_is_no_offset():
    kernel = ClockKernel()
    receive_ns = np.array([START_NS, START_NS + 1])
    assert kernel.correct(np.zeros(2, np.int64), receive_ns, np.zeros(2, bool)).tolist() == receive_ns.tolist()
    assert (kernel.offset_ns, kernel.error_ns, kernel.drift) == (0, 0, 0.0)
    assert ClockKernel.restore(kernel.snapshot()).snapshot() == kernel.snapshot()


@given(st.lists(st.tuples(st.integers(1, 10**9), st.integers(0, 50_000)), min_size=2, max_size=12))
def test_the_line_is_the_closest_one_below_all_points(points):
    at_ns = START_NS + np.cumsum([gap for gap, _ in points])
    delay = np.array([height for _, height in points]) - 5 * SECOND_NS
    line = lower_line(at_ns, delay)
    assert abs(line.slope) <= DRIFT
    assert (line.over(at_ns) <= delay + 2).all()
    slopes = [(delay[b] - delay[a]) / (at_ns[b] - at_ns[a]) for a in range(len(points)) for b in range(a)]
    sums = []
    for slope in (s for s in (*slopes, -DRIFT, DRIFT) if abs(s) <= DRIFT):
        rest = delay - slope * (at_ns - at_ns[-1])
        sums.append((rest - rest.min()).sum())
    assert (delay - line.over(at_ns)).sum() <= min(sums) + 3 * len(points)
