import json
from urllib.error import HTTPError
from urllib.request import urlopen

import pytest
from websockets.exceptions import ConnectionClosedError

from tests.simulator.client import receive_until, same_shape, send

TRADE = (
    '{"stream":"btcusdt@trade","data":{"e":"trade","E":1723161255343,"s":"BTCUSDT","t":3735683259,'
    '"p":"61837.63000000","q":"0.02000000","T":1723161255342,"m":true,"M":true}}'
)
QUOTE = (
    '{"stream":"btcusdt@bookTicker","data":{"u":99667600014,"s":"BTCUSDT","b":"80728.58000000","B":"2.56322000",'
    '"a":"80728.59000000","A":"2.27670000"}}'
)


def test_ack_then_contiguous_trades_and_quotes(simulator):
    with simulator.ws("binance", "/stream") as socket:
        send(socket, {"method": "SUBSCRIBE", "params": ["btcusdt@trade", "btcusdt@bookTicker"], "id": 1})
        _, before = receive_until(socket, lambda frame: frame == {"result": None, "id": 1})
        assert before == []
        trades, quotes = [], []
        while len(trades) < 20 or not quotes:
            frame = json.loads(socket.recv(timeout=10))
            (trades if frame["stream"] == "btcusdt@trade" else quotes).append(frame)
        assert all(same_shape(frame, TRADE) for frame in trades)
        assert all(same_shape(frame, QUOTE) for frame in quotes)
        assert all(float(frame["data"]["b"]) < float(frame["data"]["a"]) for frame in quotes)
        ids = [frame["data"]["t"] for frame in trades]
        assert ids == list(range(ids[0], ids[0] + len(ids)))


def test_streams_in_the_url_need_no_request(simulator):
    with simulator.ws("binance", "/stream?streams=btcusdt@trade/ethusdt@trade") as socket:
        frame = json.loads(socket.recv(timeout=10))
        assert frame["stream"] in ("btcusdt@trade", "ethusdt@trade")
        send(socket, {"method": "LIST_SUBSCRIPTIONS", "id": "a"})
        listed, _ = receive_until(socket, lambda frame: "id" in frame)
        assert listed == {"result": ["btcusdt@trade", "ethusdt@trade"], "id": "a"}


def test_unknown_symbol_is_acked_and_silent_until_unsubscribed(simulator):
    with simulator.ws("binance", "/stream") as socket:
        send(socket, {"method": "SUBSCRIBE", "params": ["nosuchusdt@trade"], "id": 1})
        send(socket, {"method": "UNSUBSCRIBE", "params": ["nosuchusdt@trade"], "id": 2})
        assert [json.loads(socket.recv(timeout=10)) for _ in range(2)] == [
            {"result": None, "id": 1},
            {"result": None, "id": 2},
        ]


def test_malformed_stream_is_an_error_and_a_close(simulator):
    with simulator.ws("binance", "/stream") as socket:
        send(socket, {"method": "SUBSCRIBE", "params": ["btcusdt"], "id": 4})
        assert json.loads(socket.recv(timeout=10)) == {
            "error": {"code": 2, "msg": "Invalid request: invalid stream"},
            "id": 4,
        }
        with pytest.raises(ConnectionClosedError, match="1008"):
            socket.recv(timeout=10)


def test_rest(simulator):
    pairs = simulator.rest("binance", "/api/v3/exchangeInfo")["symbols"]
    assert ("BTCUSDT", "BTC", "USDT", "TRADING") in [
        (row["symbol"], row["baseAsset"], row["quoteAsset"], row["status"]) for row in pairs
    ]
    volumes = {row["symbol"]: float(row["quoteVolume"]) for row in simulator.rest("binance", "/api/v3/ticker/24hr")}
    assert volumes["BTCUSDT"] == max(volumes.values())
    assert set(volumes) == {row["symbol"] for row in pairs}
    rows = simulator.rest("binance", "/api/v3/klines?symbol=BTCUSDT&interval=1m&limit=30")
    assert len(rows) == 30
    assert [row[0] for row in rows] == list(range(rows[0][0], rows[0][0] + 30 * 60_000, 60_000))
    assert all(float(row[3]) <= float(row[1]) <= float(row[2]) for row in rows)
    assert rows[5][6] == rows[5][0] + 59_999
    assert simulator.rest("binance", "/api/v3/klines?symbol=NOPE&interval=1m")["code"] == -1121


def test_trade_history(simulator):
    newest = simulator.rest("binance", "/api/v3/trades?symbol=BTCUSDT&limit=30")
    ids = [row["id"] for row in newest]
    assert ids == list(range(ids[0], ids[0] + 30))
    rows = simulator.rest("binance", f"/api/v3/historicalTrades?symbol=BTCUSDT&fromId={ids[0]}&limit=30")
    assert rows == newest
    assert list(rows[0]) == ["id", "price", "qty", "quoteQty", "time", "isBuyerMaker", "isBestMatch"]
    assert float(rows[0]["quoteQty"]) == pytest.approx(float(rows[0]["price"]) * float(rows[0]["qty"]), abs=1e-8)
    assert len(simulator.rest("binance", "/api/v3/historicalTrades?symbol=BTCUSDT&fromId=1&limit=5000")) <= 1000
    assert simulator.rest("binance", "/api/v3/trades?symbol=NOPE")["code"] == -1121


def test_history_has_the_trades_of_the_socket(simulator):
    with simulator.ws("binance", "/stream?streams=btcusdt@trade") as socket:
        got = [json.loads(socket.recv(timeout=10))["data"] for _ in range(10)]
    path = f"/api/v3/historicalTrades?symbol=BTCUSDT&fromId={got[0]['t']}&limit=10"
    assert [(r["id"], r["price"], r["qty"], r["time"], r["isBuyerMaker"]) for r in simulator.rest("binance", path)] == [
        (data["t"], data["p"], data["q"], data["T"], data["m"]) for data in got
    ]


def test_weight_is_told_and_limited(start_simulator):
    running = start_simulator("--venues", "binance", "--symbols", "2")
    url = running.endpoints["binance"]["rest"] + "/api/v3/trades?symbol=BTCUSDT&limit=1"
    used = []

    def ask():
        for _ in range(500):
            with urlopen(url, timeout=10) as answer:
                used.append(int(answer.headers["X-MBX-USED-WEIGHT-1M"]))

    with pytest.raises(HTTPError) as refused:
        ask()
    with refused.value as answer:
        assert (answer.code, json.load(answer)["code"]) == (429, -1003)
        assert 1 <= int(answer.headers["Retry-After"]) <= 60
    assert max(used) == 6000
    assert used[0] == 25
