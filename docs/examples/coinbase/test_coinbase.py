import json

import pytest

from connectors.venue import Control, Instrument
from connectors.venues import coinbase
from tests.connectors.venues import wire

MATCH = {
    "type": "match", "trade_id": 7, "side": "sell", "size": "0.5", "price": "80691.53", "product_id": "BTC-USD",
    "time": "2026-08-25T03:35:57.198335Z",
}  # fmt: skip
TICKER = {
    "type": "ticker", "product_id": "BTC-USD", "best_bid": "84737.58", "best_bid_size": "0.2", "best_ask": "84737.59",
    "best_ask_size": "0.05", "side": "sell", "time": "2026-10-03T20:58:31.127510Z", "trade_id": 8,
}  # fmt: skip


@pytest.mark.parametrize(("maker", "taker"), [("sell", "buy"), ("buy", "sell")])
def test_the_side_is_the_takers(maker, taker):
    assert wire.one(coinbase, MATCH | {"side": maker})[0][0]["side"] == taker


def test_the_first_match_is_history():
    assert wire.one(coinbase, MATCH | {"type": "last_match"})[0][0]["replayed"] is True
    assert wire.one(coinbase, MATCH)[0][0]["replayed"] is False


def test_a_ticker_without_sizes_is_no_quote():
    old = {key: value for key, value in TICKER.items() if not key.endswith("_size")}
    assert wire.one(coinbase, old) == ([], ["empty quote"])


@pytest.mark.parametrize(
    ("changed", "reason"),
    [
        ({"price": "0"}, "bad price"),
        ({"size": ""}, "bad size"),
        ({"side": "up"}, "bad side"),
        ({"trade_id": -7}, "bad trade id"),
        ({"time": "now"}, "bad time"),
        ({"type": "rfq_match"}, "unknown channel"),
        ({"price": []}, "malformed"),
    ],
)
def test_bad_matches(changed, reason):
    assert wire.one(coinbase, MATCH | changed) == ([], [reason])


def test_subscribe_by_channel():
    trades, quotes = coinbase.subscribe(coinbase.topics(["BTC-USD", "ETH-USD"]), first_id=1)
    natives = ["BTC-USD", "ETH-USD"]
    assert json.loads(trades.frame) == {"type": "subscribe", "channels": [{"name": "matches", "product_ids": natives}]}
    assert json.loads(quotes.frame)["channels"] == [{"name": "ticker", "product_ids": natives}]
    assert (trades.acks, trades.key) == (1, "")


def test_control():
    read = [coinbase.control(frame) for frame in wire.all_frames("coinbase", "control")]
    assert [control.kind for control in read] == ["ack", "heartbeat", "error", "ack", "refusal"]
    assert read[-1] == Control("refusal", native="YFI-USD", text="Failed to subscribe: YFI-USD is delisted")
    assert coinbase.control(json.dumps(MATCH).encode()) is None


def test_lists():
    pair = {"id": "BTC-USD", "base_currency": "BTC", "quote_currency": "USD", "status": "online"}
    pairs = [
        pair,
        pair | {"id": "ETH-USD", "base_currency": "ETH", "trading_disabled": True},
        pair | {"id": "YFI-USD", "base_currency": "YFI", "status": "delisted"},
    ]
    assert coinbase.instruments(json.dumps(pairs).encode()) == [
        Instrument("BTC-USD", "BTC-USD", True),
        Instrument("ETH-USD", "ETH-USD", False),
        Instrument("YFI-USD", "YFI-USD", False),
    ]
    assert coinbase.volumes(b'[{"id":"BTC-USD","spot_volume_24hour":"1000000.00"}]') == {}
