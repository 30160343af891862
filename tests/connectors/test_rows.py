"""Columns, checks and rejects, on a venue made for the purpose."""

from math import inf, nan

import msgspec
import numpy as np
import pytest

from connectors import rows
from connectors.times import from_ms
from connectors.venue import Catalog, Control
from market.schema import BACKFILL, BUY, QUOTE, REPLAYED, SELL, TICK, TRADE, UNSTAMPED


class Message(msgspec.Struct):
    kind: str = ""
    rows: list[list[msgspec.Raw]] = []


def walk(messages, batch):
    trades, quotes = [], []
    for at, message in enumerate(messages):
        values = [tuple(msgspec.json.decode(value) for value in row) for row in message.rows]
        if message.kind == "t":
            trades += [(at, *row) for row in values]
        elif message.kind == "q":
            quotes += [(at, *row) for row in values]
        elif message.kind == "h":
            trades += [(at, *row) for row in values]
            batch.replayed.append(at)
        else:
            batch.others.append(at)
    batch.trades = rows.Trades(*zip(*trades, strict=True))
    batch.quotes = rows.Quotes(*zip(*quotes, strict=True))


def control(frame):
    return Control("pong") if frame == b"pong" else None


READING = rows.Reading(
    "okx", msgspec.json.Decoder(Message), Message(), walk, {"b": BUY, "s": SELL}, from_ms, from_ms, control
)
CATALOG = Catalog({"A-B": "ab", "C-D": "cd"}, {"A-B": 3, "C-D": 4})


def frame(kind, *values):
    return msgspec.json.encode({"kind": kind, "rows": [list(row) for row in values]})


def trade(native="ab", price=1.5, size=2.0, side="b", trade_id="7", time=10):
    return native, price, size, side, trade_id, time


def quote(bid=1.0, bid_size=2.0, ask=3.0, ask_size=4.0, native="ab", time=10):
    return native, bid, bid_size, ask, ask_size, time


def decode(*frames):
    return rows.decode(READING, frames, np.arange(100, 100 + len(frames)), CATALOG)


def test_a_trade_as_a_row():
    (tick,) = decode(frame("t", trade())).ticks
    expected = np.zeros(1, TICK)[0]
    for name, value in {
        "symbol": 3, "venue": 1, "kind": TRADE, "side": BUY, "price": 1.5, "size": 2, "trade_id": b"7",
        "exchange_ns": 10_000_000, "receive_ns": 100, "bid": nan, "bid_size": nan, "ask": nan, "ask_size": nan,
    }.items():  # fmt: skip
        expected[name] = value
    assert tick.tobytes() == expected.tobytes()


def test_a_quote_as_a_row():
    (tick,) = decode(frame("q", quote(native="cd", time=0))).ticks
    assert (tick["kind"], tick["symbol"], tick["flags"], tick["exchange_ns"]) == (QUOTE, 4, UNSTAMPED, 0)
    assert [tick[name] for name in ("bid", "bid_size", "ask", "ask_size")] == [1, 2, 3, 4]
    assert np.isnan(tick["price"])
    assert tick["trade_id"] == b""


def test_rows_come_in_frame_order_whatever_their_kind():
    frames = [frame("q", quote()), frame("t", trade(), trade(side="s")), b"pong", b"{", frame("q", quote()), b"{}"]
    decoded = decode(*frames, frame("t", trade()))
    assert decoded.ticks["receive_ns"].tolist() == [100, 101, 101, 104, 106]
    assert decoded.ticks["kind"].tolist() == [QUOTE, TRADE, TRADE, QUOTE, TRADE]
    assert decoded.ticks["side"].tolist() == [0, BUY, SELL, 0, BUY]
    assert decoded.control == [b"pong"]
    assert [(r.receive_ns, r.reason) for r in decoded.rejects] == [(103, "malformed"), (105, "unknown channel")]


def test_as_many_rows_as_frames_but_not_one_each():
    decoded = decode(frame("t", trade(), trade()), b"pong", frame("t", trade()))
    assert decoded.ticks["receive_ns"].tolist() == [100, 100, 102]
    decoded = decode(frame("t", trade(), trade()), frame("q", quote()))
    assert decoded.ticks["receive_ns"].tolist() == [100, 100, 101]


@pytest.mark.parametrize(
    ("row", "reason"),
    [
        (trade(native="xy"), "unknown symbol"),
        (trade(price=0.0), "bad price"),
        (trade(price=-1.0), "bad price"),
        (trade(price=None), "bad price"),
        (trade(size=0.0), "bad size"),
        (trade(size=None), "bad size"),
        (trade(side="x"), "bad side"),
        (trade(side=None), "bad side"),
        (trade(trade_id=""), "bad trade id"),
        (trade(trade_id="x" * 41), "bad trade id"),
        (trade(trade_id="é"), "bad trade id"),
        (trade(trade_id=-1), "bad trade id"),
        (trade(trade_id="-7"), "bad trade id"),
        (trade(trade_id=" 7"), "bad trade id"),
        (trade(trade_id="7 8"), "bad trade id"),
        (trade(trade_id="7\n"), "bad trade id"),
        (trade(trade_id="7\n8"), "bad trade id"),
        (trade(trade_id="\0"), "bad trade id"),
        (trade(trade_id="7\0"), "bad trade id"),
        (trade(trade_id="7\x008"), "bad trade id"),
        (trade(time=-1), "bad time"),
        (trade(time=10**13), "bad time"),
        (trade(native="xy", price=-1.0, time=-1), "unknown symbol"),
    ],
)
def test_a_bad_trade_is_rejected_and_its_neighbours_stay(row, reason):
    decoded = decode(frame("t", trade(), row, trade()), frame("t", row), frame("t", trade()))
    assert decoded.ticks["receive_ns"].tolist() == [100, 100, 102]
    assert [(r.receive_ns, r.reason) for r in decoded.rejects] == [(100, reason), (101, reason)]
    assert decoded.rejects[1].frame == frame("t", row)


