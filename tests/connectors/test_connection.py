import asyncio
import json
from contextlib import suppress
from itertools import pairwise

import pytest
from websockets.exceptions import ConnectionClosed

from connectors.clock import ReceiveClock
from connectors.connection import ACK_TIMEOUT_S
from connectors.feed import VenueFeed
from connectors.pipe import CollectorConfig, Endpoint
from market.venues import VENUES as NAMES
from tests.connectors.made import SYMBOLS, TOPICS, Binance, Okx, binance_trade, feeding, trade, warnings
from tests.connectors.peers import listening, passing, run, talking


def test_it_subscribes_and_counts_the_answers(caplog):
    async def check():
        okx = Okx()
        async with listening(okx) as url, feeding("okx", url) as feed:
            await passing(lambda: len(okx.subscribed) == 4)
            await passing(lambda: feed.sessions[0].unanswered == 0)
            await asyncio.sleep(1.2 * ACK_TIMEOUT_S)
            assert feed.counters.state == "live"
            assert (feed.counters.refused, feed.counters.rejects) == (0, 0)
        assert okx.subscribed == TOPICS

    run(check(), skipping=True)
    assert warnings(caplog) == []


def test_missing_answers_are_warned_of(caplog):
    async def check():
        okx = Okx(acks=False)
        async with listening(okx) as url, feeding("okx", url) as feed:
            await passing(lambda: okx.subscribed)
            assert feed.sessions[0].unanswered == 4
            await asyncio.sleep(1.2 * ACK_TIMEOUT_S)
            assert feed.counters.state == "live"

    run(check(), skipping=True)
    assert warnings(caplog) == ["okx: 4 subscriptions not answered within 10 s"]


def test_text_pings_are_sent_and_an_answered_link_lives_on():
    async def check():
        okx = Okx()
        async with listening(okx) as url, feeding("okx", url) as feed:
            await asyncio.sleep(100)
            assert 4 <= okx.pings <= 6
            assert (feed.counters.reconnects, len(okx.opened_s)) == (0, 1)

    run(check(), skipping=True)


def test_json_pings_are_sent_and_their_answers_known():
    pings = []

    async def bybit(peer):
        async for frame in peer:
            request = json.loads(frame)
            answer = {"success": True, "ret_msg": "subscribe", "conn_id": "1", "op": request["op"]}
            if request["op"] == "ping":
                pings.append(request)
                answer["ret_msg"] = "pong"
                row = {"i": str(len(pings)), "T": 1, "p": "1", "v": "1", "S": "Buy", "s": "BTCUSDT"}
                await peer.send(json.dumps({"topic": "publicTrade.BTCUSDT", "ts": 1, "data": [row]}))
            else:
                answer["req_id"] = request["req_id"]
            await peer.send(json.dumps(answer))

    async def check():
        async with listening(bybit) as url, feeding("bybit", url) as feed:
            await asyncio.sleep(100)
            assert 4 <= len(pings) <= 6
            assert (feed.counters.reconnects, feed.counters.state) == (0, "live")
            assert feed.sessions[0].unanswered == 0

    run(check(), skipping=True)


class Kucoin:
    """A hand-made KuCoin on one port: a token that names ping times, then a socket; it may leave pongs out."""

    def __init__(self, interval_ms, timeout_ms, *, pongs=True):
        self.times = {"pingInterval": interval_ms, "pingTimeout": timeout_ms}
        self.pongs = pongs
        self.pings_s = []
        self.opened_s = []
        self.url = ""

    async def token(self, reader, writer):
        await reader.readuntil(b"\r\n\r\n")
        server = {"endpoint": f"{self.url}/", **self.times}
        data = {"code": "200000", "data": {"token": "abc", "instanceServers": [server]}}
        body = json.dumps(data).encode()
        writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n" % len(body) + body)

    async def __call__(self, peer):
        now_s = asyncio.get_running_loop().time
        self.opened_s.append(now_s())
        await peer.send(json.dumps({"id": "mie", "type": "welcome"}))
        with suppress(ConnectionClosed):
            async for frame in peer:
                request = json.loads(frame)
                if request["type"] != "ping":
                    await peer.send(json.dumps({"id": request["id"], "type": "ack"}))
                    continue
                self.pings_s.append(now_s())
                if self.pongs:
                    await peer.send(json.dumps({"id": request["id"], "type": "pong"}))


@pytest.mark.parametrize("interval_s", [5, 45])
def test_ping_times_of_a_token_are_followed(interval_s):
    natives = {"BTC-USDT": "BTC-USDT"}

    async def check():
        kucoin = Kucoin(1000 * interval_s, 3000)
        async with listening(kucoin) as url, talking(kucoin.token) as port:
            kucoin.url = url
            async with feeding("kucoin", url, f"http://127.0.0.1:{port}", natives):
                await passing(lambda: len(kucoin.pings_s) == 2, within_s=200, step_s=1.0)
        return kucoin

    kucoin = run(check(), skipping=True)
    assert len(kucoin.opened_s) == 1
    assert interval_s <= kucoin.pings_s[1] - kucoin.pings_s[0] < interval_s + 1


