import json
import time
from collections import defaultdict

import numpy as np
import pytest

from simulator.burst import Counters, Tape, render
from simulator.history import History
from simulator.market import Market
from simulator.universe import build_universe
from simulator.venues import VENUE_TYPES
from tests.simulator.client import send

NOW_NS = 1_790_000_000_123_456_789
UNIVERSE = build_universe(8)

# Where a frame keeps (symbol, trade id, ms of the trade); None if it is no trade.
READ = {
    "binance": lambda f: "t" in f["data"] and (f["data"]["s"], f["data"]["t"], f["data"]["T"]),
    "okx": lambda f: "tradeId" in f["data"][0] and (f["arg"]["instId"], f["data"][0]["tradeId"], f["data"][0]["ts"]),
    "bybit": lambda f: "publicTrade" in f["topic"] and (f["topic"], f["data"][0]["i"], f["data"][0]["T"]),
    "kraken": lambda f: f["channel"] == "trade" and (f["data"][0]["symbol"], f["data"][0]["trade_id"], None),
    "gateio": lambda f: (
        "range" in f["result"]
        and (f["result"]["currency_pair"], f["result"]["id"], f["result"]["create_time_ms"].partition(".")[0])
    ),
    "bitget": lambda f: "tradeId" in f["data"][0] and (f["arg"]["instId"], f["data"][0]["tradeId"], f["data"][0]["ts"]),
    "kucoin": lambda f: "tradeId" in f["data"] and (f["topic"], f["data"]["tradeId"], int(f["data"]["time"]) // 10**6),
}


def payloads(data):
    """Return the JSON payloads of a run of text frames."""
    at, found = 0, []
    while at < len(data):
        length, at = data[at + 1], at + 2
        if length == 126:
            length, at = int.from_bytes(data[at : at + 2]), at + 2
        found.append(json.loads(data[at : at + length]))
        at += length
    return found


@pytest.mark.parametrize("name", VENUE_TYPES)
def test_a_tape_goes_round_with_new_ids_and_present_times(name):
    market = Market(UNIVERSE, seed=1, rate=20_000, start_ns=NOW_NS, wicks_per_minute=0)
    venue = VENUE_TYPES[name](UNIVERSE, market, History(UNIVERSE, seed=1, start_ns=NOW_NS))
    venue.remembers = False
    topics = {(channel, symbol) for channel in venue.CHANNELS[:2] for symbol in venue.listing}
    blocks = [market.block() for _ in range(5)]
    frames = render(venue, topics, [(block.trades[name], block.quotes[name]) for block in blocks], 10_000)
    counters = Counters(venue)
    tape = Tape(venue, counters, frames)
    assert 0.1 < np.mean(tape.trade) < 0.5
    ids, sent = defaultdict(list), 0
    for lap in range(30):
        now_ns = NOW_NS + lap * 1_000_000_000
        data, count, trades = tape.take(len(tape) // 2, now_ns)
        made = payloads(data)
        assert len(made) == count
        sent += count
        read = [row for row in map(READ[name], made) if row]
        assert len(read) == trades
        for symbol, trade_id, ms in read:
            ids[symbol].append(int(trade_id))
            assert ms is None or int(ms) == (now_ns + venue.skew_ns) // 1_000_000
        text = data.decode("latin-1")
        assert "88888888" not in text
        assert "9" * venue.id_digits not in text
        if name == "kraken":
            second = (now_ns + venue.skew_ns) // 1_000_000_000
            assert time.strftime("%Y-%m-%dT%H:%M:%S.", time.gmtime(second)) in text
    assert sent > 5 * len(tape)
    for row in ids.values():
        assert row == list(range(row[0], row[0] + len(row)))


def test_as_fast_as_it_is_read(start_simulator):
    running = start_simulator("--rate", "0", "--venues", "okx", "--symbols", "5")
    with running.ws("okx", "/ws/v5/public", close_timeout=0.2) as client:
        args = [{"channel": channel, "instId": "BTC-USDT"} for channel in ("trades", "bbo-tbt")]
        send(client, {"op": "subscribe", "args": args})
        ids = []
        while len(ids) < 300:
            frame = json.loads(client.recv(timeout=10))
            if frame["arg"]["channel"] == "trades" and "data" in frame:
                ids.append(int(frame["data"][0]["tradeId"]))
        assert ids == list(range(ids[0], ids[0] + len(ids)))
    assert running.stats()["dropped"]["okx"] == 0
