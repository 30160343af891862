import asyncio
import json
import random
import time
from dataclasses import replace
from http import HTTPStatus
from itertools import pairwise

import pytest

from connectors import session as module
from connectors.clock import ReceiveClock
from connectors.connection import ACK_TIMEOUT_S
from connectors.feed import VenueFeed
from connectors.pipe import CollectorConfig, Endpoint
from connectors.retry import BANNED_S
from connectors.route import Route
from connectors.session import Session
from connectors.venues import VENUES
from market.schema import VenueCounters
from tests.connectors.made import NATIVES, SYMBOLS, TOPICS, Binance, Okx, feeding, trade, warnings
from tests.connectors.peers import listening, passing, run


def test_a_refusal_is_counted_and_named(caplog):
    async def check():
        async with listening(Okx(refused={"ETH-USDT"})) as url, feeding("okx", url) as feed:
            await passing(lambda: feed.counters.refused == 2)
            await asyncio.sleep(1.2 * ACK_TIMEOUT_S)
            assert feed.sessions[0].unanswered == 0

    run(check(), skipping=True)
    (text,) = [text for text in warnings(caplog) if "refused" in text]
    assert "okx refused ETH-USDT: 60018" in text


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


def test_a_refused_symbol_is_not_asked_for_again_on_reconnect_but_later(monkeypatch):
    monkeypatch.setattr(module, "REFUSED_S", 20.0)

    async def check():
        okx = Okx(refused={"ETH-USDT"})
        async with listening(okx) as url, feeding("okx", url) as feed:
            (session,) = feed.sessions
            await passing(lambda: len(okx.subscribed) == 4)
            await passing(lambda: session.unanswered == 0)
            await okx.peers[0].close(1012)
            await passing(lambda: len(okx.subscribed) == 6)
            session.retry_refused()
            await asyncio.sleep(10)
            assert {native for _, native in okx.subscribed[4:]} == {"BTC-USDT"}
            await asyncio.sleep(20)
            session.retry_refused()
            await passing(lambda: ("trades", "ETH-USDT") in okx.subscribed[6:])
            await passing(lambda: session.unanswered == 0)
            await asyncio.sleep(20)
            before = len(okx.subscribed)
            session.retry_refused()  # the second wait is twice as long
            await asyncio.sleep(10)
            assert {native for _, native in okx.subscribed[before:]} <= {"BTC-USDT"}

    run(check(), skipping=True)


EIGHT = {f"C{number}-USDT": f"C{number}USDT" for number in range(8)}


@pytest.mark.parametrize("closes", [False, True])
def test_a_refusal_that_names_nobody_is_narrowed_down_to_the_symbol(closes, caplog):
    """On Binance one malformed stream spoils the request, and the venue may close the connection over it."""
    binance = Binance(bad=["C5USDT"], closes=closes)

    async def check():
        async with listening(binance) as url, feeding("binance", url, natives=EIGHT) as feed:
            flowing = asyncio.create_task(binance.flow(EIGHT.values(), 5.0))
            good = {native for native in EIGHT.values() if native != "C5USDT"}

            def settled():
                topics = binance.topics.get(binance.peers[-1] if binance.peers else None, ())
                wanted = {f"{native.lower()}@trade" for native in good} <= set(topics)
                return wanted and "refused C5USDT" in caplog.text and feed.counters.state == "live"

            await passing(settled, within_s=200, step_s=1.0)
            await asyncio.sleep(20)
            connections, requests = len(binance.peers), len(binance.requests)
            await asyncio.sleep(60)
            assert (len(binance.peers), len(binance.requests)) == (connections, requests)
            assert feed.counters.state == "live"
            flowing.cancel()

    run(check(), skipping=True)
    assert "binance refused C5USDT: 2 Invalid request: invalid stream" in warnings(caplog)
    assert len(binance.requests) < 60


