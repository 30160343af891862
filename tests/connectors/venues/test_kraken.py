import json

import pytest

from connectors.venue import Control, Instrument
from connectors.venues import kraken
from tests.connectors.venues import wire

TRADE = {"symbol": "BTC/USD", "side": "sell", "price": 77566.2, "qty": 0.0001576, "ord_type": "limit", "trade_id": 5}
QUOTE = {"symbol": "BTC/USD", "bid": 81205.0, "bid_qty": 0.5, "ask": 81205.1, "ask_qty": 0.6, "last": 81205.1}


def frame(channel, row, kind="update"):
    return {"channel": channel, "type": kind, "data": [row]}


@pytest.mark.parametrize(
    ("stamp", "ts_us"),
    [
        ("2026-08-23T13:40:09.726398Z", 1787492409726398),
        ("2026-08-23T13:40:09Z", 1787492409000000),
        ("2026-08-23T13:40:09.726398123Z", 1787492409726398),
        ("2026-08-23T15:40:09.726398+02:00", 1787492409726398),
        ("1970-01-01T00:00:00.000000Z", None),
        ("", None),
    ],
)
def test_times(stamp, ts_us):
    assert wire.one(kraken, frame("trade", TRADE | {"timestamp": stamp}))[0][0]["ts_us"] == ts_us


@pytest.mark.parametrize("stamp", ["now", "2026", "2026-02-30T00:00:00.000000Z", "1969-12-31T00:00:00.000000Z", "NaT"])
def test_bad_times(stamp):
    assert wire.one(kraken, frame("trade", TRADE | {"timestamp": stamp})) == ([], ["bad time"])


def test_the_first_push_of_trades_is_history():
    assert wire.one(kraken, frame("trade", TRADE, "snapshot"))[0][0]["replayed"] is True
    assert wire.one(kraken, frame("trade", TRADE))[0][0]["replayed"] is False


def test_zero_is_no_quote():
    rows, _ = wire.one(kraken, frame("ticker", QUOTE | {"bid": 0, "bid_qty": 0.0}))
    assert (rows[0]["bid"], rows[0]["bid_size"]) == (None, None)
    assert wire.one(kraken, frame("ticker", QUOTE | {"bid": 0, "ask": 0})) == ([], ["empty quote"])


def test_numbers_are_not_text():
    assert wire.one(kraken, frame("trade", TRADE | {"price": "77566.2"})) == ([], ["malformed"])


def test_subscribe_by_channel():
    trades, quotes = kraken.subscribe(kraken.topics(["BTC/USD", "ETH/USD"]), first_id=1)
    natives = ["BTC/USD", "ETH/USD"]
    assert json.loads(trades.frame) == {
        "method": "subscribe",
        "params": {"channel": "trade", "symbol": natives, "snapshot": False},
        "req_id": 1,
    }
    assert json.loads(quotes.frame)["params"] == {"channel": "ticker", "symbol": natives, "event_trigger": "bbo"}
    assert (trades.acks, trades.key, quotes.key) == (2, "1", "2")


def test_control():
    read = [kraken.control(each) for each in wire.all_frames("kraken", "control")]
    kinds = [control.kind for control in read]
    assert sorted(set(kinds)) == ["ack", "heartbeat", "pong", "refusal"]
    assert [control.native for control in read if control.kind == "refusal"] == [
        "XBT/USD"
    ]  # already subscribed is subscribed
    assert {control.native for control in read if control.kind == "ack"} == {"BTC/USD", "ETH/USD"}
    assert "42" in [control.key for control in read]
    status = '{"channel":"status","type":"update","data":[{"system":"%s"}]}'
    assert kraken.control(status.replace("%s", "online").encode()) == Control("heartbeat", text="online")
    assert kraken.control(status.replace("%s", "maintenance").encode()).kind == "notice"
    assert kraken.control(b'{"Error":"Exceeded msg rate"}') == Control("error", text="Exceeded msg rate")


def test_lists():
    pairs = {
        "XXBTZUSD": {"altname": "XBTUSD", "wsname": "XBT/USD", "base": "XXBT", "quote": "ZUSD", "status": "online"},
        "XDGEUR": {"altname": "XDGEUR", "wsname": "XDG/EUR", "status": "cancel_only"},
        "XETHXXBT": {"altname": "ETHXBT", "wsname": "ETH/XBT", "status": "online"},
        "HIDDEN": {"altname": "HIDDEN", "status": "online"},
    }
    assert kraken.instruments(json.dumps({"error": [], "result": pairs}).encode()) == [
        Instrument("BTC-USD", "BTC/USD", True),
        Instrument("DOGE-EUR", "DOGE/EUR", False),
        Instrument("ETH-BTC", "ETH/BTC", True),
    ]
    keys = ["XXBTZUSD", "XDGEUR", "XETHXXBT", "USDTZUSD", "SOLUSD", "XTZUSD", "ZEURZUSD", "SOL/EUR", "??"]
    row = {"v": ["1.5", "2"], "p": ["3", "4"], "a": ["1", 2, "3"]}
    volumes = kraken.volumes(json.dumps({"error": [], "result": dict.fromkeys(keys, row)}).encode())
    assert list(volumes) == [
        "BTC/USD", "DOGE/EUR", "ETH/BTC", "USDT/USD", "SOL/USD", "XTZ/USD", "EUR/USD", "SOL/EUR",
    ]  # fmt: skip
    assert set(volumes.values()) == {8.0}
    with pytest.raises(ValueError, match="EAPI:Rate limit exceeded"):
        kraken.instruments(b'{"error":["EAPI:Rate limit exceeded"]}')
