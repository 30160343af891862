import numpy as np
import polars as pl
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from connectors import recording as module
from connectors.recording import (
    COLUMNS,
    REPLAY_FLAG,
    RecordingError,
    check_recording,
    columns_of,
    frame_to_ticks,
    scan,
    ticks_to_frame,
)
from market.schema import REPLAYED, TRADE, TRADE_ID_BYTES, UNSTAMPED
from tests.connectors.ticks import NAMES, START_NS, ticks_of

CODES = {name: code for code, name in enumerate(NAMES)}


def frame_of(rows=12, seed=1, **columns):
    """Return a recording with some columns replaced."""
    return ticks_to_frame(ticks_of(rows, seed), NAMES).with_columns(**columns)


def written(folder, table):
    path = folder / "made.parquet"
    table.write_parquet(path)
    return path


# ticks <-> recording


def prices():
    return st.floats(min_value=1e-12, max_value=1e12, allow_nan=False)


@st.composite
def ticks(draw):
    rows = draw(st.integers(0, 20))
    ticks = ticks_of(rows, draw(st.integers(0, 9)))
    for row in np.flatnonzero(ticks["kind"] == TRADE):
        ticks["price"][row], ticks["size"][row] = draw(prices()), draw(prices())
        ticks["trade_id"][row] = draw(st.from_regex(rf"[!-~]{{0,{TRADE_ID_BYTES}}}", fullmatch=True))
    return ticks


@settings(deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(ticks())
def test_ticks_survive_the_way_through_a_recording_exactly(ticks):
    table = ticks_to_frame(ticks, NAMES)
    assert dict(table.schema) == COLUMNS
    back, rejects = frame_to_ticks(table, CODES)
    assert not rejects
    assert back.tobytes() == ticks.tobytes()


def test_and_through_a_file(tmp_path):
    ticks = ticks_of(5_000)
    path = written(tmp_path, ticks_to_frame(ticks, NAMES))
    back, rejects = frame_to_ticks(pl.read_parquet(path), CODES)
    assert not rejects
    assert back.tobytes() == ticks.tobytes()


def test_what_a_kind_does_not_have_is_null():
    ticks = ticks_of(200)
    table = ticks_to_frame(ticks, NAMES)
    trades, quotes = table.filter(kind="trade"), table.filter(kind="quote")
    for column in ("bid", "bid_size", "ask", "ask_size"):
        assert trades[column].null_count() == len(trades)
    for column in ("price", "size", "side", "trade_id"):
        assert quotes[column].null_count() == len(quotes)
    assert table["exchange_ns"].null_count() == int((ticks["flags"] & UNSTAMPED != 0).sum()) > 0
    assert not any(table[column].is_nan().any() for column in ("price", "bid", "ask"))


def test_bad_rows_are_counted_by_reason_and_left_out():
    trade = frame_of(40).filter(kind="trade").head(1)
    quote = frame_of(40).filter(kind="quote").head(1)
    changed = [
        (trade, {}),
        (trade, {"venue": "mtgox"}),
        (trade, {"venue": None}),
        (trade, {"symbol": "ABC-USDT"}),
        (trade, {"symbol": None}),
        (trade, {"kind": "funding"}),
        (trade, {"price": 0.0}),
        (trade, {"price": None}),
        (trade, {"price": float("inf")}),
        (trade, {"size": -1.0}),
        (trade, {"side": 2}),
        (trade, {"trade_id": "9" * (TRADE_ID_BYTES + 1)}),
        (trade, {"trade_id": "caf\u00e9"}),
        (trade, {"receive_ns": None}),
        (quote, {}),
        (quote, {"bid": None, "ask": -1.0}),
    ]
    table = pl.concat(
        row.with_columns(pl.lit(value, COLUMNS[name]).alias(name) for name, value in change.items())
        for row, change in changed
    )
    ticks, rejects = frame_to_ticks(table, CODES)
    assert rejects == {
        "unknown venue": 2,
        "unknown symbol": 2,
        "unknown kind": 1,
        "bad price": 3,
        "bad size": 1,
        "bad side": 1,
        "bad trade id": 2,
        "no receive time": 1,
    }
    assert ticks["kind"].tolist() == [0, 1, 1]
    assert np.isnan(ticks["bid"][2])
    assert np.isnan(ticks["ask"][2])


def test_a_nanosecond_is_kept_beside_a_row_without_receive_time():
    table = frame_of(3, receive_ns=pl.Series([START_NS + 1, None, START_NS + 3]))
    assert frame_to_ticks(table, CODES)[0]["receive_ns"].tolist() == [START_NS + 1, START_NS + 3]


# check_recording


def test_a_good_recording_tells_what_it_holds(tmp_path):
    table = frame_of(500)
    venues, symbols, rows = check_recording(written(tmp_path, table))
    assert venues == ["binance", "okx", "bybit", "kraken", "gateio", "bitget", "kucoin"]
    assert (symbols, rows) == (sorted(NAMES), 500)


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (lambda t: t.drop("side", "bid"), "lacks the columns bid, side"),
        (lambda t: t.with_columns(receive_ns=pl.Series(list(range(len(t)))[::-1])), "not in receive order"),
        (lambda t: t.with_columns(side=pl.lit("buy")), "the column side is String, not Int8"),
        (lambda t: t.with_columns(receive_ns=pl.col("receive_ns").cast(pl.Float64)), "receive_ns is Float64"),
        (lambda t: t.with_columns(venue=pl.lit(3)), "the column venue is Int32, not String"),
    ],
)
def test_a_bad_recording_is_one_line(tmp_path, change, words):
    path = written(tmp_path, change(frame_of(9)))
    with pytest.raises(RecordingError) as caught:
        check_recording(path)
    assert words in str(caught.value)
    assert str(path) in str(caught.value)
    assert "\n" not in str(caught.value)


