import json

from tests.simulator.client import receive_until, same_shape, send

TRADE = (
    '{"action":"update","arg":{"instType":"SPOT","channel":"trade","instId":"BTCUSDT"},"data":[{"ts":"1790358780904",'
    '"price":"83715.7","size":"0.000012","side":"buy","tradeId":"1487438024184414208"}],"ts":1790358780904}'
)


def arg(channel, name="BTCUSDT"):
    return {"instType": "SPOT", "channel": channel, "instId": name}


def test_ack_then_history_then_updates_newest_first(simulator):
    with simulator.ws("bitget", "/v2/ws/public") as socket:
        send(socket, {"op": "subscribe", "args": [arg("trade")]})
        ack, history = (json.loads(socket.recv(timeout=10)) for _ in range(2))
        assert ack == {"event": "subscribe", "arg": arg("trade")}
        assert history["action"] == "snapshot"
        old = [int(row["tradeId"]) for row in history["data"]]
        assert 30 <= len(old) <= 50
        assert old == sorted(old, reverse=True)
        seen, rows_a_frame = [old[0]], set()
        while len(rows_a_frame) < 2 or len(seen) < 20:
            frame = json.loads(socket.recv(timeout=10))
            assert same_shape(frame, TRADE)
            assert frame["action"] == "update"
            rows_a_frame.add(len(frame["data"]))
            seen += [int(row["tradeId"]) for row in reversed(frame["data"])]
        assert seen == sorted(set(seen))


def test_history_of_a_second_connection_overlaps_the_first(simulator):
    with simulator.ws("bitget", "/v2/ws/public") as socket:
        send(socket, {"op": "subscribe", "args": [arg("trade")]})
        live, _ = receive_until(socket, lambda frame: frame.get("action") == "update")
        with simulator.ws("bitget", "/v2/ws/public") as later:
            send(later, {"op": "subscribe", "args": [arg("trade")]})
            history, _ = receive_until(later, lambda frame: frame.get("action") == "snapshot")
        assert live["data"][0] in history["data"]


def test_quotes_are_snapshots(simulator):
    with simulator.ws("bitget", "/v2/ws/public") as socket:
        send(socket, {"op": "subscribe", "args": [arg("books1")]})
        frame, _ = receive_until(socket, lambda frame: frame.get("action") == "snapshot")
        row = frame["data"][0]
        assert float(row["bids"][0][0]) < float(row["asks"][0][0])
        assert isinstance(row["ts"], str)
        assert isinstance(frame["ts"], int)


def test_unknown_symbol_is_a_number_code_with_its_arg(simulator):
    with simulator.ws("bitget", "/v2/ws/public") as socket:
        send(socket, {"op": "subscribe", "args": [arg("trade", "NOPEUSDT"), arg("books1")]})
        error, ack = (json.loads(socket.recv(timeout=10)) for _ in range(2))
        assert list(error) == ["event", "arg", "code", "msg", "op"]
        assert (error["arg"], error["code"]) == (arg("trade", "NOPEUSDT"), 30001)
        assert ack["event"] == "subscribe"


def test_a_request_over_4096_bytes_is_refused(simulator):
    with simulator.ws("bitget", "/v2/ws/public") as socket:
        send(socket, {"op": "subscribe", "args": [arg("trade")] * 80})
        assert json.loads(socket.recv(timeout=10))["code"] == 30016


def test_text_ping(simulator):
    with simulator.ws("bitget", "/v2/ws/public") as socket:
        send(socket, "ping")
        assert socket.recv(timeout=10) == "pong"


def test_rest(simulator):
    rows = simulator.rest("bitget", "/api/v2/spot/public/symbols")["data"]
    assert ("BTCUSDT", "BTC", "USDT", "online") in [
        (row["symbol"], row["baseCoin"], row["quoteCoin"], row["status"]) for row in rows
    ]
    tickers = simulator.rest("bitget", "/api/v2/spot/market/tickers")["data"]
    assert {row["symbol"] for row in tickers} == {row["symbol"] for row in rows}
    path = "/api/v2/spot/market/candles?symbol=BTCUSDT&granularity=1min&limit=3"
    opens = [int(row[0]) for row in simulator.rest("bitget", path)["data"]]
    assert opens == [opens[0], opens[0] + 60_000, opens[0] + 120_000]


def test_trade_history(simulator):
    rows = simulator.rest("bitget", "/api/v2/spot/market/fills?symbol=BTCUSDT&limit=40")["data"]
    ids = [int(row["tradeId"]) for row in rows]
    assert ids == sorted(set(ids), reverse=True)
    assert len(ids) == 40
    path = "/api/v2/spot/market/fills-history?symbol=BTCUSDT"
    old = simulator.rest("bitget", f"{path}&idLessThan={ids[10]}&limit=10&startTime={rows[30]['ts']}")["data"]
    assert [int(row["tradeId"]) for row in old] == ids[11:21]
    for row, recent in zip(old, rows[11:21], strict=True):
        assert (row["price"], row["size"], row["side"]) == (
            recent["price"], recent["size"], recent["side"].capitalize(),
        )  # fmt: skip
        assert int(row["ts"]) == int(recent["ts"]) // 1000 * 1000
    assert simulator.rest("bitget", f"{path}&startTime=1&endTime=999999999")["code"] == "40017"
    assert simulator.rest("bitget", f"{path[:-7]}NOPE")["code"] == "40034"


def test_history_begins_with_what_is_replayed(start_simulator):
    running = start_simulator("--venues", "bitget", "--symbols", "2", "--rate", "1")
    with running.ws("bitget", "/v2/ws/public") as socket:
        send(socket, {"op": "subscribe", "args": [arg("trade")]})
        history, _ = receive_until(socket, lambda frame: frame.get("action") == "snapshot")
    rows = running.rest("bitget", "/api/v2/spot/market/fills?symbol=BTCUSDT&limit=500")["data"]
    assert {row["tradeId"] for row in history["data"]} <= {row["tradeId"] for row in rows}


def test_too_many_requests(start_simulator):
    running = start_simulator("--venues", "bitget", "--symbols", "2")
    path = "/api/v2/spot/market/fills?symbol=BTCUSDT&limit=1"
    codes = [running.rest("bitget", path)["code"] for _ in range(31)]
    assert codes[:10] == ["00000"] * 10
    assert "429" in codes
