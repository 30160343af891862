import json
from decimal import Decimal
from itertools import pairwise

from tests.simulator.client import receive_until, same_shape, send

TRADE = (
    '{"time":1790359171,"time_ms":1790359171120,"channel":"spot.trades","event":"update","result":{"id":220643714,'
    '"id_market":220643714,"create_time":1790359171,"create_time_ms":"1790359171119.653000","side":"sell",'
    '"currency_pair":"BTC_USDT","amount":"0.002984","price":"83790.9","range":"220643714-220643714","trade_mode":0}}'
)
QUOTE = (
    '{"time":1790359165,"time_ms":1790359165714,"channel":"spot.book_ticker","event":"update","result":{'
    '"t":1790359165710,"u":40013503861,"s":"BTC_USDT","b":"83790.9","B":"0.497321","a":"83791","A":"0.055894"}}'
)


def request(channel, *names, event="subscribe"):
    return {"time": 1790359165, "id": 1, "channel": channel, "event": event, "payload": list(names)}


def test_one_ack_then_ranges_without_gaps(simulator):
    with simulator.ws("gateio", "/ws/v4/") as socket:
        send(socket, request("spot.trades", "BTC_USDT"))
        ack = json.loads(socket.recv(timeout=10))
        keys = ["time", "time_ms", "id", "conn_id", "trace_id", "channel", "event", "payload", "result", "requestId"]
        assert list(ack) == keys
        assert (ack["event"], ack["result"], ack["payload"]) == ("subscribe", {"status": "success"}, ["BTC_USDT"])
        rows = []
        while len(rows) < 20:
            frame = json.loads(socket.recv(timeout=10))
            assert same_shape(frame, TRADE)
            rows.append(frame["result"])
        spans = [tuple(map(int, row["range"].split("-"))) for row in rows]
        assert all(later[0] == before[1] + 1 for before, later in pairwise(spans))
        assert all(len(row["create_time_ms"].partition(".")[2]) == 6 for row in rows)


def test_quotes(simulator):
    with simulator.ws("gateio", "/ws/v4/") as socket:
        send(socket, request("spot.book_ticker", "BTC_USDT", "ETH_USDT"))
        frame, _ = receive_until(socket, lambda frame: frame["event"] == "update")
        assert same_shape(frame, QUOTE)


def test_unknown_pair_fails_with_a_code(simulator):
    with simulator.ws("gateio", "/ws/v4/") as socket:
        send(socket, request("spot.trades", "NOPE_USDT"))
        failure = json.loads(socket.recv(timeout=10))
        assert failure["error"]["code"] == 2
        assert "NOPE_USDT" in failure["error"]["message"]
        assert failure["result"] == {"status": "fail"}


def test_ping(simulator):
    with simulator.ws("gateio", "/ws/v4/") as socket:
        send(socket, {"time": 1790359165, "channel": "spot.ping"})
        pong = json.loads(socket.recv(timeout=10))
        assert (pong["channel"], pong["event"], pong["result"]) == ("spot.pong", "", None)


def test_rest(simulator):
    pairs = simulator.rest("gateio", "/api/v4/spot/currency_pairs")
    assert ("BTC_USDT", "BTC", "USDT", "tradable") in [
        (row["id"], row["base"], row["quote"], row["trade_status"]) for row in pairs
    ]
    tickers = simulator.rest("gateio", "/api/v4/spot/tickers")
    assert {row["currency_pair"] for row in tickers} == {row["id"] for row in pairs}
    rows = simulator.rest("gateio", "/api/v4/spot/candlesticks?currency_pair=BTC_USDT&interval=1m&limit=4")
    assert [row[7] for row in rows] == ["true", "true", "true", "false"]
    refused = simulator.rest("gateio", "/api/v4/spot/candlesticks?currency_pair=BTC_USDT&interval=1m&limit=4&from=1")
    assert refused["label"] == "INVALID_PARAM_VALUE"


def test_trade_history(simulator):
    with simulator.ws("gateio", "/ws/v4/") as socket:
        send(socket, {"time": 1, "channel": "spot.trades", "event": "subscribe", "payload": ["BTC_USDT"]})
        frame, _ = receive_until(
            socket, lambda f: f["event"] == "update" and f["result"]["range"] != "{0}-{0}".format(f["result"]["id"])
        )
        sent = frame["result"]
    base = f"/api/v4/spot/trades?currency_pair=BTC_USDT&from={sent['create_time']}&to={sent['create_time']}"
    rows = simulator.rest("gateio", f"{base}&limit=1000")
    ids = [int(row["sequence_id"]) for row in rows]
    assert ids == list(range(ids[0], ids[-1] - 1, -1))
    assert {row["create_time"] for row in rows} == {str(sent["create_time"])}
    first, last = map(int, sent["range"].split("-"))
    fills = [row for row in rows if first <= int(row["sequence_id"]) <= last]
    assert sum(Decimal(row["amount"]) for row in fills) == Decimal(sent["amount"])
    wanted = (sent["price"], sent["side"], sent["create_time_ms"])
    assert {(row["price"], row["side"], row["create_time_ms"]) for row in fills} == {wanted}
    paged = [row for page in (1, 2) for row in simulator.rest("gateio", f"{base}&limit=2&page={page}")]
    to = simulator.rest("gateio", f"{base}&limit=4")
    assert [row["id"] for row in to] == [str(int(to[0]["id"]) - n) for n in range(len(to))]
    assert len(paged) <= 4
    assert simulator.rest("gateio", "/api/v4/spot/trades?currency_pair=NOPE")["label"] == "INVALID_CURRENCY_PAIR"
    assert simulator.rest("gateio", f"{base}&limit=1000&page=102")["label"] == "INVALID_PARAM_VALUE"


def test_too_many_requests(start_simulator):
    running = start_simulator("--venues", "gateio", "--symbols", "2")
    answers = [running.rest("gateio", "/api/v4/spot/time") for _ in range(401)]
    assert all("server_time" in answer for answer in answers[:200])
    assert any(answer.get("label") == "TOO_MANY_REQUESTS" for answer in answers)