def test_columns_may_be_wider_narrower_or_empty(tmp_path):
    """Other writers choose other integers, and a file of trades has nothing to put into `bid`."""
    trades = frame_of(90).filter(kind="trade")
    table = trades.with_columns(
        side=pl.col("side").cast(pl.Int64),
        receive_ns=pl.col("receive_ns").cast(pl.UInt64),
        price=pl.col("price").cast(pl.Float32),
        bid=pl.lit(None),
    )
    check_recording(written(tmp_path, table))
    ticks, rejects = frame_to_ticks(table, CODES)
    assert not rejects
    assert len(ticks) == len(trades)


def test_a_missing_file_and_one_that_is_no_parquet_are_one_line(tmp_path):
    with pytest.raises(RecordingError, match=r"^no recording at .*missing\.parquet$"):
        check_recording(tmp_path / "missing.parquet")
    path = tmp_path / "text.parquet"
    for content in (b"", b"hello", b"PAR1 hello PAR1"):
        path.write_bytes(content)
        with pytest.raises(RecordingError, match="not a readable Parquet file") as caught:
            check_recording(path)
        assert "\n" not in str(caught.value)


def test_a_torn_file_is_one_line(tmp_path):
    path = written(tmp_path, frame_of(5_000))
    path.write_bytes(path.read_bytes()[:-100])
    with pytest.raises(RecordingError, match="not a readable Parquet file"):
        check_recording(path)


def test_order_is_checked_across_all_of_a_large_file(tmp_path, monkeypatch):
    monkeypatch.setattr(module, "CHECK_ROWS", 100)
    table = frame_of(1_000)
    assert check_recording(written(tmp_path, table))[2] == 1_000
    times = table["receive_ns"].to_list()
    for place in (99, 100, 101, 999):
        changed = [*times[:place], times[place - 1] - 1, *times[place + 1 :]]
        with pytest.raises(RecordingError, match="not in receive order"):
            check_recording(written(tmp_path, table.with_columns(receive_ns=pl.Series(changed))))


def test_a_folder_of_files_is_a_recording_whatever_its_name_means_elsewhere(tmp_path):
    folder = tmp_path / "a[1]*" / "venue=okx"
    folder.mkdir(parents=True)
    table = frame_of(1_000)
    for number in (10, 2, 1, 0):
        table.slice(number * 90, 90 if number < 10 else None).write_parquet(folder / f"{number:06d}.parquet")
    kept = pl.concat([table.head(270), table.slice(900)])
    assert check_recording(folder)[2] == len(kept)
    assert scan(folder).collect().equals(kept)


# the further column


def test_a_recording_may_say_which_trades_were_repeated(tmp_path):
    ticks = ticks_of(300)
    again = (ticks["kind"] == TRADE) & (np.arange(300) % 3 == 0)
    table = ticks_to_frame(ticks, NAMES).with_columns(pl.Series(REPLAY_FLAG, again))
    path = written(tmp_path, table)
    assert columns_of(path) == [*COLUMNS, REPLAY_FLAG]
    back, _ = frame_to_ticks(scan(path).select(columns_of(path)).collect(), CODES)
    ticks["flags"] |= again * np.uint8(REPLAYED)
    assert back.tobytes() == ticks.tobytes()


@pytest.mark.parametrize("other", [{}, {REPLAY_FLAG: pl.lit("yes")}, {REPLAY_FLAG: pl.lit(7)}])
def test_it_may_be_absent_or_mean_something_else(tmp_path, other):
    assert columns_of(written(tmp_path, frame_of(5).with_columns(**other))) == list(COLUMNS)
