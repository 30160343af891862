import json
from decimal import Decimal
from itertools import pairwise

from tests.simulator.client import receive_until, same_shape, send

TRADE = (
    '{"arg":{"channel":"trades","instId":"BTC-USDT"},"data":[{"instId":"BTC-USDT","tradeId":"2895225227",'
    '"px":"80666.7","sz":"0.02","side":"sell","ts":"1788488656026","count":"1","source":"0","seqId":337991519393}]}'
)
QUOTE = (
    '{"arg":{"channel":"bbo-tbt","instId":"BTC-USDT"},"data":[{"asks":[["84093.5","667.19","0","70"]],'
    '"bids":[["84093.4","570.27","0","83"]],"ts":"1790439594900","seqId":342177336945}]}'
)


def arg(channel, name="BTC-USDT"):
    return {"channel": channel, "instId": name}


def test_ack_an_arg_then_data_without_gaps(simulator):
    with simulator.ws("okx", "/ws/v5/public") as socket:
        send(socket, {"op": "subscribe", "args": [arg("trades"), arg("bbo-tbt")]})
        acks = [json.loads(socket.recv(timeout=10)) for _ in range(2)]
        assert [list(ack) for ack in acks] == [["event", "arg", "connId"]] * 2
        assert [ack["arg"] for ack in acks] == [arg("trades"), arg("bbo-tbt")]
        trades, quotes = [], []
        while len(trades) < 15 or len(quotes) < 15:
            frame = json.loads(socket.recv(timeout=10))
            (trades if frame["arg"]["channel"] == "trades" else quotes).append(frame)
        assert all(same_shape(frame, TRADE) for frame in trades)
        assert all(same_shape(frame, QUOTE) for frame in quotes)
        rows = [frame["data"][0] for frame in trades]
        for before, row in pairwise(rows):
            assert int(row["tradeId"]) - int(row["count"]) == int(before["tradeId"])
        sequences = [frame["data"][0]["seqId"] for frame in quotes]
        assert sequences == sorted(set(sequences))
        assert all(frame["data"][0]["ts"].endswith("0") for frame in quotes)


def test_first_push_of_a_quote_is_the_present_state(simulator):
    with simulator.ws("okx", "/ws/v5/public") as socket:
        send(socket, {"id": "9", "op": "subscribe", "args": [arg("bbo-tbt")]})
        ack, quote = (json.loads(socket.recv(timeout=10)) for _ in range(2))
        assert ack["id"] == "9"
        assert same_shape(quote, QUOTE)


def test_unknown_symbol_is_a_string_code_without_arg(simulator):
    with simulator.ws("okx", "/ws/v5/public") as socket:
        send(socket, {"op": "subscribe", "args": [arg("trades", "NOPE-USDT"), arg("trades")]})
        error, ack = (json.loads(socket.recv(timeout=10)) for _ in range(2))
        assert list(error) == ["event", "msg", "code", "connId"]
        assert error["code"] == "60018"
        assert "channel:trades,instId:NOPE-USDT doesn't exist" in error["msg"]
        assert ack["event"] == "subscribe"


def test_text_ping(simulator):
    with simulator.ws("okx", "/ws/v5/public") as socket:
        send(socket, "ping")
        assert receive_until(socket, lambda frame: frame == "pong")


def test_rest(simulator):
    rows = simulator.rest("okx", "/api/v5/public/instruments?instType=SPOT")["data"]
    assert ("BTC-USDT", "BTC", "USDT", "live") in [
        (row["instId"], row["baseCcy"], row["quoteCcy"], row["state"]) for row in rows
    ]
    tickers = simulator.rest("okx", "/api/v5/market/tickers?instType=SPOT")["data"]
    assert {row["instId"] for row in tickers} == {row["instId"] for row in rows}
    assert all(float(row["volCcy24h"]) > 0 for row in tickers)
    candles = simulator.rest("okx", "/api/v5/market/candles?instId=BTC-USDT&bar=1m&limit=5")["data"]
    assert [row[8] for row in candles] == ["0", "1", "1", "1", "1"]
    older = simulator.rest("okx", f"/api/v5/market/candles?instId=BTC-USDT&bar=1m&limit=5&after={candles[-1][0]}")
    assert int(older["data"][0][0]) == int(candles[-1][0]) - 60_000


def test_trade_history_is_single_fills_newest_first(simulator):
    with simulator.ws("okx", "/ws/v5/public") as socket:
        send(socket, {"op": "subscribe", "args": [{"channel": "trades", "instId": "BTC-USDT"}]})
        joined, _ = receive_until(socket, lambda frame: "data" in frame and frame["data"][0]["count"] != "1")
    row = joined["data"][0]
    last, count = int(row["tradeId"]), int(row["count"])
    path = f"/api/v5/market/history-trades?instId=BTC-USDT&type=1&after={last + 1}&limit={count + 5}"
    rows = simulator.rest("okx", path)["data"]
    assert [int(fill["tradeId"]) for fill in rows] == list(range(last, last - count - 5, -1))
    assert list(rows[0]) == ["instId", "side", "sz", "source", "px", "tradeId", "ts"]
    fills = rows[:count]
    assert sum(Decimal(fill["sz"]) for fill in fills) == Decimal(row["sz"])
    assert {(fill["px"], fill["side"], fill["ts"]) for fill in fills} == {(row["px"], row["side"], row["ts"])}


def test_trade_history_pages(simulator):
    path = "/api/v5/market/history-trades?instId=BTC-USDT"
    newest = simulator.rest("okx", path)["data"]
    assert len(newest) == 100
    middle, last = newest[50], newest[-1]
    older = simulator.rest("okx", f"{path}&type=1&after={middle['tradeId']}&before={last['tradeId']}")["data"]
    assert older == newest[51:-1]
    by_time = simulator.rest("okx", f"{path}&type=2&after={middle['ts']}&limit=3")["data"]
    assert all(int(row["ts"]) < int(middle["ts"]) for row in by_time)
    assert len(simulator.rest("okx", "/api/v5/market/trades?instId=BTC-USDT&limit=9999")["data"]) <= 500
    assert simulator.rest("okx", f"{path[:-8]}NOPE")["code"] == "51001"


def test_too_many_requests(start_simulator):
    running = start_simulator("--venues", "okx", "--symbols", "2")
    path = "/api/v5/market/history-trades?instId=BTC-USDT&limit=1"
    codes = [running.rest("okx", path)["code"] for _ in range(60)]
    assert "50011" in codes
    assert codes[:20] == ["0"] * 20
    assert running.rest("okx", "/api/v5/market/trades?instId=BTC-USDT")["code"] == "0"
