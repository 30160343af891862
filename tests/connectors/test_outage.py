"""A venue that cannot be reached for long: what it costs, what it says, and that the others do not wait for it."""

import asyncio
import logging
import socket
from contextlib import asynccontextmanager
from http import HTTPStatus

import pytest
from websockets.asyncio.server import serve

from connectors import connection, session
from connectors.clock import ReceiveClock
from connectors.feed import AHEAD_S, VenueFeed
from connectors.pipe import CollectorConfig, Endpoint, Serve, Stop
from market.venues import VENUE_CODES
from tests.connectors import made
from tests.connectors.feeds import NATIVES, SYMBOLS, Wall, check_promises, config
from tests.connectors.made import Binance, Okx, feeding
from tests.connectors.peers import listening, passing, run
from tests.connectors.test_collector import Reader

HOUR_S = 3_600


def a_closed_port():
    with socket.socket() as found:
        found.bind(("127.0.0.1", 0))
        return found.getsockname()[1]


@asynccontextmanager
async def opening(port, handler):
    """Begin to serve on a port."""
    async with serve(handler, "127.0.0.1", port, ping_interval=None, compression=None, close_timeout=1):
        yield


async def hang(peer):
    """Accept and say nothing."""
    await peer.wait_closed()


def said(caplog):
    return [record.getMessage() for record in caplog.records if record.name.startswith("mie.")]


@pytest.fixture
def seldom(monkeypatch):
    """An hour passes in seconds: deadlines are looked at less often."""
    monkeypatch.setattr(made, "PUMP_S", 10.0)
    monkeypatch.setattr(connection, "BEAT_S", 2.0)
    monkeypatch.setattr(session, "BEAT_S", 2.0)


@pytest.mark.usefixtures("seldom")
def test_an_hour_of_refusals_is_one_line_in_the_log_and_shows_in_the_counters(caplog):
    caplog.set_level(logging.INFO)
    port = a_closed_port()

    async def check():
        async with feeding("binance", f"ws://127.0.0.1:{port}") as feed:
            await asyncio.sleep(HOUR_S)
            assert (feed.counters.state, feed.counters.silent_symbols) == ("down", 2)
            assert 60 < feed.counters.reconnects < 300  # the back-off's cap is a minute, its mean half of that
            assert len(said(caplog)) == 1
            async with opening(port, Binance()):
                await passing(lambda: feed.counters.state == "live", within_s=130, step_s=1.0)
                await passing(lambda: feed.counters.silent_symbols == 0, within_s=30, step_s=1.0)
                return said(caplog)

    first, second = run(check(), skipping=True)
    assert first.startswith("binance is down: ")
    assert second == "binance is live"


@pytest.mark.usefixtures("seldom")
def test_a_venue_that_accepts_and_hangs_is_tried_ever_more_rarely():
    """Each silence ends the link, and the next attempt waits longer."""
    opened_s = []

    async def handle(peer):
        opened_s.append(asyncio.get_running_loop().time())
        await hang(peer)

    async def check():
        async with listening(handle) as url, feeding("kraken", url):
            await asyncio.sleep(HOUR_S)

    run(check(), skipping=True)
    assert 20 < len(opened_s) < 150
    assert opened_s[-1] - opened_s[-10] > 200


def test_a_venue_is_down_while_any_of_its_connections_is_and_says_how_much_of_it(caplog):
    caplog.set_level(logging.INFO)
    natives = {f"C{number}-USDT": f"C{number}USDT" for number in range(600)}
    binance, shut = Binance(), asyncio.Event()

    def refuse(connection, request):
        return connection.respond(HTTPStatus.SERVICE_UNAVAILABLE, "shut") if shut.is_set() else None

    def peer_of(session):
        for peer, topics in binance.topics.items():
            if topics and {topic.split("@")[0].upper() for topic in topics} <= session.natives:
                return peer
        return None

    async def check():
        async with (
            listening(binance, process_request=refuse) as url,
            feeding("binance", url, natives=natives) as feed,
        ):
            first, second = feed.sessions
            await passing(lambda: peer_of(first) and peer_of(second))
            shut.set()
            peer_of(second).transport.abort()
            await passing(lambda: feed.counters.silent_symbols == len(second.natives))
            assert feed.counters.state == "down"
            peer_of(first).transport.abort()
            await passing(lambda: feed.counters.silent_symbols == 600)
            shut.clear()
            await passing(lambda: feed.counters.state == "live", within_s=60)
            return said(caplog)

    # An aborted link ends with or without a reset, as the system has it.
    told = [text.split(": [Errno")[0] for text in run(check(), skipping=True) if "live" in text or "down" in text]
    assert told == [
        "binance is live",
        "binance is down: connection lost",
        "binance: 0 of 2 connections are live: connection lost",
        "binance: 1 of 2 connections are live",
        "binance is live",
    ]


