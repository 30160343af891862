import json
from decimal import Decimal

import pytest

from connectors.venue import Control, Instrument
from connectors.venues import binance
from tests.connectors.venues import wire

TRADE = {"e": "trade", "E": 5, "s": "BTCUSDT", "t": 7, "p": "61837.63", "q": "0.02", "T": 4, "m": True, "M": True}
QUOTE = {"u": 1, "s": "BTCUSDT", "b": "100.5", "B": "2", "a": "100.6", "A": "3"}


def test_raw_and_combined_streams_mean_the_same():
    combined = wire.all_frames("binance")[:900]
    raw = [json.dumps(json.loads(frame)["data"]).encode() for frame in combined]
    assert wire.decode(binance, raw)[0].ticks.tobytes() == wire.decode(binance, combined)[0].ticks.tobytes()


def test_the_taker_sold_where_the_buyer_made_the_market():
    assert [wire.one(binance, TRADE | {"m": maker})[0][0]["side"] for maker in (True, False)] == ["sell", "buy"]


def test_order_ids_of_old_trades_are_ignored():
    rows, _ = wire.one(binance, TRADE | {"b": 88, "a": 89})
    assert rows[0]["trade_id"] == "7"


@pytest.mark.parametrize("frame", [TRADE | {"X": "MARKET"}, QUOTE | {"e": "bookTicker", "T": 4, "E": 4}])
def test_frames_of_the_futures_are_no_spot_ticks(frame):
    frame.pop("M", None)
    assert wire.one(binance, frame) == ([], ["unknown channel"])


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        ({"p": "0"}, "bad price"),
        ({"p": "-1"}, "bad price"),
        ({"p": "nan"}, "bad price"),
        ({"p": "inf"}, "bad price"),
        ({"p": None}, "bad price"),
        ({"q": "0.00000000"}, "bad size"),
        ({"m": None}, "bad side"),
        ({"t": -1}, "bad trade id"),
        ({"t": 10**45}, "bad trade id"),
        ({"T": 10**16}, "bad time"),
        ({"T": -1}, "bad time"),
        ({"s": "BTC"}, "unknown symbol"),
        ({"p": "1e999"}, "malformed"),
        ({"p": []}, "malformed"),
        ({"s": None}, "malformed"),
    ],
)
def test_bad_trades_are_rejected_with_their_reason(change, reason):
    assert wire.one(binance, TRADE | change) == ([], [reason])


def test_an_absent_side_of_a_quote_is_null():
    rows, rejected = wire.one(binance, QUOTE | {"a": "0.00000000", "A": "0.00000000"})
    assert rejected == []
    assert (rows[0]["bid"], rows[0]["ask"], rows[0]["ask_size"]) == (Decimal("100.5"), None, None)
    assert wire.one(binance, QUOTE | {"b": "", "B": ""})[0][0]["bid"] is None
    assert wire.one(binance, QUOTE | {"b": "0", "a": "0"}) == ([], ["empty quote"])
    assert wire.one(binance, QUOTE | {"b": "-1"}) == ([], ["bad price"])
    assert wire.one(binance, QUOTE | {"B": "inf"}) == ([], ["bad size"])
    assert wire.one(binance, QUOTE | {"a": "9" * 400}) == ([], ["bad price"])
    assert wire.one(binance, QUOTE | {"a": 10**400, "A": None}) == ([], ["bad price"])


def test_names_may_be_non_ascii():
    rows, _ = wire.one(binance, json.dumps(TRADE | {"s": "币安人生USDT"}, ensure_ascii=False))
    assert rows[0]["symbol"] == "币安人生-USDT"
    assert binance.topics(["币安人生USDT"]) == ["币安人生usdt@trade", "币安人生usdt@bookTicker"]


def test_subscribe():
    (request,) = binance.subscribe(binance.topics(["BTCUSDT"]), first_id=3)
    assert json.loads(request.frame) == {
        "method": "SUBSCRIBE",
        "params": ["btcusdt@trade", "btcusdt@bookTicker"],
        "id": 3,
    }
    assert (request.acks, request.key) == (1, "3")


@pytest.mark.parametrize(
    ("frame", "control"),
    [
        (b'{"result":null,"id":1}', Control("ack", "1")),
        (b'{"error":{"code":2,"msg":"no"},"id":4}', Control("refusal", "4", code="2", text="no")),
        (b'{"code":2,"msg":"no"}', Control("refusal", code="2", text="no")),
        (b'{"e":"serverShutdown","E":1}', Control("notice", text="serverShutdown")),
        (
            b'{"stream":"!serverShutdown","data":{"e":"serverShutdown","E":1}}',
            Control("notice", text="serverShutdown"),
        ),
        (b'{"e":"kline"}', None),
    ],
)
def test_control(frame, control):
    assert binance.control(frame) == control


def test_lists():
    pair = {"symbol": "BTCUSDT", "status": "TRADING", "baseAsset": "BTC", "quoteAsset": "USDT", "filters": []}
    halted = {"symbol": "AB", "status": "BREAK", "baseAsset": "A", "quoteAsset": "B", "isSpotTradingAllowed": True}
    margin = {"symbol": "AC", "status": "TRADING", "baseAsset": "A", "quoteAsset": "C", "isSpotTradingAllowed": False}
    body = json.dumps({"timezone": "UTC", "symbols": [pair, halted, margin]}).encode()
    assert binance.instruments(body) == [Instrument("BTC-USDT", "BTCUSDT", True), Instrument("A-B", "AB", False)]
    assert binance.volumes(b'[{"symbol":"BTCUSDT","quoteVolume":"12.5"}]') == {"BTCUSDT": 12.5}