def test_a_pong_is_waited_for_as_long_as_the_token_says(caplog):
    async def check():
        kucoin = Kucoin(5000, 3000, pongs=False)
        async with listening(kucoin) as url, talking(kucoin.token) as port:
            kucoin.url = url
            async with feeding("kucoin", url, f"http://127.0.0.1:{port}", {"BTC-USDT": "BTC-USDT"}):
                await passing(lambda: len(kucoin.opened_s) == 2, within_s=30, step_s=0.5)

    run(check(), skipping=True)
    assert "kucoin is down: no answer to a ping within 3 s" in warnings(caplog)


def test_a_missing_pong_ends_the_link_though_data_flow(caplog):
    async def check():
        okx = Okx(pongs=False)

        async def flow():
            while True:
                for peer in okx.peers:
                    with suppress(ConnectionClosed):
                        await peer.send(trade(1))
                await asyncio.sleep(1)

        async with listening(okx) as url, feeding("okx", url) as feed:
            flowing = asyncio.create_task(flow())
            await passing(lambda: len(okx.opened_s) == 2, within_s=60, step_s=1.0)
            assert feed.counters.reconnects == 1
            assert okx.opened_s[1] - okx.opened_s[0] < 20 + 10 + 2
            flowing.cancel()

    run(check(), skipping=True)
    assert "okx is down: no answer to a ping within 10 s" in warnings(caplog)


def test_silence_ends_the_link(caplog):
    opened_s = []

    async def ignore(peer):
        opened_s.append(asyncio.get_running_loop().time())
        await peer.wait_closed()

    async def check():
        async with listening(ignore) as url, feeding("binance", url):
            await passing(lambda: len(opened_s) == 2, within_s=80, step_s=1.0)

    run(check(), skipping=True)
    assert 60 <= opened_s[1] - opened_s[0] <= 62
    assert "binance is down: no frame for 60 s" in warnings(caplog)


def test_heartbeats_and_acks_are_no_life_and_patience_grows(caplog):
    binance, opened_s = Binance(), []

    async def handle(peer):
        opened_s.append(asyncio.get_running_loop().time())
        beating = asyncio.create_task(beat(peer))
        await binance(peer)
        beating.cancel()

    async def beat(peer):
        with suppress(ConnectionClosed):
            while True:
                await peer.ping()
                await asyncio.sleep(5)

    async def check():
        async with listening(handle) as url, feeding("binance", url):
            await passing(lambda: len(opened_s) == 3, within_s=300, step_s=1.0)

    run(check(), skipping=True)
    lived_s = [after - before for before, after in pairwise(opened_s)]
    assert 60 <= lived_s[0] <= 62
    assert 120 <= lived_s[1] <= 124
    assert "binance is down: no tick for 60 s" in warnings(caplog)


def test_protocol_pings_are_not_silence():
    opened = []

    async def ping(peer):
        opened.append(peer)
        while True:
            await (await peer.ping())
            await peer.send(binance_trade(len(opened)))
            await asyncio.sleep(20)

    async def check():
        async with listening(ping) as url, feeding("binance", url) as feed:
            await asyncio.sleep(150)
            assert (feed.counters.state, len(opened)) == ("live", 1)

    run(check(), skipping=True)


def test_all_venues_answer_every_subscription(quiet_simulator, caplog):
    async def check():
        native = {"kraken": "{}/USDT", "gateio": "{}_USDT", "okx": "{}-USDT", "kucoin": "{}-USDT"}
        coins = [symbol.split("-")[0] for symbol in SYMBOLS]
        natives = {name: {f"{c}-USDT": native.get(name, "{}USDT").format(c) for c in coins} for name in NAMES}
        endpoints = {name: Endpoint(**quiet_simulator.endpoints[name]) for name in NAMES}
        config = CollectorConfig(SYMBOLS, natives, endpoints, seed=1)
        feeds = {name: VenueFeed(name, config, ReceiveClock(), None) for name in NAMES}
        tasks = [asyncio.create_task(session.run()) for feed in feeds.values() for session in feed.sessions]
        ticks = dict.fromkeys(NAMES, 0)

        def settled():
            for name, feed in feeds.items():
                ticks[name] += feed.flush().ticks.size
            asked = [session.unanswered for feed in feeds.values() for session in feed.sessions]
            return all(ticks.values()) and not any(asked)

        await passing(settled)
        await asyncio.sleep(1.5)  # Kraken's second request may leave a second after the first
        await passing(settled)
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        for feed in feeds.values():
            assert (feed.counters.refused, feed.counters.rejects, feed.counters.reconnects) == (0, 0, 0)

    run(check())
    assert warnings(caplog) == []
