import json
import socket
import time
import urllib.error
import urllib.request

import pytest
from websockets.exceptions import ConnectionClosed

from market.venues import VENUES
from tests.simulator.client import receive_until, send, trade_ids, wait_for


def never(_):
    return False


@pytest.mark.parametrize("venue", VENUES)
def test_drop(faulty, venue):
    with faulty.feed(venue) as client:
        receive_until(client, lambda frame: trade_ids(venue, frame))
        assert faulty.order(venue, "drop")["connections"] == 1
        with pytest.raises(ConnectionClosed) as lost:
            receive_until(client, never)
        assert lost.value.rcvd is None
    with faulty.feed(venue) as client:
        receive_until(client, lambda frame: trade_ids(venue, frame))


def test_drop_of_a_symbols_connections(faulty):
    with faulty.feed("okx", "BTC") as hit, faulty.feed("okx", "ETH") as spared:
        receive_until(hit, lambda frame: trade_ids("okx", frame))
        receive_until(spared, lambda frame: trade_ids("okx", frame))
        assert faulty.order("okx", "drop", symbol="BTC-USDT")["connections"] == 1
        with pytest.raises(ConnectionClosed):
            receive_until(hit, never)
        receive_until(spared, lambda frame: trade_ids("okx", frame))


def test_half_open(faulty):
    with faulty.feed("bybit", close_timeout=0.1) as client, faulty.ws("bybit", "/v5/public/spot") as idle:
        receive_until(client, lambda frame: trade_ids("bybit", frame))
        line = faulty.order("bybit", "half_open", symbol="BTC-USDT")
        assert line["connections"] == 1
        send(client, {"op": "ping"})
        began_s = time.monotonic()
        while time.monotonic() - began_s < 0.3:  # what was under way may still arrive
            try:
                assert "pong" not in client.recv(timeout=0.1)
                began_s = time.monotonic()
            except TimeoutError:
                break
        send(idle, {"op": "ping"})
        receive_until(idle, lambda frame: frame["op"] == "ping")
        assert faulty.stats()["clients"]["bybit"] == 2
        with faulty.feed("bybit") as fresh:
            receive_until(fresh, lambda frame: trade_ids("bybit", frame))
        faulty.order("bybit", "clear")
        with pytest.raises(ConnectionClosed):
            client.recv(timeout=10)


@pytest.mark.parametrize("mode", ["closed", "reset", "silent"])
def test_refuse(faulty, mode):
    host, port = faulty.endpoints["kraken"]["rest"].removeprefix("http://").split(":")
    with faulty.feed("kraken") as client:
        faulty.order("kraken", "refuse", mode=mode)
        refused = {"closed": ConnectionRefusedError, "reset": (ConnectionError, EOFError), "silent": TimeoutError}[mode]
        with pytest.raises(refused):
            _ask(host, port)
        receive_until(client, lambda frame: trade_ids("kraken", frame))
        assert faulty.order("okx", "clear", venue="kraken") == {"cleared": 1}

        def back():
            try:
                return faulty.rest("kraken", "/0/public/Time")["result"]
            except urllib.error.URLError:
                return None

        wait_for(back)


def _ask(host, port):
    with socket.create_connection((host, int(port)), timeout=0.3) as raw:
        raw.sendall(b"GET /0/public/Time HTTP/1.1\r\nHost: x\r\n\r\n")
        if not raw.recv(1):
            raise EOFError


NOTICES = {
    "binance": lambda frame: frame.get("stream") == "!serverShutdown" and frame["data"]["e"] == "serverShutdown",
    "okx": lambda frame: frame.get("event") == "notice" and frame["code"] == "64008",
}


@pytest.mark.parametrize("venue", VENUES)
def test_close_with_notice_where_there_is_one(faulty, venue):
    with faulty.feed(venue) as client:
        receive_until(client, lambda frame: trade_ids(venue, frame))
        faulty.order(venue, "close", notice_ms=700)
        if venue in NOTICES:
            receive_until(client, NOTICES[venue])
            receive_until(client, lambda frame: trade_ids(venue, frame))
        with pytest.raises(ConnectionClosed) as closed:
            receive_until(client, never)
        assert closed.value.rcvd.code == (1000 if venue == "kucoin" else 1001)


def test_slow_read(faulty):
    with faulty.feed("bitget") as client:
        receive_until(client, lambda frame: trade_ids("bitget", frame))
        faulty.order("bitget", "slow_read", for_s=0.3)
        began_s = time.monotonic()
        send(client, "ping")
        _, before = receive_until(client, lambda frame: frame == "pong")
        assert time.monotonic() - began_s > 0.25
        assert any(trade_ids("bitget", frame) for frame in before)


def test_token_expiry(faulty):
    with faulty.feed("kucoin") as client:
        receive_until(client, lambda frame: trade_ids("kucoin", frame))
        faulty.order("kucoin", "token_expiry", for_s=3000)
        receive_until(client, lambda frame: frame.get("code") == 401)
        with pytest.raises(ConnectionClosed, match="1008"):
            receive_until(client, never)
    born_dead = faulty.rest("kucoin", "/api/v1/bullet-public", post=True)["data"]["token"]
    faulty.order("kucoin", "clear")
    with faulty.ws("kucoin", f"/?token={born_dead}") as client:
        assert json.loads(client.recv(timeout=10))["code"] == 401
    with faulty.feed("kucoin") as client:
        receive_until(client, lambda frame: trade_ids("kucoin", frame))
