import json

import numpy as np
import polars as pl
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from connectors.recorder import Recorder
from connectors.recording import (
    COLUMNS,
    RecordingError,
    check_recording,
    frame_to_ticks,
    import_folder,
    read_folder,
    ticks_to_frame,
)
from market.schema import TRADE, TRADE_ID_BYTES, UNSTAMPED, empty_ticks
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


# folders of raw frames


def okx_trade(number, instrument="BTC-USDT", at_ms=1_790_000_000_000):
    row = {
        "instId": instrument, "tradeId": str(number), "px": "100.5", "sz": "0.25", "side": "buy", "ts": str(at_ms)
    }  # fmt: skip
    return json.dumps({"arg": {"channel": "trades", "instId": instrument}, "data": [row]}).encode()


def bybit_trade(number, at_ms=1_790_000_000_000):
    row = {"T": at_ms, "s": "BTCUSDT", "S": "Sell", "v": "0.5", "p": "101", "i": str(number), "BT": False}
    return json.dumps({"topic": "publicTrade.BTCUSDT", "type": "snapshot", "ts": at_ms, "data": [row]}).encode()


def test_recorded_frames_become_ticks_of_all_venues_in_receive_order(tmp_path):
    for name, frames, times in (
        ("okx", [okx_trade(1), okx_trade(2, "ETH-USDT"), okx_trade(3)], [10, 30, 30]),
        ("bybit", [bybit_trade(7), bybit_trade(8)], [20, 30]),
    ):
        recorder = Recorder(tmp_path / name)
        recorder.write(frames, START_NS + np.array(times))
        recorder.close()
    (tmp_path / "notes").mkdir()
    (tmp_path / "okx" / "readme.txt").write_text("not frames")
    found = read_folder(tmp_path)
    names = [found.names[code] for code in found.ticks["symbol"]]
    assert (found.ticks["receive_ns"] - START_NS).tolist() == [10, 20, 30, 30, 30]
    assert found.ticks["trade_id"].tolist() == [b"1", b"7", b"2", b"3", b"8"]
    assert names == ["BTC-USDT", "BTC-USDT", "ETH-USDT", "BTC-USDT", "BTC-USDT"]
    assert dict(found.frames) == {"okx": 3, "bybit": 2}
    assert not found.rejects


def test_bare_frames_count_as_received_when_the_venue_sent_them(tmp_path):
    (tmp_path / "okx").mkdir()
    stamps = [1_790_000_000_500, 1_790_000_000_400, 1_790_000_000_600]
    lines = [okx_trade(number, at_ms=at_ms) for number, at_ms in enumerate(stamps)]
    (tmp_path / "okx" / "frames.jsonl").write_bytes(b"\n".join([lines[0], b"", b"pong", *lines[1:]]))
    found = read_folder(tmp_path)
    assert found.ticks["trade_id"].tolist() == [b"0", b"1", b"2"]
    assert (found.ticks["receive_ns"] // 1_000_000).tolist() == [stamps[0], stamps[0], stamps[2]]


def test_a_torn_last_line_is_a_reject(tmp_path):
    recorder = Recorder(tmp_path / "okx")
    recorder.write([okx_trade(1), okx_trade(2)], START_NS + np.array([1, 2]))
    recorder.close()
    path = tmp_path / "okx" / f"{START_NS + 1}.jsonl"
    path.write_bytes(path.read_bytes()[:-30])
    found = read_folder(tmp_path)
    assert found.ticks["trade_id"].tolist() == [b"1"]
    assert sum(found.rejects.values()) == 1
    assert all(venue == "okx" for venue, _ in found.rejects)


def test_files_follow_each_other_by_name_and_time_never_goes_back(tmp_path):
    for start, times in ((START_NS, [0, 50]), (START_NS + 40, [40, 60])):
        recorder = Recorder(tmp_path / "okx")
        recorder.write([okx_trade(start + number) for number in range(2)], np.array(times) + START_NS)
        recorder.close()
    assert (read_folder(tmp_path).ticks["receive_ns"] - START_NS).tolist() == [0, 50, 50, 60]


def test_a_folder_without_venues_or_none_at_all_is_one_line(tmp_path):
    with pytest.raises(RecordingError, match="holds no <venue>/"):
        read_folder(tmp_path)
    (tmp_path / "okx").mkdir()
    with pytest.raises(RecordingError, match="holds no <venue>/"):
        read_folder(tmp_path)
    with pytest.raises(RecordingError, match="no folder"):
        read_folder(tmp_path / "missing")


def test_an_imported_folder_is_a_recording(tmp_path):
    recorder = Recorder(tmp_path / "raw" / "okx")
    recorder.write([okx_trade(number, f"C{number % 3}-USDT") for number in range(30)], START_NS + np.arange(30))
    recorder.close()
    path, found = import_folder(tmp_path / "raw", tmp_path / "into" / "here")
    assert check_recording(path) == (["okx"], ["C0-USDT", "C1-USDT", "C2-USDT"], 30)
    codes = {name: code for code, name in enumerate(found.names)}
    assert frame_to_ticks(pl.read_parquet(path), codes)[0].tobytes() == found.ticks.tobytes()


def test_a_folder_of_which_nothing_can_be_read_is_an_empty_recording(tmp_path):
    (tmp_path / "raw" / "okx").mkdir(parents=True)
    (tmp_path / "raw" / "okx" / "x.jsonl").write_text("nothing\nof use\n")
    path, found = import_folder(tmp_path / "raw", tmp_path)
    assert check_recording(path) == ([], [], 0)
    assert sum(found.rejects.values()) == 2
    assert frame_to_ticks(pl.read_parquet(path), {})[0].dtype == empty_ticks().dtype
