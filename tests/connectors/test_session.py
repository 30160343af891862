import asyncio
import json
import logging
import random
from contextlib import asynccontextmanager, suppress
from http import HTTPStatus
from itertools import pairwise

import pytest
from websockets.exceptions import ConnectionClosed

from connectors.clock import ReceiveClock
from connectors.collector import VenueFeed
from connectors.connection import ACK_TIMEOUT_S
from connectors.pipe import CollectorConfig, Endpoint
from connectors.retry import BANNED_S
from connectors.route import Route
from connectors.session import Session
from connectors.venues import VENUES
from market.schema import VenueCounters
from market.venues import VENUES as NAMES
from tests.connectors.peers import listening, passing, run

SYMBOLS = ["BTC-USDT", "ETH-USDT"]
NATIVES = {
    "okx": {"BTC-USDT": "BTC-USDT", "ETH-USDT": "ETH-USDT"},
    "binance": {"BTC-USDT": "BTCUSDT", "ETH-USDT": "ETHUSDT"},
    "bybit": {"BTC-USDT": "BTCUSDT", "ETH-USDT": "ETHUSDT"},
    "kraken": {"BTC-USDT": "BTC/USDT", "ETH-USDT": "ETH/USDT"},
}
PUMP_S = 1.0


@asynccontextmanager
async def feeding(venue, ws, rest="http://127.0.0.1:9"):
    """Run a venue's session as the collector does, decoding once a second; yields the feed."""
    config = CollectorConfig(SYMBOLS, NATIVES, {venue: Endpoint(ws, rest)}, seed=1)
    feed = VenueFeed(venue, config, ReceiveClock(), None)

    async def pump():
        while True:
            feed.flush()
            await asyncio.sleep(PUMP_S)

    tasks = [asyncio.create_task(pump()), *(asyncio.create_task(session.run()) for session in feed.sessions)]
    try:
        yield feed
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)


class Okx:
    """A hand-made OKX: acknowledges, answers pings, and notes what it was told. Each part can be left out."""

    def __init__(self, *, acks=True, pongs=True, ticks=True, refused=()):
        self.acks, self.pongs, self.ticks, self.refused = acks, pongs, ticks, refused
        self.subscribed = []
        self.pings = 0
        self.opened_s = []
        self.closes = []
        self.peers = []

    async def __call__(self, peer):
        self.opened_s.append(asyncio.get_running_loop().time())
        self.peers.append(peer)
        try:
            while True:
                await self.hear(peer, await peer.recv())
        except ConnectionClosed as closed:
            self.closes.append(closed.rcvd.code if closed.rcvd else 1006)

    async def hear(self, peer, frame):
        if frame == "ping":
            self.pings += 1
            if self.pongs:
                await peer.send("pong")
            if self.ticks:
                await peer.send(trade(self.pings))
            return
        request = json.loads(frame)
        for arg in request["args"]:
            self.subscribed.append((arg["channel"], arg["instId"]))
            answer = {"event": "subscribe", "id": request["id"], "arg": arg, "connId": "a4d3ae55"}
            if arg["instId"] in self.refused:
                text = f"Wrong URL or channel:{arg['channel']},instId:{arg['instId']} doesn't exist."
                answer = {"event": "error", "id": request["id"], "code": "60018", "msg": text, "connId": "a4d3ae55"}
            if self.acks:
                await peer.send(json.dumps(answer))


TOPICS = [("trades", "BTC-USDT"), ("trades", "ETH-USDT"), ("bbo-tbt", "BTC-USDT"), ("bbo-tbt", "ETH-USDT")]


def trade(number):
    row = {"instId": "BTC-USDT", "tradeId": str(number), "px": "100.5", "sz": "1", "side": "buy", "ts": "1700000000000"}
    return json.dumps({"arg": {"channel": "trades", "instId": "BTC-USDT"}, "data": [row]})


def binance_trade(number, native="BTCUSDT"):
    data = {"e": "trade", "s": native, "t": number, "p": "1", "q": "1", "T": 1700000000000, "m": True, "M": True}
    return json.dumps({"stream": f"{native.lower()}@trade", "data": data})


def warnings(caplog):
    return [record.getMessage() for record in caplog.records if record.levelno >= logging.WARNING]


def test_it_subscribes_and_counts_the_answers(caplog):
    async def check():
        okx = Okx()
        async with listening(okx) as url, feeding("okx", url) as feed:
            await passing(lambda: len(okx.subscribed) == 4)
            await passing(lambda: feed.sessions[0].unanswered == 0)
            await asyncio.sleep(2 * ACK_TIMEOUT_S)
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
            await asyncio.sleep(2 * ACK_TIMEOUT_S)
            assert feed.counters.state == "live"

    run(check(), skipping=True)
    assert warnings(caplog) == ["okx: 4 subscriptions not answered within 10 s"]


def test_a_refusal_is_counted_and_named(caplog):
    async def check():
        async with listening(Okx(refused={"ETH-USDT"})) as url, feeding("okx", url) as feed:
            await passing(lambda: feed.counters.refused == 2)
            await asyncio.sleep(2 * ACK_TIMEOUT_S)
            assert feed.sessions[0].unanswered == 0

    run(check(), skipping=True)
    (text,) = warnings(caplog)
    assert "okx refused ETH-USDT: 60018" in text


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

    async def acknowledge(peer):
        opened_s.append(asyncio.get_running_loop().time())
        async for frame in peer:
            await peer.send(json.dumps({"result": None, "id": json.loads(frame)["id"]}))

    async def check():
        async with listening(acknowledge) as url, feeding("binance", url):
            await passing(lambda: len(opened_s) == 2, within_s=80, step_s=1.0)

    run(check(), skipping=True)
    assert 60 <= opened_s[1] - opened_s[0] <= 62
    assert "binance is down: no frame for 60 s" in warnings(caplog)


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