def test_a_symbol_acknowledged_and_silent_is_asked_for_once_more_and_counted(caplog):
    binance = Binance()

    async def check():
        async with listening(binance) as url, feeding("binance", url) as feed:
            flowing = asyncio.create_task(binance.flow(["BTCUSDT"], 5.0))
            await asyncio.sleep(200)
            assert feed.counters.silent_symbols == 1
            assert (feed.counters.state, feed.counters.reconnects) == ("live", 0)
            asked = [binance.asked(method, "ETHUSDT") for method in ("SUBSCRIBE", "UNSUBSCRIBE")]
            assert asked == [2, 1]
            assert binance.asked("SUBSCRIBE", "BTCUSDT") == 1
            flowing.cancel()
            flowing = asyncio.create_task(binance.flow(["BTCUSDT", "ETHUSDT"], 5.0))
            await asyncio.sleep(15)
            assert feed.counters.silent_symbols == 0
            flowing.cancel()

    run(check(), skipping=True)
    expected = ["binance: 1 symbols are silent: ETH-USDT", "binance: 1 symbols are heard again: ETH-USDT"]
    assert warnings(caplog) == expected


def test_what_is_delisted_is_unsubscribed_and_forgotten_and_what_is_listed_again_subscribed(caplog):
    binance = Binance()

    async def check():
        async with listening(binance) as url, feeding("binance", url) as feed:
            flowing = asyncio.create_task(binance.flow(["BTCUSDT", "ETHUSDT"], 5.0))
            await passing(lambda: binance.asked("SUBSCRIBE", "ETHUSDT"))
            await asyncio.sleep(10)
            assert feed.update({"BTC-USDT": "BTCUSDT"}) == ([], [])
            await passing(lambda: binance.asked("UNSUBSCRIBE", "ETHUSDT"))
            (session,) = feed.sessions
            assert (session.natives, len(session.native_of)) == ({"BTCUSDT"}, 2)
            await asyncio.sleep(100)
            assert feed.counters.silent_symbols == 0
            feed.update({"BTC-USDT": "BTCUSDT", "ETH-USDT": "ETHUSDT"})
            await passing(lambda: binance.asked("SUBSCRIBE", "ETHUSDT") == 2)
            assert len(binance.peers) == 1
            assert feed.counters.rejects == feed.counters.unknown_symbols == 0
            flowing.cancel()

    run(check(), skipping=True)
    assert warnings(caplog) == []


def test_connections_of_a_venue_share_its_budget(monkeypatch):
    okx, venue = Okx(), VENUES["okx"]
    limits = replace(venue.LIMITS, topics_per_connection=2, connections_per_window=(2, 100.0))
    monkeypatch.setattr(venue, "LIMITS", limits)

    async def check():
        async with listening(okx) as url, feeding("okx", url) as feed:
            assert len(feed.sessions) == 2
            await passing(lambda: len(okx.opened_s) == 2, within_s=150, step_s=1.0)

    run(check(), skipping=True)
    assert okx.opened_s[1] - okx.opened_s[0] == pytest.approx(100, abs=2)


def test_a_venue_away_for_an_hour_costs_next_to_nothing():
    """Less than a hundredth of a core, at most two attempts a minute on the average."""
    tried = []

    def refuse(connection, request):
        tried.append(request)
        return connection.respond(HTTPStatus.SERVICE_UNAVAILABLE, "down")

    async def check():
        async with listening(Okx(), process_request=refuse) as url:
            route = Route.to(VENUES["okx"], ReceiveClock(), Endpoint(url, url))
            session = Session(route, VenueCounters(), rng=random.Random(1))
            session.add("BTC-USDT")
            running = asyncio.create_task(session.run())
            started_s = time.process_time()
            await asyncio.sleep(3600)
            assert time.process_time() - started_s < 36
            running.cancel()
            await asyncio.gather(running, return_exceptions=True)

    run(check(), skipping=True)
    assert 60 < len(tried) < 200


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
