"""Planned replacement of a connection: the next one delivers before the old one closes, and nothing is missed."""

import asyncio
import json
from contextlib import asynccontextmanager, suppress
from dataclasses import replace
from http import HTTPStatus

import numpy as np
import pytest
from websockets.exceptions import ConnectionClosed

from connectors import session as module
from connectors.venues import VENUES
from tests.connectors.made import Okx, feeding, trade, warnings
from tests.connectors.peers import listening, passing, run

LIFE_S = 100.0
BTC = {"BTC-USDT": "BTC-USDT"}
NOTICE = {"event": "notice", "code": "64008", "msg": "upgrade soon", "connId": "a4d3ae55"}


def quote(number):
    row = {"asks": [[str(number + 1), "1", "0", "1"]], "bids": [[str(number), "1", "0", "1"]], "ts": "1700000000000"}
    return json.dumps({"arg": {"channel": "bbo-tbt", "instId": "BTC-USDT"}, "data": [row]})


class Market(Okx):
    """An OKX with one market: every connection that has subscribed gets the same numbered trades and quotes.

    Connections beyond `served` get none, and all are closed at the age of `life_s`.
    """

    def __init__(self, *, served=99, life_s=None):
        super().__init__(ticks=False)
        self.served = served
        self.life_s = life_s
        self.number = 0
        self.wanting = []

    async def __call__(self, peer):
        if self.life_s is not None:
            asyncio.get_running_loop().call_later(self.life_s, peer.transport.abort)
        await super().__call__(peer)

    async def hear(self, peer, frame):
        await super().hear(peer, frame)
        if frame != "ping" and peer not in self.wanting:
            self.wanting.append(peer)

    async def flow(self):
        while True:
            if self.wanting:
                self.number += 1
            for peer in self.wanting[: self.served]:
                with suppress(ConnectionClosed):
                    await peer.send(trade(self.number))
                    await peer.send(quote(self.number))
            await asyncio.sleep(0.5)


@asynccontextmanager
async def trading(market, taken, **options):
    async with listening(market, **options) as url, feeding("okx", url, natives=BTC, taken=taken) as feed:
        flowing = asyncio.create_task(market.flow())
        yield feed
        flowing.cancel()


def check_whole(taken, market, late=4):
    """Assert that every trade came at least once, and every quote once, in order."""
    ticks = np.concatenate(taken)
    trades = [int(number) for number in ticks["trade_id"][ticks["kind"] == 0]]
    quotes = ticks["bid"][ticks["kind"] == 1]
    assert set(trades) >= set(range(1, market.number - late))
    assert quotes.tolist() == list(range(1, quotes.size + 1))
    return len(trades) - len(set(trades))


@pytest.fixture
def short_life(monkeypatch):
    okx = VENUES["okx"]
    monkeypatch.setattr(okx, "LIMITS", replace(okx.LIMITS, connection_life_s=LIFE_S))


def test_a_connection_is_replaced_before_the_venue_closes_it(short_life, caplog):
    market, taken = Market(life_s=LIFE_S), []

    async def check():
        async with trading(market, taken) as feed:
            await asyncio.sleep(2.2 * LIFE_S)
            assert (feed.counters.reconnects, feed.counters.state) == (0, "live")
            assert len(feed.sessions[0].connections) == 1

    run(check(), skipping=True)
    assert len(market.opened_s) == 3
    assert set(market.closes) == {1000}
    assert check_whole(taken, market) >= 2 * module.OVERLAP_S
    assert warnings(caplog) == []


def test_a_notice_replaces_it_at_once_and_a_second_one_does_not(caplog):
    market, taken = Market(), []

    async def check():
        async with trading(market, taken) as feed:
            await passing(lambda: market.number > 10)
            for _ in range(2):
                await market.peers[0].send(json.dumps(NOTICE))
            await passing(lambda: market.closes, within_s=20)
            await market.peers[1].send(json.dumps(NOTICE))
            await asyncio.sleep(20)
            assert feed.counters.reconnects == 0

    run(check(), skipping=True)
    assert len(market.opened_s) == 2
    check_whole(taken, market)


def test_a_successor_that_does_not_deliver_is_given_up(short_life, caplog):
    market, taken = Market(served=1), []

    async def check():
        async with trading(market, taken) as feed:
            await passing(lambda: len(market.closes) == 1, within_s=2 * LIFE_S, step_s=1.0)
            assert feed.counters.reconnects == 0
            await asyncio.sleep(5)

    run(check(), skipping=True)
    assert "okx: a successor is given up: it lacks 1 symbols" in warnings(caplog)
    check_whole(taken, market)


def test_a_successor_that_cannot_connect_is_tried_again_later(short_life, caplog):
    market, taken = Market(), []
    tried = []

    def refuse(connection, request):
        tried.append(request)
        return connection.respond(HTTPStatus.SERVICE_UNAVAILABLE, "down") if len(tried) == 2 else None

    async def check():
        async with trading(market, taken, process_request=refuse) as feed:
            await passing(lambda: market.closes, within_s=3 * LIFE_S, step_s=1.0)
            assert feed.counters.reconnects == 0

    run(check(), skipping=True)
    assert len(tried) == 3
    assert len(warnings(caplog)) == 1
    check_whole(taken, market)


def test_a_link_lost_meanwhile_leaves_the_successor(caplog):
    market, taken = Market(), []

    async def check():
        async with trading(market, taken) as feed:
            await passing(lambda: market.number > 10)
            await market.peers[0].send(json.dumps(NOTICE))
            await passing(lambda: len(market.wanting) == 2)
            market.peers[0].transport.abort()
            await asyncio.sleep(10)
            assert (feed.counters.reconnects, feed.counters.state) == (1, "live")
            assert len(market.opened_s) == 2

    run(check(), skipping=True)


def test_stopping_during_a_handover_closes_both():
    market = Market()

    async def check():
        async with listening(market) as url:
            async with feeding("okx", url):
                await passing(lambda: market.wanting)
                await market.peers[0].send(json.dumps(NOTICE))
                await passing(lambda: len(market.wanting) == 2)
            await passing(lambda: len(market.closes) == 2)
        assert market.closes == [1000, 1000]

    run(check())
