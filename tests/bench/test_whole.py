"""The whole-run bench on the real simulator (a stand-in for live venues), for a moment."""

from math import inf

import pytest

from bench.whole import Measured, Run


@pytest.mark.parametrize(("share", "late_ms"), [(0.05, 0.5), (0.1, 1.0), (0.5, 7.5), (0.7, 10.0), (0.99, inf)])
def test_a_share_of_trades_by_a_straight_line_within_a_bucket(share, late_ms):
    late = {0.001: 10, 0.005: 30, 0.01: 70, inf: 100}
    assert Measured(1.0, {}, {}, late).late_ms(share) == pytest.approx(late_ms)


def test_without_trades_nothing_is_late():
    assert str(Measured(1.0, {}, {}, {0.001: 0, inf: 0}).late_ms(0.5)) == "nan"


def test_a_run_is_measured_and_balanced():
    with Run(1000, workers=1, symbols=5) as run:
        measured = run.measure(0.5, 2.0)
        sent, got = run.balance()
    assert measured.rate > 100
    assert {"collector", "dataflow", "simulator", "writer"} <= set(measured.cpu_us)
    assert measured.rss_mb["dataflow"] > 10
    assert measured.late[inf] > 0
    assert measured.late_ms(0.5) > 0
    assert got["messages"] >= sent > 0  # answers and heartbeats are messages too
    assert got["rejects"] == got["duplicates"] == 0
