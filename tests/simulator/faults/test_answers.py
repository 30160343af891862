import json
import time
import urllib.error
import urllib.request

import pytest
from websockets.exceptions import ConnectionClosed, InvalidStatus

from market.venues import VENUES
from tests.simulator.client import FEEDS, PINGS, receive_until, send, trade_ids

PONGS = {
    "okx": lambda frame: frame == "pong",
    "bybit": lambda frame: frame.get("ret_msg") == "pong",
    "kraken": lambda frame: frame.get("method") == "pong",
    "gateio": lambda frame: frame.get("channel") == "spot.pong",
    "bitget": lambda frame: frame == "pong",
    "kucoin": lambda frame: frame.get("type") == "pong",
}
OTHER = {
    "okx": {"op": "nonsense"}, "bybit": {"op": "nonsense"}, "kraken": {"method": "nonsense"},
    "gateio": {"channel": "nonsense", "event": "subscribe"}, "bitget": {"op": "nonsense"},
    "kucoin": {"type": "nonsense"},
}  # fmt: skip
CODES = {
    "binance": ("code", -1003), "okx": ("code", "50011"), "bybit": ("retCode", 10006),
    "kraken": ("error", ["EAPI:Rate limit exceeded"]), "gateio": ("label", "TOO_MANY_REQUESTS"),
    "bitget": ("code", "429"), "kucoin": ("code", "429000"),
}  # fmt: skip


@pytest.mark.parametrize("venue", VENUES)
def test_too_many_requests_in_the_venues_own_words(faulty, venue):
    faulty.order(venue, "http_error", status=429)
    with pytest.raises(urllib.error.HTTPError) as refused:
        urllib.request.urlopen(faulty.endpoints[venue]["rest"] + "/any", timeout=10)
    with refused.value as answer:
        assert (answer.code, answer.headers["Retry-After"]) == (429, "1")
        key, value = CODES[venue]
        assert json.load(answer)[key] == value
    with pytest.raises(InvalidStatus, match="429"), faulty.ws(venue, "/"):
        pass


def test_an_error_can_be_of_upgrades_or_of_rest_alone(faulty):
    faulty.order("okx", "http_error", status=503, on="upgrade")
    assert faulty.rest("okx", "/api/v5/public/time")["code"] == "0"
    with pytest.raises(InvalidStatus, match="503"), faulty.feed("okx"):
        pass
    faulty.order("okx", "clear")
    faulty.order("okx", "http_error", status=418, on="rest")
    assert faulty.rest("okx", "/api/v5/public/time")["code"] == "50001"
    with faulty.feed("okx") as client:
        receive_until(client, lambda frame: trade_ids("okx", frame))


@pytest.mark.parametrize("venue", PINGS)
def test_a_missing_pong(faulty, venue):
    with faulty.feed(venue) as client:
        send(client, PINGS[venue])
        receive_until(client, PONGS[venue])
        faulty.order(venue, "no_pong")
        send(client, PINGS[venue])
        protocol = client.ping()
        send(client, OTHER[venue])
        refusal = ("error", "fail", "nonsense", "not supported", "Unsupported")
        _, before = receive_until(client, lambda frame: any(word in json.dumps(frame) for word in refusal))
        assert not any(PONGS[venue](frame) for frame in before)
        assert not protocol.is_set()


@pytest.mark.parametrize("venue", ["binance", "bitget"])
def test_a_late_pong(faulty, venue):
    with faulty.ws(venue, FEEDS[venue][0]) as client:  # nothing subscribed: the client reads pongs as they come
        assert client.ping().wait(10)
        faulty.order(venue, "late_pong", delay_ms=150)
        began_s = time.monotonic()
        protocol = client.ping()
        if venue in PINGS:
            send(client, PINGS[venue])
            receive_until(client, PONGS[venue])
        assert protocol.wait(10)
        assert time.monotonic() - began_s > 0.14


def token(simulator):
    data = simulator.rest("kucoin", "/api/v1/bullet-public", post=True)["data"]
    (server,) = data["instanceServers"]
    return data["token"], (server["pingInterval"], server["pingTimeout"])


def test_a_token_names_ping_times_and_who_does_not_keep_to_them_is_sent_away(faulty):
    faulty.order("kucoin", "ping_times", interval_ms=1000, timeout_ms=500)
    name, times = token(faulty)
    assert times == (1000, 500)
    with faulty.ws("kucoin", f"/?token={name}&connectId=c") as silent:
        began_s = time.monotonic()
        assert json.loads(silent.recv(timeout=10))["type"] == "welcome"
        with pytest.raises(ConnectionClosed) as closed:
            silent.recv(timeout=10)
        assert closed.value.rcvd.code == 1000
        assert 1.5 < time.monotonic() - began_s < 8
    faulty.order("kucoin", "clear")
    assert token(faulty)[1] == (18000, 10000)
