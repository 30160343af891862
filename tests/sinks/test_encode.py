import contextlib
import math

import msgspec
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as npst

from market.records import CANDLE, LetGo, StudyBatch, WickBatch
from market.schema import Gap
from sinks.encode import HOT_ROWS, encode, encode_forge, encode_gap, encode_hot, encode_venues, unpack
from tests.sinks.made import NAMES, OPEN_NS, correlation, hot, status, studies, wick

CODES = {name: code for code, name in enumerate(NAMES)}


def test_a_candle_keeps_every_field_under_its_name():
    batch = studies(9)
    message = unpack(encode(batch, NAMES))
    assert message.kind == "candles"
    rows = message.rows()
    assert len(rows) == 9
    for row, candle in zip(rows, batch.candles, strict=True):
        assert row.pop("symbol") == NAMES[candle["symbol"]]
        assert row.pop("interval") == "1m"
        assert row == {name: candle[name] for name in CANDLE.names if name not in ("symbol", "interval_s", "as_of_ns")}
    columns = message.study_columns()
    assert columns["macd"][:4] == [None] * 4
    assert columns["rsi_14"] == batch.studies["rsi_14"].tolist()


@settings(max_examples=30, deadline=None)
@given(
    npst.arrays(np.float64, st.integers(0, 20)), st.lists(st.integers(-(2**63), 2**63 - 1), min_size=20, max_size=20)
)
def test_numbers_come_back_bit_by_bit(floats, stamps):
    candles = np.zeros(len(floats), CANDLE)
    candles["close"] = floats
    candles["open_ns"] = stamps[: len(floats)]
    columns = unpack(encode(StudyBatch(candles, {"rsi_14": floats}), NAMES)).columns()
    assert np.array(columns["close"], np.float64).tobytes() == floats.tobytes() or np.isnan(floats).any()
    assert np.array_equal(np.array(columns["close"], np.float64), floats, equal_nan=True)
    assert columns["open_ns"] == stamps[: len(floats)]


def test_a_wick_carries_its_evidence():
    found = unpack(encode(WickBatch([wick(1), wick(2, readmitted_ns=5, side=0)]), NAMES)).rows()
    assert [row["trade_id"] for row in found] == ["t-1", "t-2"]
    assert [row["side"] for row in found] == ["sell", ""]
    assert [row["venue"] for row in found] == ["okx", "okx"]
    assert found[1]["readmitted_ns"] == 5
    assert msgspec.json.decode(found[0]["evidence"]) == wick().evidence


def test_a_correlation_becomes_its_known_pairs():
    message = unpack(encode(correlation(), NAMES))
    assert message.texts == {"symbols": list(NAMES[:3]), "interval": ["1m"]}
    columns = message.columns()
    assert list(zip(columns["first"], columns["second"], columns["pearson"], strict=True)) == [
        (0, 1, 0.5),
        (1, 2, -0.25),
    ]


def test_the_symbols_of_a_correlation_are_in_the_order_of_their_names_whatever_their_codes():
    names = ("XRP-USDT", "BTC-USDT", "ETH-USDT")
    message = unpack(encode(correlation(((1.0, 0.5, 0.25), (0.5, 1.0, -0.125), (0.25, -0.125, 1.0))), names))
    symbols, columns = message.texts["symbols"], message.columns()
    pairs = zip(columns["first"], columns["second"], columns["pearson"], strict=True)
    assert {(symbols[a], symbols[b]): pearson for a, b, pearson in pairs} == {
        ("BTC-USDT", "ETH-USDT"): -0.125,
        ("BTC-USDT", "XRP-USDT"): 0.5,
        ("ETH-USDT", "XRP-USDT"): 0.25,
    }


def test_symbols_that_are_let_go_are_named():
    message = unpack(encode(LetGo([2, 0], "ind"), NAMES))
    assert message.kind == "let_go"
    assert message.rows() == [{"symbol": "SOL-USDT", "of": "ind"}, {"symbol": "BTC-USDT", "of": "ind"}]


def test_newest_state_is_split_below_a_datagram():
    names = [f"VERYLONGBASECURRENCY{code}-LONGQUOTE" for code in range(2 * HOT_ROWS + 1)]
    messages = encode_hot(hot(np.ones(len(names))), names)
    assert len(messages) == 3
    assert max(map(len, messages)) < 1 << 16
    rows = [row for message in messages for row in unpack(message).rows()]
    assert [row["symbol"] for row in rows] == names
    assert {(row["venue"], row["bid_venue"], row["side"], row["verdict"]) for row in rows} == {
        ("binance", "", "buy", "confirmed")
    }
    assert all(math.isnan(row["bid"]) for row in rows)


def test_venues_and_gaps():
    rows = unpack(encode_venues([status(0), status(6, messages=2)])).rows()
    assert [(row["venue"], row["messages"], row["last_reject"]) for row in rows] == [
        ("binance", 1, "bad price"),
        ("kucoin", 2, "bad price"),
    ]
    gap = unpack(encode_gap("okx", "BTC-USDT", OPEN_NS, OPEN_NS + 5, filled=True)).rows()
    assert gap == [{"venue": "okx", "symbol": "BTC-USDT", "from_ns": OPEN_NS, "to_ns": OPEN_NS + 5, "filled": 1}]
    (found,) = unpack(encode(Gap(6, 1, OPEN_NS, OPEN_NS + 5, 3, filled=False), NAMES)).rows()
    assert (found["venue"], found["symbol"], found["filled"]) == ("kucoin", NAMES[1], 0)


def test_counters_of_a_worker_are_one_row():
    assert unpack(encode_forge({"worker": 0, "le_inf": 2**62})).rows() == [{"worker": 0, "le_inf": 2**62}]


def test_anything_else_is_refused():
    with pytest.raises(TypeError, match="int is not a record"):
        encode(3, NAMES)


@given(st.binary(max_size=200))
def test_unpack_raises_nothing_but_value_errors(payload):
    with contextlib.suppress(ValueError):
        unpack(payload)
