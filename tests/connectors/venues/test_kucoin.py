import json
from decimal import Decimal
from urllib.parse import parse_qs, urlsplit

import pytest

from connectors.venue import Control, Instrument
from connectors.venues import kucoin
from tests.connectors.venues import wire

MATCH = {
    "symbol": "BTC-USDT", "side": "sell", "size": "0.003", "price": "64024.4", "tradeId": "23898084682776576",
    "time": "1616362370760468781", "type": "match", "sequence": "23898084682776576",
}  # fmt: skip


def frame(topic, data, subject="s"):
    return {"topic": topic, "type": "message", "subject": subject, "data": data}


def test_trade_times_keep_their_nanoseconds():
    decoded, _ = wire.decode(kucoin, [json.dumps(frame("/market/match:BTC-USDT", MATCH, "trade.l3match")).encode()])
    assert decoded.ticks["exchange_ns"].tolist() == [1616362370760468781]


def test_a_time_beyond_int64_is_bad():
    for time in (str(2**63), 10**40, -1):
        assert wire.one(kucoin, frame("/market/match:BTC-USDT", MATCH | {"time": time})) == ([], ["bad time"])


@pytest.mark.parametrize("asks", [[], ["0", "0"], ["", ""], ["5"], None])
def test_an_absent_side_of_a_quote_is_null(asks):
    data = {"asks": asks, "bids": ["68145.7", "1.2"], "timestamp": 1729816058766}
    rows, rejected = wire.one(kucoin, frame("/spotMarket/level1:BTC-USDT", data))
    assert rejected == []
    assert (rows[0]["bid"], rows[0]["ask"], rows[0]["ask_size"]) == (Decimal("68145.7"), None, None)


def test_the_ticker_of_all_symbols_names_them_by_subject():
    data = {"bestAsk": "2", "bestAskSize": "3", "bestBid": "1", "bestBidSize": "4", "time": 1729757723612}
    (row,), _ = wire.one(kucoin, frame("/market/ticker:all", data, "ETH-BTC"))
    assert (row["symbol"], row["ts_us"]) == ("ETH-BTC", None)


def test_alias_of_a_currency():
    assert kucoin.symbol_of_native("BCHSV-USDT") == "BSV-USDT"


@pytest.mark.parametrize(
    "topic", ["/contractMarket/execution:XBTUSDTM", "/market/snapshot:BTC-USDT", "/market/matches:A-B"]
)
def test_other_topics(topic):
    assert wire.one(kucoin, frame(topic, MATCH)) == ([], ["unknown channel"])


def bullet(endpoint="wss://ws-api-spot.kucoin.com/", code="200000", token="2neA/iu+YvAU61==", **times):
    server = {"endpoint": endpoint, "encrypt": True, "protocol": "websocket", **times}
    return json.dumps({"code": code, "data": {"token": token, "instanceServers": [server, {"endpoint": "b"}]}}).encode()


@pytest.mark.parametrize(
    "endpoint", ["wss://ws-api-spot.kucoin.com/", "wss://ws-api-spot.kucoin.com", "ws://[::1]:9/a/"]
)
def test_the_handshake_names_the_endpoint(endpoint):
    assert kucoin.handshake() == "/api/v1/bullet-public"
    url = urlsplit(kucoin.endpoint(kucoin.WS_URL, bullet(endpoint), [])[0])
    assert f"{url.scheme}://{url.netloc}" == endpoint.removesuffix("/a/").removesuffix("/")
    assert url.path in ("/", "/a/")
    assert parse_qs(url.query)["token"] == ["2neA/iu+YvAU61=="]


@pytest.mark.parametrize(
    "reply", [None, b"", b"{}", bullet(code="400100"), b'{"code":"200000"}', b'{"code":"200000","data":{"token":"a"}}']
)
def test_another_reply_is_an_error(reply):
    with pytest.raises(ValueError, match="kucoin: the token"):
        kucoin.endpoint(kucoin.WS_URL, reply, [])


@pytest.mark.parametrize(
    ("times", "expected"),
    [
        ({"pingInterval": 18000, "pingTimeout": 10000}, (18.0, 10.0, 40.0)),
        ({"pingInterval": 30000, "pingTimeout": 5000}, (30.0, 5.0, 47.0)),
        ({}, (18.0, 10.0, 40.0)),
        ({"pingInterval": 3_600_000, "pingTimeout": 0}, (50.0, 1.0, 63.0)),  # a socket is closed after 60 s without
    ],
)
def test_the_handshake_names_the_ping_times(times, expected):
    heartbeat = kucoin.endpoint(kucoin.WS_URL, bullet(**times), [])[1]
    assert (heartbeat.every_s, heartbeat.pong_s, heartbeat.silence_s) == expected
    assert heartbeat.ping == kucoin.HEARTBEAT.ping


def test_subscribe_by_channel():
    requests = kucoin.subscribe(kucoin.topics([f"C{i}-USDT" for i in range(130)]), first_id=7)
    first = json.loads(requests[0].frame)
    assert first["topic"].startswith("/market/match:C0-USDT,C1-USDT,")
    assert first | {"topic": ""} == {
        "id": "7", "type": "subscribe", "topic": "", "privateChannel": False, "response": True,
    }  # fmt: skip
    assert [json.loads(request.frame)["topic"].count(",") + 1 for request in requests] == [100, 30, 100, 30]
    assert json.loads(requests[2].frame)["topic"].startswith("/spotMarket/level1:C0-USDT,")
    assert [(request.acks, request.key) for request in requests] == [(1, "7"), (1, "8"), (1, "9"), (1, "10")]


def test_control():
    read = [kucoin.control(each) for each in wire.all_frames("kucoin", "control")]
    assert {"welcome", "ack", "pong"} <= {control.kind for control in read}
    assert Control("pong", "1545910590801") in read
    unknown = kucoin.control(b'{"id":"p28","type":"error","code":404,"data":"topic does not exist"}')
    assert unknown == Control("refusal", "p28", code="404", text="topic does not exist")
    assert kucoin.control(b'{"id":"1","type":"error","code":401,"data":"token is expired"}').kind == "error"


def test_lists():
    pair = {"symbol": "BCHSV-USDT", "baseCurrency": "BSV", "quoteCurrency": "USDT", "enableTrading": True, "fee": 1}
    body = json.dumps({"code": "200000", "data": [pair]}).encode()
    assert kucoin.instruments(body) == [Instrument("BSV-USDT", "BCHSV-USDT", True)]
    ticker = [{"symbol": "BTC-USDT", "volValue": "4.5", "last": "1"}, {"symbol": "A-B", "volValue": None}]
    body = json.dumps({"code": "200000", "data": {"time": 1, "ticker": ticker}}).encode()
    assert kucoin.volumes(body) == {"BTC-USDT": 4.5, "A-B": 0.0}