def test_a_closed_link_is_opened_and_subscribed_again(caplog):
    async def check():
        okx = Okx()
        async with listening(okx) as url, feeding("okx", url) as feed:
            await passing(lambda: len(okx.subscribed) == 4)
            await okx.peers[0].close(1012, "service restart")
            await passing(lambda: len(okx.subscribed) == 8)
            await passing(lambda: feed.counters.state == "live")
            assert feed.counters.reconnects == 1
        assert okx.subscribed == TOPICS * 2

    run(check(), skipping=True)
    assert "okx is down: closed with 1012 service restart" in warnings(caplog)


def test_failures_are_tried_again_with_growing_waits():
    tried_s = []

    def refuse(connection, request):
        tried_s.append(asyncio.get_running_loop().time())
        return connection.respond(HTTPStatus.SERVICE_UNAVAILABLE, "down")

    async def check():
        async with listening(Okx(), process_request=refuse) as url, feeding("okx", url) as feed:
            await passing(lambda: len(tried_s) == 9, within_s=400, step_s=1.0)
            assert feed.counters.state == "down"
            assert feed.counters.reconnects >= 8

    run(check(), skipping=True)
    waits = [after - before for before, after in pairwise(tried_s)]
    allowed_s = 1.0  # OKX, by half of its limit
    assert all(wait <= max(min(60.0, 0.5 * 2**attempt), allowed_s) + 0.5 for attempt, wait in enumerate(waits))
    assert max(waits) > 5


@pytest.mark.parametrize("status", [403, 418, 429])
def test_a_ban_is_sat_out(status):
    tried_s = []

    def refuse(connection, request):
        tried_s.append(asyncio.get_running_loop().time())
        return connection.respond(HTTPStatus(status), "banned")

    async def check():
        async with listening(Okx(), process_request=refuse) as url, feeding("okx", url):
            await passing(lambda: len(tried_s) == 2, within_s=300, step_s=1.0)

    run(check(), skipping=True)
    assert tried_s[1] - tried_s[0] >= BANNED_S


def test_a_notice_of_the_venue_is_logged(caplog):
    async def check():
        okx = Okx()
        async with listening(okx) as url, feeding("okx", url):
            await passing(lambda: okx.subscribed)
            notice = {"event": "notice", "code": "64008", "msg": "upgrade soon", "connId": "a4d3ae55"}
            await okx.peers[0].send(json.dumps(notice))
            await passing(lambda: "okx says: 64008 upgrade soon" in warnings(caplog))

    run(check(), skipping=True)


def test_cancelling_closes_the_link_politely():
    async def check():
        okx = Okx()
        async with listening(okx) as url:
            async with feeding("okx", url):
                await passing(lambda: okx.subscribed)
            await passing(lambda: okx.closes)
        assert okx.closes == [1000]

    run(check())


def test_a_paused_session_keeps_its_link_and_loses_nothing():
    async def check():
        okx = Okx(ticks=False)
        async with listening(okx) as url:
            config = CollectorConfig(SYMBOLS, NATIVES, {"okx": Endpoint(url, url)}, seed=1)
            feed = VenueFeed("okx", config, ReceiveClock(), None)
            session = feed.sessions[0]
            running = asyncio.create_task(session.run())
            await passing(lambda: len(okx.subscribed) == 4)
            session.pause()
            for number in range(500):
                await okx.peers[0].send(trade(number))
            feed.flush()
            await asyncio.sleep(100)  # far beyond what a missing pong or silence would be allowed
            assert session.current.frames == []
            assert (feed.counters.state, len(okx.opened_s)) == ("live", 1)
            session.resume()
            await passing(lambda: feed.counters.messages >= 504)
            ids = feed.flush().ticks["trade_id"].tolist()
            assert ids == [str(number).encode() for number in range(500)]
            running.cancel()
            await asyncio.gather(running, return_exceptions=True)

    run(check(), skipping=True)


def test_a_paused_session_does_not_connect():
    async def check():
        okx = Okx()
        async with listening(okx) as url, feeding("okx", url) as feed:
            await passing(lambda: okx.subscribed)
            feed.sessions[0].pause()
            okx.peers[0].transport.abort()
            await asyncio.sleep(100)
            assert len(okx.opened_s) == 1
            feed.sessions[0].resume()
            await passing(lambda: len(okx.opened_s) == 2)

    run(check(), skipping=True)


def test_a_bad_token_reply_is_a_failure_like_any_other(start_simulator, caplog):
    """KuCoin's handshake against another venue's REST: a reply, but not a token."""
    simulator = start_simulator("--venues", "okx", "--rate", "10", "--symbols", "2")

    async def check():
        counters = VenueCounters()
        endpoint = Endpoint(**simulator.endpoints["okx"])
        session = Session(Route.to(VENUES["kucoin"], ReceiveClock(), endpoint), counters, rng=random.Random(1))
        session.add("BTC-USDT")
        running = asyncio.create_task(session.run())
        await passing(lambda: counters.reconnects >= 2)
        running.cancel()
        await asyncio.gather(running, return_exceptions=True)
        assert counters.state == "down"

    run(check())
    assert "kucoin is down: HTTP 404" in warnings(caplog)


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
