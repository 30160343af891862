import json
import socket as sockets

from tests.simulator.client import receive_until, same_shape, send

TRADE = (
    '{"topic":"publicTrade.BTCUSDT","ts":1788488776840,"type":"snapshot","data":[{"i":"2290000001203630617",'
    '"T":1788488776839,"p":"80694.4","v":"0.000136","S":"Buy","seq":113596275875,"s":"BTCUSDT","BT":false,'
    '"RPI":false}]}'
)
QUOTE = (
    '{"topic":"orderbook.1.BTCUSDT","ts":1788488775839,"type":"snapshot","data":{"s":"BTCUSDT",'
    '"b":[["80694.3","0.186713"]],"a":[["80694.4","0.584259"]],"u":91124997,"seq":113596275717},"cts":1788488775833}'
)


def test_ack_then_trades_and_quotes(simulator):
    with simulator.ws("bybit", "/v5/public/spot") as socket:
        send(socket, {"req_id": "1", "op": "subscribe", "args": ["publicTrade.BTCUSDT", "orderbook.1.BTCUSDT"]})
        ack, _ = receive_until(socket, lambda frame: "success" in frame)
        assert list(ack) == ["success", "ret_msg", "conn_id", "req_id", "op"]
        assert (ack["success"], ack["ret_msg"], ack["req_id"], ack["op"]) == (True, "subscribe", "1", "subscribe")
        quote, _ = receive_until(socket, lambda frame: frame["topic"].startswith("orderbook"))
        assert same_shape(quote, QUOTE)
        ids, rows_a_frame = [], set()
        while len(ids) < 30 or len(rows_a_frame) < 2:
            trade, _ = receive_until(socket, lambda frame: frame["topic"].startswith("publicTrade"))
            assert same_shape(trade, TRADE)
            ids += [int(row["i"]) for row in trade["data"]]
            rows_a_frame.add(len(trade["data"]))
        assert ids == sorted(set(ids))


def test_unknown_symbol_refuses_the_request(simulator):
    with simulator.ws("bybit", "/v5/public/spot") as socket:
        send(socket, {"op": "subscribe", "args": ["publicTrade.NOPEUSDT"]})
        refusal = json.loads(socket.recv(timeout=10))
        assert list(refusal) == ["success", "ret_msg", "conn_id", "op"]
        assert refusal["success"] is False
        assert refusal["ret_msg"] == "Invalid symbol :[publicTrade.NOPEUSDT]"


def test_an_eleventh_arg_is_refused(simulator):
    with simulator.ws("bybit", "/v5/public/spot") as socket:
        send(socket, {"op": "subscribe", "args": ["publicTrade.BTCUSDT"] * 11})
        assert json.loads(socket.recv(timeout=10))["ret_msg"] == "args size >10"


def test_ping_keeps_its_op(simulator):
    with simulator.ws("bybit", "/v5/public/spot") as socket:
        send(socket, {"op": "ping"})
        pong = json.loads(socket.recv(timeout=10))
        assert (pong["ret_msg"], pong["op"]) == ("pong", "ping")


def test_rest(simulator):
    info = simulator.rest("bybit", "/v5/market/instruments-info?category=spot")
    assert (info["retCode"], info["result"]["category"]) == (0, "spot")
    rows = info["result"]["list"]
    assert ("BTCUSDT", "BTC", "USDT", "Trading") in [
        (row["symbol"], row["baseCoin"], row["quoteCoin"], row["status"]) for row in rows
    ]
    tickers = simulator.rest("bybit", "/v5/market/tickers?category=spot")["result"]["list"]
    assert {row["symbol"] for row in tickers} == {row["symbol"] for row in rows}
    candles = simulator.rest("bybit", "/v5/market/kline?category=spot&symbol=BTCUSDT&interval=1&limit=3")["result"][
        "list"
    ]
    opens = [int(row[0]) for row in candles]
    assert opens == [opens[0], opens[0] - 60_000, opens[0] - 120_000]


def test_trade_history_is_the_newest_sixty(simulator):
    with simulator.ws("bybit", "/v5/public/spot") as socket:
        send(socket, {"op": "subscribe", "args": ["publicTrade.BTCUSDT"]})
        frame, _ = receive_until(socket, lambda frame: "topic" in frame)
        rows = simulator.rest("bybit", "/v5/market/recent-trade?category=spot&symbol=BTCUSDT&limit=1000")["result"][
            "list"
        ]
    assert len(rows) == 60
    ids = [int(row["execId"]) for row in rows]
    assert ids == sorted(ids, reverse=True)
    by_id = {row["execId"]: row for row in rows}
    for sent in frame["data"]:
        row = by_id[sent["i"]]
        assert list(row)[:6] == ["execId", "symbol", "price", "size", "side", "time"]
        assert (row["price"], row["size"], row["side"], row["time"]) == (
            sent["p"],
            sent["v"],
            sent["S"],
            str(sent["T"]),
        )
        assert row["seq"] == str(sent["seq"])
    bad = "/v5/market/recent-trade?category=spot&symbol=NOPE"
    assert simulator.rest("bybit", bad)["retCode"] == 10001


def test_too_many_requests_are_forbidden(start_simulator):
    running = start_simulator("--venues", "bybit", "--symbols", "2")
    host, port = running.endpoints["bybit"]["rest"].removeprefix("http://").split(":")
    request = b"GET /v5/market/time HTTP/1.1\r\nHost: x\r\n"
    with sockets.create_connection((host, int(port)), timeout=10) as raw:
        raw.sendall((request + b"\r\n") * 1300 + request + b"Connection: close\r\n\r\n")
        answers = b"".join(iter(lambda: raw.recv(65536), b"")).split(b"HTTP/1.1 ")[1:]
    assert [answer[:3] for answer in answers[:600]] == [b"200"] * 600
    assert any(answer.startswith(b"403") and b"access too frequent" in answer for answer in answers)
