from collections import Counter

import polars as pl
import pytest

from bench.soak.account import Account
from bench.soak.report import Course, of_account, of_run

MISSING = {"venue": pl.String, "symbol": pl.String, "trade_id": pl.Int64, "sent": pl.Int64, "stamp_ns": pl.Int64}


def course():
    made = Course()
    for hour in range(11):
        made.add(3600.0 * hour, {"dataflow": 2.0 * hour}, {"dataflow": 100.0 + 5.0 * hour}, 1_000_000 * hour)
    return made


def test_memory_s_slope_is_by_the_hour_and_without_the_warm_up():
    made = course()
    made.rss_mb[0] = {"dataflow": 10.0}
    assert made.memory("dataflow") == pytest.approx((10.0, 110.0, 150.0, 5.0))


def test_cpu_is_by_the_message():
    assert course().cpu_us("dataflow") == pytest.approx(2.0)
    assert course().cpu_us("nothing") == 0.0


def test_a_run_s_figures_are_told_by_venue_and_kind():
    counts = {"okx": Counter(messages=7, gaps=3), "kraken": Counter(messages=5, gaps=1, rejects=2)}
    text = of_run(course(), counts, Counter(drop=2, stall=1), 3, 1)
    assert "faults: 3: 2 drop, 1 stall" in text
    assert "holes: 4 found; rows in gaps: 3 filled, 1 not" in text
    assert "12 messages" in text


def test_what_is_wrong_is_named():
    doubled = pl.DataFrame({"venue": ["okx"], "symbol": ["A-B"], "trade_id": [9]})
    books = Account(5, 3, 1, pl.DataFrame([("okx", "A-B", 7, 1, 5)], MISSING, orient="row"), doubled, 0)
    suspected = pl.DataFrame(
        {
            "venue": ["okx"],
            "fault": ["drop"],
            "at_ns": [1],
            "trades": [1],
            "symbol": [["A-B"]],
            "trade_id": [[7]],
            "sent": [1],
        }
    )
    text = of_account(books, suspected)
    assert "missing 1, doubled 1" in text
    assert "MISSING okx: 1 trades (1 sent) after drop at 00:00:00: A-B: 7" in text
    assert "DOUBLED okx A-B 9" in text
