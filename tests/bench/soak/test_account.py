import polars as pl
import pytest

from bench.soak.account import SLACK_NS, account, read_archive, read_ledger, suspects

LEDGER = "venue,symbol,trade_id,price,size,fills,sent,stamp_ns\n"
NO_GAPS = pl.DataFrame(schema={"venue": pl.String, "symbol": pl.String, "from_ns": pl.Int64, "to_ns": pl.Int64})


def ledger(tmp_path, *rows, down=()):
    path = tmp_path / "trades.csv"
    path.write_text(LEDGER + "".join(f"okx,A-B,{row}\n" for row in rows))
    return read_ledger(path, down)


def archive(tmp_path, *trades):
    """Return what is read of an archive with some (id, size) of okx A-B, and a quote."""
    rows = [("okx", "A-B", "trade", str(number), size) for number, size in trades]
    schema = ("venue", "symbol", "kind", "trade_id", "size")
    pl.DataFrame([*rows, ("okx", "A-B", "quote", None, None)], schema, orient="row").write_parquet(
        tmp_path / "a.parquet"
    )
    return read_archive(tmp_path)


def test_all_there_is_balanced(tmp_path):
    made = ledger(tmp_path, "7,1.5,2.0,1,1,100", "8,1.5,0.5,1,0,200")
    books = account(made, archive(tmp_path, (7, 2.0), (8, 0.5), (3, 9.0)), NO_GAPS)
    assert (books.made, books.whole, books.in_gaps, books.unasked) == (2, 2, 0, 1)
    assert books.is_balanced


@pytest.mark.parametrize("arrived", [[(9, 3.0)], [(7, 1.0), (8, 0.5), (9, 1.5)]])
def test_joined_fills_may_come_one_by_one(tmp_path, arrived):
    books = account(ledger(tmp_path, "9,1.5,3.0,3,1,100"), archive(tmp_path, *arrived), NO_GAPS)
    assert books.is_balanced
    assert (books.whole, books.unasked) == (1, 0)


def test_what_is_not_there_is_missing_unless_a_gap_says_so(tmp_path):
    second = 1_000_000_000
    made = ledger(tmp_path, f"7,1,2.0,1,1,{10 * second}", f"8,1,1.0,1,0,{20 * second}", f"12,1,3.0,3,1,{30 * second}")
    gaps = pl.DataFrame(
        {"venue": ["okx"], "symbol": ["A-B"], "from_ns": [19 * second], "to_ns": [20 * second - SLACK_NS]}
    )
    books = account(made, archive(tmp_path, (12, 1.0)), gaps)
    assert (books.whole, books.in_gaps) == (0, 1)
    assert books.missing["trade_id"].to_list() == [7, 12]  # of the joined fills only one came
    assert not books.is_balanced


def test_what_is_there_twice_or_joined_and_single_is_doubled(tmp_path):
    made = ledger(tmp_path, "7,1,2.0,1,1,100", "12,1,3.0,3,1,300")
    books = account(made, archive(tmp_path, (7, 2.0), (7, 2.0), (11, 1.0), (12, 3.0)), NO_GAPS)
    assert books.missing.is_empty()
    assert books.doubled["trade_id"].to_list() == [7, 12]
    assert not books.is_balanced


def test_what_nobody_wanted_is_owed_only_while_the_flow_was_down(tmp_path):
    rows = ("7,1,2.0,1,-1,100", "8,1,2.0,1,-1,200", "9,1,2.0,1,0,300", "10,1,2.0,1,-1,400")
    assert ledger(tmp_path, *rows)["trade_id"].to_list() == [9]
    assert ledger(tmp_path, *rows, down=[(150, 250), (390, 410)])["trade_id"].to_list() == [8, 9, 10]


def test_a_line_cut_by_a_kill_is_left_out(tmp_path):
    path = tmp_path / "trades.csv"
    path.write_text(f"{LEDGER}okx,A-B,7,1.5,2.0,1,1,100\nokx,A-B,8,1.5")
    assert read_ledger(path)["trade_id"].to_list() == [7]


def test_missing_trades_are_counted_by_the_fault_before_them():
    faults = pl.DataFrame(
        {"venue": ["okx", "okx", "bybit"], "fault": ["drop", "stall", "close"], "at_ns": [1_000, 9_000, 9_500]}
    )
    missing = pl.DataFrame(
        {
            "venue": ["okx"] * 3,
            "symbol": ["A-B"] * 3,
            "trade_id": [1, 2, 3],
            "sent": [1, 0, 0],
            "stamp_ns": [500, 2_000, 2_500],
        }
    )
    found = suspects(missing, faults)
    assert found.select("fault", "trades", "sent").rows() == [(None, 1, 1), ("drop", 2, 0)]
    assert found["trade_id"].to_list() == [[1], [2, 3]]
