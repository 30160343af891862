import json

from tests.simulator.client import receive_until, same_shape, send

TRADE = (
    '{"topic":"/market/match:BTC-USDT","type":"message","subject":"trade.l3match","data":{'
    '"makerOrderId":"6a7c6b44e1328b00077b8d81","price":"64024.4","sequence":"23898084682776577","side":"sell",'
    '"size":"0.00309956","symbol":"BTC-USDT","takerOrderId":"476999819110465538","time":"1786538821105000000",'
    '"tradeId":"23898084682776577","type":"match"}}'
)
LEVEL1 = (
    '{"topic":"/spotMarket/level1:BTC-USDT","type":"message","subject":"level1","data":{"asks":["68145.8","0.51987471"],'
    '"bids":["68145.7","1.29267802"],"timestamp":1729816058766}}'
)
TICKER = (
    '{"topic":"/market/ticker:ETH-USDT","type":"message","subject":"trade.ticker","data":{"bestAsk":"2667.61",'
    '"bestAskSize":"10.5900853","bestBid":"2667.6","bestBidSize":"0.8915","price":"2667.64","sequence":"23242050174",'
    '"size":"0.002","time":1790984011673}}'
)


def open_socket(simulator):
    server = simulator.rest("kucoin", "/api/v1/bullet-public", post=True)["data"]
    endpoint = server["instanceServers"][0]["endpoint"]
    assert endpoint == simulator.endpoints["kucoin"]["ws"] + "/"
    return simulator.ws("kucoin", f"/?token={server['token']}&connectId=c1")


def subscribe(topic, **extra):
    return {"id": 5, "type": "subscribe", "topic": topic, "privateChannel": False, "response": True, **extra}


def test_welcome_ack_then_data(simulator):
    with open_socket(simulator) as socket:
        assert json.loads(socket.recv(timeout=10)) == {"id": "c1", "type": "welcome"}
        send(socket, subscribe("/market/match:BTC-USDT,ETH-USDT"))
        receive_until(socket, lambda frame: frame == {"id": "5", "type": "ack"})
        ids = []
        while len(ids) < 20:
            frame, _ = receive_until(socket, lambda frame: frame.get("topic") == "/market/match:BTC-USDT")
            assert same_shape(frame, TRADE) or not frame["data"]["makerOrderId"].isdigit()
            assert list(frame["data"]) == list(json.loads(TRADE)["data"])
            assert len(frame["data"]["time"]) == 19
            ids.append(int(frame["data"]["tradeId"]))
        assert ids == sorted(set(ids))


def test_both_quote_topics(simulator):
    with open_socket(simulator) as socket:
        send(socket, subscribe("/spotMarket/level1:BTC-USDT", response=False))
        send(socket, subscribe("/market/ticker:BTC-USDT", response=False))
        level1, _ = receive_until(socket, lambda frame: frame.get("subject") == "level1")
        ticker, _ = receive_until(socket, lambda frame: frame.get("subject") == "trade.ticker")
        assert same_shape(level1, LEVEL1)
        assert same_shape(ticker, TICKER)


def test_wrong_token(simulator):
    with simulator.ws("kucoin", "/?token=wrong&connectId=c2") as socket:
        error = json.loads(socket.recv(timeout=10))
        assert (error["id"], error["type"], error["code"]) == ("c2", "error", 401)


def test_unknown_symbol_is_acked(simulator):
    with open_socket(simulator) as socket:
        send(socket, subscribe("/market/match:NOPE-USDT"))
        send(socket, {"id": "6", "type": "ping"})
        pong, before = receive_until(socket, lambda frame: frame["type"] == "pong")
        assert [frame["type"] for frame in before] == ["welcome", "ack"]
        assert pong["id"] == "6"


def test_unknown_topic_and_too_many_symbols(simulator):
    with open_socket(simulator) as socket:
        send(socket, subscribe("/market/nope:BTC-USDT"))
        error, _ = receive_until(socket, lambda frame: frame["type"] == "error")
        assert error["code"] == 404
        send(socket, subscribe("/market/match:" + ",".join(["BTC-USDT"] * 101)))
        error, _ = receive_until(socket, lambda frame: frame["type"] == "error")
        assert error["code"] == 509


def test_rest(simulator):
    assert simulator.rest("kucoin", "/api/v1/bullet-public")["code"] == "405000"
    rows = simulator.rest("kucoin", "/api/v2/symbols")["data"]
    assert ("BTC-USDT", "BTC", "USDT", True) in [
        (row["symbol"], row["baseCurrency"], row["quoteCurrency"], row["enableTrading"]) for row in rows
    ]
    tickers = simulator.rest("kucoin", "/api/v1/market/allTickers")["data"]["ticker"]
    assert {row["symbol"] for row in tickers} == {row["symbol"] for row in rows}
    candles = simulator.rest("kucoin", "/api/v1/market/candles?symbol=BTC-USDT&type=1min")["data"]
    opens = [int(row[0]) for row in candles]
    assert opens == sorted(opens, reverse=True)
    assert len(opens) > 90


def test_trade_history_has_the_sockets_sequence_and_no_id(simulator):
    with simulator.feed("kucoin") as socket:
        frame, _ = receive_until(socket, lambda frame: frame["type"] == "message")
        rows = simulator.rest("kucoin", "/api/v1/market/histories?symbol=BTC-USDT")["data"]
    assert len(rows) <= 100
    order = [int(row["sequence"]) for row in rows]
    assert order == sorted(order)
    data = frame["data"]
    row = next(row for row in rows if row["sequence"] == data["sequence"])
    assert list(row) == ["sequence", "price", "size", "side", "time"]
    assert (row["price"], row["size"], row["side"], str(row["time"])) == (
        data["price"], data["size"], data["side"], data["time"],
    )  # fmt: skip
    assert simulator.rest("kucoin", "/api/v1/market/histories?symbol=NOPE")["code"] == "900001"


def test_too_many_requests(start_simulator):
    running = start_simulator("--venues", "kucoin", "--symbols", "2")
    codes = [running.rest("kucoin", "/api/v1/market/allTickers")["code"] for _ in range(270)]
    assert codes[:133] == ["200000"] * 133
    assert "429000" in codes
