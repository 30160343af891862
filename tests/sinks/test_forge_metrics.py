"""Counters of a worker's forges: every trade in one bucket, however it is batched; no latencies in a replay."""

import numpy as np
import pytest

from market.records import ReleasedTrades
from sinks.forge_metrics import BUCKETS_MS, ForgeMetrics

MS = 1_000_000
NOW_NS = 1_790_000_000_000_000_000


def trades(*late_ms, verdicts=(0, 0, 0), readmitted=0):
    due_ns = NOW_NS - np.array([round(ms * MS) for ms in late_ms], np.int64)
    return ReleasedTrades(due_ns, np.array(verdicts, np.int64), readmitted)


def counts(metrics):
    fields = metrics.fields(NOW_NS)
    return {name.removeprefix("le_"): value for name, value in fields.items() if name.startswith("le_")}


def test_a_bucket_holds_what_is_at_most_its_bound():
    metrics = ForgeMetrics(0, 1, live=True)
    metrics.add(trades(0, 1, 1.000001, 5, 19.9, 999, 1000, 1001), NOW_NS)
    assert counts(metrics) == {
        "0.001": 2, "0.002": 3, "0.005": 4, "0.008": 4, "0.01": 4, "0.015": 4, "0.02": 5, "0.03": 5, "0.05": 5,
        "0.1": 5, "0.2": 5, "0.5": 5, "1": 7, "inf": 8,
    }  # fmt: skip
    assert metrics.fields(NOW_NS)["sum_ns"] == round((0 + 1 + 1.000001 + 5 + 19.9 + 999 + 1000 + 1001) * MS)


def test_counts_do_not_depend_on_batches_and_only_rise():
    rng = np.random.default_rng(3)
    late_ms = rng.exponential(30, 500)
    whole, parts = ForgeMetrics(0, 1, live=True), ForgeMetrics(0, 1, live=True)
    whole.add(trades(*late_ms), NOW_NS)
    before = counts(parts)
    for part in np.array_split(late_ms, 7):
        parts.add(trades(*part), NOW_NS)
        assert all(counts(parts)[bound] >= count for bound, count in before.items())
        before = counts(parts)
    assert counts(parts) == counts(whole)
    expected = [int((np.round(late_ms * MS) <= ms * MS).sum()) for ms in BUCKETS_MS]
    assert list(counts(whole).values()) == [*expected, 500]


def test_what_comes_before_its_time_counts_as_at_once():
    metrics = ForgeMetrics(0, 1, live=True)
    metrics.add(trades(-5), NOW_NS)
    assert counts(metrics)["0.001"] == 1
    assert metrics.fields(NOW_NS)["sum_ns"] == 0


@pytest.mark.parametrize("live", [True, False])
def test_verdicts_are_counted_always_latencies_only_where_receipt_is_now(live):
    metrics = ForgeMetrics(2, 3, live=live)
    metrics.add(trades(4, 5, 6, verdicts=(1, 0, 2)), NOW_NS)
    metrics.add(trades(verdicts=(0, 0, 0), readmitted=2), NOW_NS)
    fields = metrics.fields(NOW_NS)
    expected = {"worker": 2, "workers": 3, "time_ns": NOW_NS, "confirmed": 1, "wick": 0, "unverified": 2}
    assert {name: value for name, value in fields.items() if name in expected} == expected
    assert fields["readmitted"] == 2
    assert ("sum_ns" in fields) == bool(counts(metrics)) == live
