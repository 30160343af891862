import json
from decimal import Decimal

import pytest

from connectors.venue import Instrument
from connectors.venues import bybit
from tests.connectors.venues import wire


def book(bids, asks, **more):
    data = {"s": "BTCUSDT", "b": bids, "a": asks, "u": 1, "seq": 2}
    return {"topic": "orderbook.1.BTCUSDT", "ts": 1788488775839, "type": "delta", "data": data} | more


@pytest.mark.parametrize("absent", [[], [["80694.4", "0"]]])
def test_a_delta_of_2023_with_one_side_is_that_side(absent):
    rows, rejected = wire.one(bybit, book([["80694.3", "0.18"]], absent))
    assert rejected == []
    assert (rows[0]["bid"], rows[0]["bid_size"]) == (Decimal("80694.3"), Decimal("0.18"))
    assert (rows[0]["ask"], rows[0]["ask_size"]) == (None, None)
    assert wire.one(bybit, book(absent, absent)) == ([], ["empty quote"])


def test_the_matching_time_counts_where_it_is_there():
    levels = [["1", "2"]]
    assert wire.one(bybit, book(levels, levels))[0][0]["ts_us"] == 1788488775839000
    assert wire.one(bybit, book(levels, levels, cts=1788488775833))[0][0]["ts_us"] == 1788488775833000


def test_a_trade_with_a_tick_direction_is_a_derivatives():
    row = {"i": "1", "T": 1788488776839, "p": "1", "v": "2", "S": "Buy", "s": "BTCUSDT"}
    frame = {"topic": "publicTrade.BTCUSDT", "type": "snapshot", "ts": 1, "data": [row]}
    assert len(wire.one(bybit, frame)[0]) == 1
    assert wire.one(bybit, frame | {"data": [row | {"L": "PlusTick"}]}) == ([], ["malformed"])
    assert wire.one(bybit, frame | {"data": [row | {"S": "buy"}]}) == ([], ["bad side"])


@pytest.mark.parametrize("topic", ["orderbook.50.BTCUSDT", "tickers.BTCUSDT", "kline.1.BTCUSDT", ""])
def test_other_topics(topic):
    assert wire.one(bybit, book([["1", "2"]], [["1", "2"]], topic=topic)) == ([], ["unknown channel"])


def test_requests_hold_at_most_ten_topics():
    requests = bybit.subscribe(bybit.topics([f"C{i}USDT" for i in range(13)]), first_id=1)
    assert [len(json.loads(request.frame)["args"]) for request in requests] == [10, 10, 6]
    assert [request.acks for request in requests] == [1, 1, 1]
    assert json.loads(requests[0].frame)["op"] == "subscribe"
    assert json.loads(requests[0].frame)["args"][0] == "publicTrade.C0USDT"
    assert json.loads(requests[2].frame)["args"][-1] == "orderbook.1.C12USDT"


def test_control():
    read = [bybit.control(frame) for frame in wire.all_frames("bybit", "control")]
    assert [control.kind for control in read] == ["ack", "pong", "ack", "pong", "ack", "pong", "refusal", "refusal"]
    assert [(control.native, control.text) for control in read[-2:]] == [
        ("NOTASYMBOL", "error:handler not found,topic:publicTrade.NOTASYMBOL"),
        ("", "args size >10"),
    ]
    refused = b'{"success":false,"ret_msg":"Invalid symbol :[orderbook.1.XUSDT]","op":"subscribe","req_id":"4"}'
    assert (bybit.control(refused).native, bybit.control(refused).key) == ("XUSDT", "4")


def test_lists():
    pair = {"symbol": "BTCUSDT", "baseCoin": "BTC", "quoteCoin": "USDT", "status": "Trading", "innovation": "0"}
    body = {"retCode": 0, "retMsg": "OK", "result": {"category": "spot", "list": [pair]}, "time": 1}
    assert bybit.instruments(json.dumps(body).encode()) == [Instrument("BTC-USDT", "BTCUSDT", True)]
    body["result"]["list"] = [{"symbol": "BTCUSDT", "turnover24h": "7.5", "lastPrice": "1"}]
    assert bybit.volumes(json.dumps(body).encode()) == {"BTCUSDT": 7.5}
    with pytest.raises(ValueError, match="refused with code 10001: 'params error'"):
        bybit.instruments(b'{"retCode":10001,"retMsg":"params error","result":{"list":[]}}')
