"""Hand-made venues that talk as the real ones do, and a feed on them."""

import asyncio
import json
import logging
from contextlib import asynccontextmanager, suppress

from websockets.exceptions import ConnectionClosed

from connectors.clock import ReceiveClock
from connectors.feed import VenueFeed
from connectors.pipe import CollectorConfig, Endpoint
from tests.connectors.ticks import START_NS

SYMBOLS = ["BTC-USDT", "ETH-USDT"]
NATIVES = {
    "okx": {"BTC-USDT": "BTC-USDT", "ETH-USDT": "ETH-USDT"},
    "binance": {"BTC-USDT": "BTCUSDT", "ETH-USDT": "ETHUSDT"},
    "bybit": {"BTC-USDT": "BTCUSDT", "ETH-USDT": "ETHUSDT"},
    "kraken": {"BTC-USDT": "BTC/USDT", "ETH-USDT": "ETH/USDT"},
}
PUMP_S = 1.0


@asynccontextmanager
async def feeding(venue, ws, rest="http://127.0.0.1:9", natives=None, taken=None):
    """Run a venue's sessions as the collector does, decoding once a second; yields the feed.

    Its receive clock is the loop's, which may skip. What it decodes is added to `taken`.
    """
    natives = natives or NATIVES[venue]
    config = CollectorConfig(sorted({*SYMBOLS, *natives}), {venue: natives}, {venue: Endpoint(ws, rest)}, seed=1)
    loop = asyncio.get_running_loop()
    feed = VenueFeed(venue, config, ReceiveClock(lambda: START_NS + int(loop.time() * 1e9)), None)

    async def pump():
        while True:
            ticks = feed.flush().ticks
            if taken is not None and ticks.size:
                taken.append(ticks)
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


class Binance:
    """A hand-made Binance: acknowledges what it knows, and what it does not know too unless the name is `bad`."""

    def __init__(self, *, bad=(), closes=False):
        self.bad, self.closes = {native.lower() for native in bad}, closes
        self.requests = []
        self.peers = []
        self.topics = {}

    async def __call__(self, peer):
        self.peers.append(peer)
        topics = self.topics[peer] = set()
        with suppress(ConnectionClosed):
            while True:
                request = json.loads(await peer.recv())
                await self.hear(peer, topics, request)

    async def hear(self, peer, topics, request):
        self.requests.append((request["method"], request["params"]))
        if any(topic.split("@")[0] in self.bad for topic in request["params"]):
            error = {"error": {"code": 2, "msg": "Invalid request: invalid stream"}, "id": request["id"]}
            await peer.send(json.dumps(error))
            if self.closes:
                await peer.close(1008)
            return
        (topics.update if request["method"] == "SUBSCRIBE" else topics.difference_update)(request["params"])
        await peer.send(json.dumps({"result": None, "id": request["id"]}))

    def asked(self, method, native):
        """Return how often there was a request with a symbol."""
        return sum(name == method and f"{native.lower()}@trade" in params for name, params in self.requests)

    async def flow(self, natives, gap_s):
        """Send trades of these symbols to whoever wants them, for ever."""
        number = 0
        while True:
            number += 1
            for peer, topics in self.topics.items():
                for native in natives:
                    if f"{native.lower()}@trade" in topics:
                        with suppress(ConnectionClosed):
                            await peer.send(binance_trade(number, native))
            await asyncio.sleep(gap_s)