# what it costs the others


def test_a_venue_that_waits_sends_little_and_holds_nobody_back():
    """In real time: OKX's promises must not wait for Binance's, whose port is closed and then opened."""
    port = a_closed_port()

    async def check():
        async with listening(Okx()) as url:
            endpoints = {"okx": Endpoint(url, url), "binance": Endpoint(f"ws://127.0.0.1:{port}", url)}
            reader = Reader()
            await reader.say(CollectorConfig(SYMBOLS, NATIVES, endpoints, seed=1), Serve("binance"), Serve("okx"))
            while len(of("okx", reader)) < 600:
                assert await reader.read()
            waiting = [list(reader.batches), of("binance", reader), of("okx", reader)]
            async with opening(port, flow):
                while not reader.trade_ids:
                    assert await reader.read()
                await reader.say(Stop())
                await reader.read_to_the_end()
        return waiting, reader

    async def flow(peer):
        binance = Binance()
        pushing = asyncio.create_task(binance.flow(["BTCUSDT"], 0.01))
        await binance(peer)
        pushing.cancel()

    def of(name, reader):
        return [batch for batch in reader.batches if batch.venue == VENUE_CODES[name]]

    (both, binance, okx), reader = run(check())
    assert len(binance) < len(okx) / 2
    mark = {VENUE_CODES["binance"]: 0, VENUE_CODES["okx"]: 0}
    behind_ns = []
    for batch in both:
        mark[batch.venue] = batch.watermark_ns
        behind_ns.append(mark[VENUE_CODES["okx"]] - mark[VENUE_CODES["binance"]])
    assert max(behind_ns[20:]) < 50_000_000  # of one flush of both the second comes a moment later
    for name in ("binance", "okx"):
        check_promises(name, of(name, reader))


def test_what_comes_within_a_promise_is_stamped_behind_it():
    """A symbol is listed while the venue has none and promises ahead; its clock stands still meanwhile, too."""
    wall = Wall()

    async def check():
        feed = VenueFeed("kraken", config(), ReceiveClock(wall), None)
        batches = [feed.flush(0.0)]
        assert feed.due_s == AHEAD_S
        assert batches[0].watermark_ns == pytest.approx(wall.now_ns + AHEAD_S * 1e9, abs=10)
        feed.update({"BTC-USDT": "BTC/USD"})
        row = {"symbol": "BTC/USD", "side": "sell", "price": 1.5, "qty": 2.0, "ord_type": "market", "trade_id": 7}
        text = '{"channel":"trade","type":"update","data":[%s]}'
        frame = text % str({**row, "timestamp": "2026-09-21T14:13:20.000000Z"}).replace("'", '"')
        feed.sessions[0].current.frames = [([frame.encode()], wall.now_ns + 5), ([frame.encode()], wall.now_ns + 9)]
        batches += [feed.flush(0.1), feed.flush(0.2)]
        return batches

    batches = run(check())
    assert [batch.ticks.size for batch in batches] == [0, 2, 0]
    check_promises("kraken", batches)


def test_without_the_time_nothing_is_promised_ahead():
    wall = Wall()

    async def check():
        return VenueFeed("kraken", config(), ReceiveClock(wall), None).flush()

    assert run(check()).watermark_ns <= wall.now_ns + 5
