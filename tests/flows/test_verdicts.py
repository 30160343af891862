"""Judgements side by side: what differs, what comes first, and tables that say the same."""

from io import StringIO

import numpy as np
import polars as pl
import pytest
from rich.console import Console

from flows import verdicts
from flows.rejudge import KEY

LABELS = ["window_ms=150", "window_ms=100"]


class Judged:
    """What the tables need of a `Judging`."""

    def __init__(self, first, rows, held_ms):
        self.first = np.array(first, np.int64)
        self.held_ns = int(held_ms * 1e6) * int(self.first.sum())
        self.most_held_ns = self.held_ns
        self._rows = rows

    def not_confirmed(self):
        schema = dict(
            zip(KEY, (pl.String, pl.String, pl.String, pl.Int64, pl.Float64, pl.Float64, pl.Int8), strict=True)
        )
        schema |= {"nth": pl.Int64, "event_ns": pl.Int64, "state": pl.String, "reference": pl.Float64}
        return pl.DataFrame(self._rows, {**schema, "deviation_bps": pl.Float64, "why": pl.String}, orient="row")


def row(trade_id, state, bps=None, nth=0, why=None):
    reference = None if bps is None else 100.0
    return ("okx", "A-B", trade_id, 5, 101.0, 2.0, 1, nth, 1_790_000_000_123_000_000, state, reference, bps, why)


@pytest.fixture
def judged():
    first = np.zeros((2, 7, 3), np.int64)
    first[0, 1] = [10, 2, 1]
    first[1, 0] = [5, 0, 0]
    other = first.copy()
    other[0, 1] = [11, 1, 1]
    rows = [row("1", "wick", 90.0, why="one"), row("2", "wick", -300.0, why="two"), row("3", "unverified")]
    others = [row("2", "readmitted", -310.0, why="two again"), row("4", "unverified", 20.0)]
    return [Judged(first, rows, 155.0), Judged(other, others, 105.0)]


def test_what_one_did_not_keep_it_confirmed_and_the_farthest_comes_first(judged):
    found = verdicts.side_by_side(judged, LABELS)
    assert found.select("trade_id", *LABELS, "differs").rows() == [
        ("2", "wick", "readmitted", True),
        ("1", "wick", "confirmed", True),
        ("4", "confirmed", "unverified", True),
        ("3", "unverified", "confirmed", True),
    ]
    assert found.filter(trade_id="2").select("reference", "deviation_bps", "why").rows() == [(100.0, -300.0, "two")]


def test_equal_trades_are_told_apart_by_their_place():
    judged = Judged(np.zeros((1, 7, 3)), [row("", "wick"), row("", "wick", nth=1)], 1)
    fewer = Judged(np.zeros((1, 7, 3)), [row("", "wick")], 1)
    assert verdicts.side_by_side([judged, fewer], LABELS)["differs"].to_list() == [False, True]


def test_nothing_kept_is_a_table_without_rows():
    judged = Judged(np.zeros((1, 7, 3)), [], 1)
    found = verdicts.side_by_side([judged, judged], LABELS)
    assert found.height == 0
    assert found.columns[-1] == "differs"


def shown(*parts):
    out = StringIO()
    Console(file=out, width=200).print(*parts)
    return [[cell.strip() for cell in line.strip("│┃ \n").split("│")] for line in out.getvalue().splitlines()]


def test_a_row_a_setting(judged):
    lines = shown(verdicts.settings_table(judged, LABELS, verdicts.side_by_side(judged, LABELS)))
    assert ["A", LABELS[0], "18", "15", "1", "2", "0", "0", "155.0", "2790.0", "+0.0"] in lines
    assert ["B", LABELS[1], "18", "16", "1", "1", "1", "4", "105.0", "1890.0", "-50.0"] in lines


def test_a_row_a_venue_and_a_symbol_that_traded(judged):
    lines = shown(verdicts.venues_table(judged))
    assert [line for line in lines if len(line) == 4] == [
        ["binance", "5", "0, 0", "0, 0"],
        ["okx", "13", "2, 1", "1, 1"],
    ]
    lines = shown(verdicts.symbols_table(judged, ["A-B", "C-D"]))
    assert [line for line in lines if len(line) == 4] == [["A-B", "13", "2, 1", "1, 1"], ["C-D", "5", "0, 0", "0, 0"]]


def test_the_farthest_trades_that_differ_with_their_evidence(judged):
    found = verdicts.side_by_side(judged, LABELS)
    lines = shown(verdicts.trades_table(found, LABELS, 2))
    assert lines[0][0].split()[-3:] == ["farthest", "of", "4"]
    cells = [line for line in lines if len(line) == 10]
    assert cells[0] == [
        "1", "2026-09-21 14:13:20.123", "okx", "A-B", "buy", "101", "100", "-300.0", "wick", "readmitted"
    ]  # fmt: skip
    assert len(cells) == 2
    assert verdicts.reasons(found, 4) == ["1. two", "2. one"]
