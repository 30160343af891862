"""The whole-run bench on the real simulator (a stand-in for live venues), for a moment."""

from bench.whole import Run


def test_a_run_is_measured_and_balanced():
    with Run(1000, workers=1, symbols=5) as run:
        measured = run.measure(0.5, 2.0)
        sent, got = run.balance()
    assert measured.rate > 100
    assert {"collector", "dataflow", "simulator", "writer"} <= set(measured.cpu_us)
    assert measured.rss_mb["dataflow"] > 10
    assert got["messages"] >= sent > 0  # answers and heartbeats are messages too
    assert got["rejects"] == got["duplicates"] == 0
