import json
from decimal import Decimal

import pytest

from connectors.venue import Instrument
from connectors.venues import gateio
from tests.connectors.venues import wire

TRADE = {
    "id": 5, "create_time": 1790359171, "create_time_ms": "1790359171119.653000", "side": "sell",
    "currency_pair": "BTC_USDT", "amount": "0.002984", "price": "83790.9",
}  # fmt: skip
QUOTE = {"t": 1654029559473, "u": 6, "s": "BTC_USDT", "b": "31738.93", "B": "2.3039", "a": "31738.94", "A": "0.335"}


def frame(channel, result, event="update"):
    return {"time": 1, "channel": channel, "event": event, "result": result}


@pytest.mark.parametrize(
    ("text", "ns"),
    [
        ("1619093543708.2642", 1619093543708264200),
        ("1619093527801.34", 1619093527801340000),
        ("1682689046123.0", 1682689046123000000),
        ("1682689046123", 1682689046123000000),
        ("1790359171119.653001", 1790359171119653001),
        ("1790359171119.6530019", 1790359171119653001),
    ],
)
def test_fractional_milliseconds_are_exact(text, ns):
    decoded, _ = wire.decode(gateio, [json.dumps(frame("spot.trades", TRADE | {"create_time_ms": text})).encode()])
    assert decoded.ticks["exchange_ns"].tolist() == [ns]


@pytest.mark.parametrize("text", ["x", "-1.0", "1e12", "1790359171119,653000", "99999999999999.000000"])
def test_bad_times(text):
    assert wire.one(gateio, frame("spot.trades", TRADE | {"create_time_ms": text})) == ([], ["bad time"])


@pytest.mark.parametrize(
    "absent", [{"b": "", "B": "0"}, {"b": "0", "B": "0"}, {"b": None, "B": None}, {"b": "", "B": 0}]
)
def test_an_absent_side_of_a_quote_is_null(absent):
    rows, rejected = wire.one(gateio, frame("spot.book_ticker", QUOTE | absent))
    assert rejected == []
    assert (rows[0]["bid"], rows[0]["bid_size"], rows[0]["ask"]) == (None, None, Decimal("31738.94"))


def test_a_quote_without_time_is_unstamped():
    assert wire.one(gateio, frame("spot.book_ticker", QUOTE | {"t": 0}))[0][0]["ts_us"] is None


def test_a_key_sent_twice_counts_by_its_last_value():
    text = json.dumps(frame("spot.trades", TRADE)).replace('"id": 5', '"id": 4, "id": 5')
    assert wire.one(gateio, text)[0][0]["trade_id"] == "5"


@pytest.mark.parametrize("channel", ["spot.trades_v2", "futures.trades", "futures.book_ticker", "spot.obu"])
def test_other_channels(channel):
    assert wire.one(gateio, frame(channel, TRADE | QUOTE)) == ([], ["unknown channel"])


def test_subscribe_by_channel():
    trades, quotes = gateio.subscribe(gateio.topics(["BTC_USDT", "ETH_USDT"]), first_id=8)
    assert json.loads(trades.frame) == {
        "id": 8,
        "channel": "spot.trades",
        "event": "subscribe",
        "payload": ["BTC_USDT", "ETH_USDT"],
    }
    assert json.loads(quotes.frame)["channel"] == "spot.book_ticker"
    assert (trades.acks, trades.key, quotes.acks, quotes.key) == (1, "8", 1, "9")


def test_control():
    read = [gateio.control(each) for each in wire.all_frames("gateio", "control")]
    assert [control.kind for control in read[:6]].count("refusal") == 1
    assert [control.kind for control in read[6:]] == ["ack"] * 15
    assert {"ack", "refusal", "pong"} == {control.kind for control in read}
    (refusal,) = [control for control in read if control.kind == "refusal"]
    assert (refusal.key, refusal.native, refusal.code) == ("1", "BTC_USDT", "2")
    upgrade = b'{"time":1,"channel":"futures.system","event":"update","result":{"type":"upgrade","msg":"reconnect"}}'
    assert gateio.control(upgrade).kind == "notice"


def test_lists():
    pair = {"id": "BTC_USDT", "base": "BTC", "quote": "USDT", "trade_status": "tradable", "fee": "0.2"}
    sold = {"id": "AB_USDT", "base": "AB", "quote": "USDT", "trade_status": "sellable"}
    assert gateio.instruments(json.dumps([pair, sold]).encode()) == [
        Instrument("BTC-USDT", "BTC_USDT", True),
        Instrument("AB-USDT", "AB_USDT", False),
    ]
    assert gateio.volumes(b'[{"currency_pair":"BTC_USDT","quote_volume":"3.5","last":"1"}]') == {"BTC_USDT": 3.5}


@pytest.mark.parametrize(
    ("text", "span"),
    [("7-9", [7, 9]), ("9-9", [9, 9]), ("", [0, 0]), ("x-9", [0, 9]), ("7", [7, 0]), ("9" * 30, [0, 0])],
)
def test_the_range_of_a_trade_is_its_span(text, span):
    decoded, _ = wire.decode(gateio, [json.dumps(frame("spot.trades", TRADE | {"range": text})).encode()])
    assert decoded.spans.tolist() == [span]
