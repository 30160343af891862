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
