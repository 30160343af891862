import time

import pytest

from simulator.feed import AHEAD_NS, MOST_BEHIND_NS, Feed, Pending
from simulator.history import History
from simulator.market import BLOCK_NS, Market, Quotes
from simulator.server import Port
from simulator.universe import build_universe
from simulator.venues import VENUE_TYPES


def quotes(*send_ns):
    return Quotes(list(send_ns), *([1] * len(send_ns) for _ in range(7)))


def test_pending_rows_are_taken_once_and_when_due():
    pending = Pending(Quotes)
    assert pending.take(100) is None
    pending.add(quotes(10, 20, 30))
    assert pending.take(20).send_ns == [10, 20]
    assert pending.take(20) is None
    pending.add(quotes(40, 50))
    assert pending.take(45).send_ns == [30, 40]
    assert pending.take(99).send_ns == [50]


@pytest.fixture
def parts():
    universe = build_universe(5)
    start = time.time_ns()
    market = Market(universe, seed=1, rate=5000, start_ns=start, wicks_per_minute=0)
    history = History(universe, seed=1, start_ns=start)
    port = Port(VENUE_TYPES["bitget"](universe, market, history), dict, paced=True)
    return market, history, port


def test_a_step_makes_the_market_ahead_and_sends_nothing_early(parts):
    market, history, port = parts
    ledger = []
    feed = Feed(market, history, [port], ledger.append)
    start = market.now_ns
    feed.step(start)
    assert market.now_ns >= start + AHEAD_NS
    got = []
    port.clients.add(_Client())
    port.venue.routes["trade"][0].append(got.append)
    feed.step(start + 10_000_000)
    assert got == []  # the venue's delay is longer
    for step in range(1, 100):
        feed.step(start + step * 10_000_000)
    assert got
    lines = [line for batch in ledger for line in batch]
    assert len(lines) == port.trades
    assert all(line.startswith("bitget,BTC-USDT,") for line in lines)


def test_a_long_pause_is_skipped(parts):
    market, history, port = parts
    feed = Feed(market, history, [port])
    feed.step(market.now_ns)
    late = market.now_ns + 5 * MOST_BEHIND_NS
    feed.step(late)
    assert feed.skipped_ms == 5 * MOST_BEHIND_NS // 1_000_000
    assert late < market.now_ns <= late + AHEAD_NS + BLOCK_NS


class _Client:
    def flush(self):
        """The test reads the route itself."""