@pytest.mark.parametrize(
    ("row", "sides"),
    [
        (quote(bid=None), [nan, nan, 3, 4]),
        (quote(bid=0.0), [nan, nan, 3, 4]),
        (quote(bid_size=0.0), [nan, nan, 3, 4]),
        (quote(ask_size=None), [1, 2, nan, nan]),
    ],
)
def test_an_absent_side_is_nan(row, sides):
    (tick,) = decode(frame("q", row)).ticks
    np.testing.assert_array_equal([tick[name] for name in ("bid", "bid_size", "ask", "ask_size")], sides)


@pytest.mark.parametrize(
    ("row", "reason"),
    [
        (quote(bid=-1.0), "bad price"),
        (quote(ask_size=-1.0), "bad size"),
        (quote(bid=0.0, bid_size=-1.0), "bad size"),
        (quote(bid=0.0, ask=0.0), "empty quote"),
        (quote(native="xy"), "unknown symbol"),
        (quote(time=-1), "bad time"),
    ],
)
def test_a_bad_quote_is_rejected(row, reason):
    decoded = decode(frame("q", row), frame("q", quote()))
    assert decoded.ticks["receive_ns"].tolist() == [101]
    assert [r.reason for r in decoded.rejects] == [reason]


def test_infinite_numbers_are_rejected():
    batch = rows.Batch([b"", b"", b""])
    batch.trades = rows.Trades(*zip((0, *trade(price=inf)), (1, *trade(size=inf)), strict=True))
    batch.quotes = rows.Quotes(*zip((2, *quote(bid=inf)), strict=True))
    reading = rows.Reading(
        "okx",
        READING.decoder,
        Message(),
        lambda messages, into: fill(into, batch),
        READING.sides,
        from_ms,
        from_ms,
        control,
    )
    decoded = rows.decode(reading, [b"", b"", b""], np.arange(3), CATALOG)
    assert decoded.ticks.size == 0
    assert [r.reason for r in decoded.rejects] == ["bad price", "bad size", "bad price"]


def fill(into, batch):
    into.trades, into.quotes = batch.trades, batch.quotes


@pytest.mark.parametrize(
    "ids",
    [
        ["123", "456"],
        ["1", "22", "333"],
        [1, 22, 333],
        [123, 456],
        ["2290000001203630617", "9b3f4e2a-1c1d-4b57-8f0e-0a4f9d1c2b3e"],
        ["1" * 40, "2" * 40],
        ["1" * 40, "2"],
        [10**39, 5],
        [5, "7"],
        ["7", 5],
    ],
)
def test_ids_of_one_length_or_of_many_are_kept_as_written(ids):
    ticks = decode(frame("t", *(trade(trade_id=each) for each in ids))).ticks
    assert [each.decode() for each in ticks["trade_id"].tolist()] == [str(each) for each in ids]


def test_history_is_flagged():
    decoded = decode(frame("t", trade()), frame("h", trade(), trade(time=0)))
    assert decoded.ticks["flags"].tolist() == [0, REPLAYED, REPLAYED | UNSTAMPED]


def test_an_empty_text_is_read_as_null_only_where_it_cannot_be_text():
    decoder = msgspec.json.Decoder(dict[str, float | None])
    assert rows.read_frame(decoder, b'{"a":"","b":1}') == {"a": None, "b": 1}
    assert rows.read_frame(msgspec.json.Decoder(dict[str, str]), b'{"a":""}') == {"a": ""}
    assert rows.read_frame(decoder, b'{"a":"x"}') is None


def test_history_of_rest_is_checked_like_frames_and_flagged():
    catalog = Catalog({"BTC-USDT": "BTC"}, {"BTC-USDT": 3})
    fills = [(1.5, 2.0, "b", "7", 5), (0.0, 2.0, "b", "8", 6)]
    decoded = rows.decode_history(READING, "BTC", fills, 99, catalog, lambda: np.array([[7, 7], [8, 8]]))
    assert decoded.ticks["trade_id"].tolist() == [b"7"]
    assert decoded.ticks["flags"].tolist() == [BACKFILL]
    assert decoded.ticks["receive_ns"].tolist() == [99]
    assert decoded.spans.tolist() == [[7, 7]]
    assert [reject.reason for reject in decoded.rejects] == ["bad price"]
    unknown = rows.decode_history(READING, "ETH", fills[:1], 99, catalog)
    assert [reject.reason for reject in unknown.rejects] == ["unknown symbol"]
    assert rows.decode_history(READING, "BTC", [], 99, catalog).ticks.size == 0


@pytest.mark.parametrize(
    ("lists", "found", "at"),
    [([["a"], ["b"]], ["a", "b"], [4, 6]), ([["a", "b"], ["c"]], ["a", "b", "c"], [4, 4, 6]), ([], [], [])],
)
def test_rows_of_lists_keep_what_stands_beside_their_list(lists, found, at):
    assert rows.flat(lists) == found
    assert rows.beside(found, lists, [4, 6][: len(lists)]) == at
