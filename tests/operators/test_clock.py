"""The clock of one venue: its offset from the lower envelope, whatever the link does and however rows are batched."""

from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from operators.clock import BUCKET_NS, STEP_BUCKETS, ClockKernel

MS = 1_000_000
START_NS = 1_790_000_000 * 1_000_000_000


def link(seconds=12.0, rate=50.0, skew_ms=0.0, seed=1):
    """Return true event times, stamps and receipts of a venue whose clock is ahead by `skew_ms`, 5 ms away at least."""
    rng = np.random.default_rng(seed)
    count = int(seconds * rate)
    true_ns = START_NS + np.sort(rng.integers(0, int(seconds * 1e9), count))
    receive_ns = np.maximum.accumulate(true_ns + 5 * MS + rng.exponential(3 * MS, count).astype(np.int64))
    return true_ns, true_ns + int(skew_ms * MS), receive_ns


def correct(exchange_ns, receive_ns, kernel=None, cuts=(), stamped=None):
    kernel = kernel or ClockKernel()
    stamped = np.ones(len(receive_ns), bool) if stamped is None else stamped
    bounds = [0, *sorted(cuts), len(receive_ns)]
    parts = [kernel.correct(exchange_ns[a:b], receive_ns[a:b], stamped[a:b]) for a, b in pairwise(bounds)]
    return np.concatenate(parts)


@pytest.mark.parametrize("skew_ms", [-5000.0, -80.0, 0.0, 310.0, 5000.0])
def test_a_constant_skew_is_recovered_to_within_the_least_delay(skew_ms):
    true_ns, exchange_ns, receive_ns = link(skew_ms=skew_ms)
    kernel = ClockKernel()
    event_ns = correct(exchange_ns, receive_ns, kernel)
    assert (event_ns <= receive_ns).all()
    off = (event_ns - true_ns)[100:]
    assert (off >= 5 * MS).all()
    assert (off < 6 * MS).all()
    assert kernel.offset_ns == pytest.approx(5 * MS - skew_ms * MS, abs=0.5 * MS)
    assert 0 <= kernel.error_ns < 2 * MS


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


@given(st.integers(0, 600))
def test_a_restored_kernel_goes_on_as_if_nothing_had_happened(cut):
    _, exchange_ns, receive_ns = link(skew_ms=120)
    kernel = ClockKernel()
    first = correct(exchange_ns[:cut], receive_ns[:cut], kernel) if cut else np.zeros(0, np.int64)
    rest = correct(exchange_ns[cut:], receive_ns[cut:], ClockKernel.restore(kernel.snapshot()))
    assert np.concatenate((first, rest)).tolist() == correct(exchange_ns, receive_ns).tolist()


def test_a_stall_and_its_burst_do_not_move_it():
    _, exchange_ns, receive_ns = link()
    stall_ns = START_NS + 6_000 * MS
    stalled = (receive_ns >= stall_ns) & (receive_ns < stall_ns + 900 * MS)
    late_ns = np.where(stalled, stall_ns + 900 * MS, receive_ns)
    assert stalled.sum() > 20
    plain, burst = correct(exchange_ns, receive_ns), correct(exchange_ns, late_ns)
    assert np.abs(burst - plain).max() < 1 * MS


def test_a_link_that_is_slow_for_longer_is_no_stepped_clock():
    _, exchange_ns, receive_ns = link(seconds=20)
    slow = (receive_ns > START_NS + 8 * 10**9) & (receive_ns < START_NS + 13 * 10**9)
    later_ns = np.maximum.accumulate(receive_ns + slow * 200 * MS)
    assert np.abs(correct(exchange_ns, later_ns) - correct(exchange_ns, receive_ns)).max() < 1 * MS


@pytest.mark.parametrize("step_ms", [-1000, 1000])
def test_a_step_of_either_clock_is_followed_within_a_few_buckets(step_ms):
    true_ns, exchange_ns, receive_ns = link(seconds=15)
    at_ns = START_NS + 6 * 10**9
    exchange_ns = exchange_ns + np.where(true_ns > at_ns, step_ms * MS, 0)
    event_ns = correct(exchange_ns, receive_ns)
    settled = receive_ns > at_ns + (STEP_BUCKETS + 1.1) * BUCKET_NS
    assert (event_ns <= receive_ns).all()
    assert np.abs(event_ns - true_ns)[settled].max() < 8 * MS


def test_drift_is_followed():
    true_ns, exchange_ns, receive_ns = link(seconds=120, rate=20)
    exchange_ns = exchange_ns - ((true_ns - START_NS) * 100 // 1_000_000)  # 100 ppm slow
    off = np.abs(correct(exchange_ns, receive_ns) - true_ns)[60:]
    assert off.max() < (5 + 1 + 3.2) * MS


def test_history_teaches_nothing_and_keeps_its_own_time():
    true_ns, exchange_ns, receive_ns = link(skew_ms=50)
    shown_ns = np.full(3, receive_ns[0])
    old_ns = receive_ns[0] - np.array([60_000, 30_000, 700]) * MS
    exchange = np.concatenate((old_ns, exchange_ns))
    receive = np.concatenate((shown_ns, receive_ns))
    old = np.arange(len(receive)) < 3
    event_ns = ClockKernel().correct(exchange, receive, np.ones(len(receive), bool), old)
    assert event_ns[:3].tolist() == old_ns.tolist()
    assert event_ns[3:].tolist() == correct(exchange_ns, receive_ns).tolist()
    kernel = ClockKernel()
    correct(exchange_ns, receive_ns, kernel)
    more = kernel.correct(true_ns[-1:] - 60_000 * MS, receive_ns[-1:], np.ones(1, bool), np.ones(1, bool))
    assert more.tolist() == [true_ns[-1] - 60_000 * MS + kernel.offset_ns]


def test_without_any_stamp_there_is_no_offset():
    kernel = ClockKernel()
    receive_ns = np.array([START_NS, START_NS + 1])
    assert kernel.correct(np.zeros(2, np.int64), receive_ns, np.zeros(2, bool)).tolist() == receive_ns.tolist()
    assert (kernel.offset_ns, kernel.error_ns) == (0, 0)
