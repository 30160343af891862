import json
import re
from datetime import datetime

import pytest

from tests.simulator.client import receive_until, same_shape, send

TRADE = (
    '{"channel":"trade","type":"update","data":[{"symbol":"BTC/USD","side":"sell","price":77566.2,"qty":0.00015760,'
    '"ord_type":"limit","trade_id":105749532,"timestamp":"2026-08-23T13:40:09.726398Z"}]}'
)
TICKER = (
    '{"channel":"ticker","type":"snapshot","data":[{"symbol":"BTC/USD","bid":81205.0,"bid_qty":0.58905885,"ask":81205.1,'
    '"ask_qty":0.69697106,"last":81205.1,"volume":4696.17832496,"vwap":80044.4,"low":76949.6,"high":82288.1,'
    '"change":4166.6,"change_pct":5.41,"trades":145275,"timestamp":"2026-09-04T00:21:20.217476Z"}]}'
)


def subscribe(channel, *symbols, **params):
    return {"method": "subscribe", "params": {"channel": channel, "symbol": list(symbols), **params}, "req_id": 3}


def test_status_ack_then_contiguous_trades(simulator):
    with simulator.ws("kraken", "/v2") as socket:
        status = json.loads(socket.recv(timeout=10))
        assert (status["channel"], status["data"][0]["system"]) == ("status", "online")
        assert status["data"][0]["connection_id"] > 2**63
        send(socket, subscribe("trade", "BTC/USDT", snapshot=True))
        ack, _ = receive_until(socket, lambda frame: frame.get("method") == "subscribe")
        assert list(ack) == ["method", "req_id", "result", "success", "time_in", "time_out"]
        assert ack["result"] == {"channel": "trade", "snapshot": True, "symbol": "BTC/USDT"}
        ids = []
        while len(ids) < 70:
            frame, _ = receive_until(socket, lambda frame: frame.get("channel") == "trade")
            assert frame["type"] == ("update" if ids else "snapshot")
            assert same_shape({**frame, "type": "update"}, TRADE)
            ids += [row["trade_id"] for row in frame["data"]]
        assert ids == list(range(ids[0], ids[0] + len(ids)))


def test_ticker_is_quotes_with_fixed_decimals(simulator):
    with simulator.ws("kraken", "/v2") as socket:
        send(socket, subscribe("ticker", "BTC/USDT", event_trigger="bbo"))
        frame, _ = receive_until(socket, lambda frame: frame.get("channel") == "ticker")
        assert frame["type"] == "snapshot"
        texts = [socket.recv(timeout=10) for _ in range(5)]
        for text in (text for text in texts if '"ticker"' in text):
            assert same_shape(json.loads(text), TICKER)
            assert re.search(r'"bid":\d+\.\d,"bid_qty":0\.\d{6},', text)


def test_refusals_name_the_symbol(simulator):
    with simulator.ws("kraken", "/v2") as socket:
        send(socket, subscribe("trade", "XBT/USDT"))
        refusal, _ = receive_until(socket, lambda frame: "error" in frame)
        assert refusal["error"] == "Currency pair not supported XBT/USDT"
        assert (refusal["symbol"], refusal["success"]) == ("XBT/USDT", False)
        send(socket, subscribe("trade", "DOGE/USDT"))
        send(socket, subscribe("trade", "DOGE/USDT"))
        refusal, _ = receive_until(socket, lambda frame: "error" in frame)
        assert refusal["error"] == "Already subscribed"


def test_ping(simulator):
    with simulator.ws("kraken", "/v2") as socket:
        send(socket, {"method": "ping", "req_id": 1})
        pong, _ = receive_until(socket, lambda frame: frame.get("method") == "pong")
        assert list(pong) == ["method", "req_id", "time_in", "time_out"]


def test_heartbeats_when_idle(start_simulator):
    with start_simulator("--rate", "5", "--symbols", "3", "--venues", "kraken").ws("kraken", "/v2") as socket:
        send(socket, subscribe("trade", "BTC/USDT"))
        assert receive_until(socket, lambda frame: frame == {"channel": "heartbeat"})


def test_rest_names_are_the_old_ones(simulator):
    pairs = simulator.rest("kraken", "/0/public/AssetPairs")
    assert pairs["error"] == []
    assert (pairs["result"]["XBTUSDT"]["wsname"], pairs["result"]["XBTUSDT"]["base"]) == ("XBT/USDT", "XXBT")
    assert pairs["result"]["XDGUSDT"]["wsname"] == "XDG/USDT"
    tickers = simulator.rest("kraken", "/0/public/Ticker")["result"]
    assert set(tickers) == set(pairs["result"])
    assert float(tickers["XBTUSDT"]["v"][1]) * float(tickers["XBTUSDT"]["p"][1]) > 1e6
    ohlc = simulator.rest("kraken", "/0/public/OHLC?pair=XBTUSDT&interval=1")["result"]
    assert len(ohlc["XBTUSDT"]) == 720
    assert ohlc["last"] == ohlc["XBTUSDT"][-2][0]
    since = ohlc["XBTUSDT"][-4][0]
    later = simulator.rest("kraken", f"/0/public/OHLC?pair=XBTUSDT&interval=1&since={since}")["result"]["XBTUSDT"]
    assert later[0][0] == since + 60


def test_trade_history_pages_forward(simulator):
    with simulator.ws("kraken", "/v2") as socket:
        params = {"channel": "trade", "symbol": ["BTC/USDT"], "snapshot": False}
        send(socket, {"method": "subscribe", "params": params})
        sent = []
        while len(sent) < 10:
            frame, _ = receive_until(
                socket, lambda frame: frame.get("type") == "update" and frame["channel"] == "trade"
            )
            sent += frame["data"]
    first = datetime.fromisoformat(sent[0]["timestamp"])
    since = round(first.timestamp() * 1_000_000) * 1000 - 1
    found, pages = [], 0
    while len(found) < len(sent):
        path = f"/0/public/Trades?pair=XBTUSDT&since={since}&count=4"
        answer = simulator.rest("kraken", path)["result"]
        assert answer["XBTUSDT"]
        found, since, pages = found + answer["XBTUSDT"], int(answer["last"]), pages + 1
    assert pages > 1
    begin = [row[6] for row in found].index(sent[0]["trade_id"])
    for row, trade in zip(found[begin:], sent, strict=False):
        assert (row[6], float(row[0]), float(row[1])) == (trade["trade_id"], trade["price"], trade["qty"])
        assert row[3] == trade["side"][0]
        assert row[2] == pytest.approx(datetime.fromisoformat(trade["timestamp"]).timestamp(), abs=1e-5)
    ids = [row[6] for row in found]
    assert ids == list(range(ids[0], ids[0] + len(ids)))
    assert simulator.rest("kraken", "/0/public/Trades?pair=NOPE")["error"] == ["EQuery:Unknown asset pair"]


def test_too_many_requests(start_simulator):
    running = start_simulator("--venues", "kraken", "--symbols", "2")
    errors = [running.rest("kraken", "/0/public/Trades?pair=XBTUSDT&count=1")["error"] for _ in range(31)]
    assert errors[:15] == [[]] * 15
    assert ["EAPI:Rate limit exceeded"] in errors
    assert running.rest("kraken", "/0/public/Trades?pair=ETHUSDT&count=1")["error"] == []
