import pytest

from simulator.history import History
from simulator.market import Market
from simulator.universe import build_universe
from simulator.venues import VENUE_TYPES
from simulator.venues.base import compact, interval_seconds, number, plain, read_json, seconds

START_NS = 1_790_000_000_000_000_000
UNIVERSE = build_universe(12)


class Peer:
    def __init__(self):
        self.topics, self.frames = set(), []
        self.put = self.frames.append


@pytest.fixture(params=VENUE_TYPES)
def venue(request):
    market = Market(UNIVERSE, seed=1, rate=1000, start_ns=START_NS, wicks_per_minute=0)
    return VENUE_TYPES[request.param](UNIVERSE, market, History(UNIVERSE, seed=1, start_ns=START_NS))


def test_only_topics_with_subscribers_are_formatted(venue):
    channel, peer, other = venue.CHANNELS[0], Peer(), Peer()
    symbol = next(iter(venue.listing))
    assert venue.subscribe(peer, channel, symbol)
    assert not venue.subscribe(peer, channel, symbol)
    assert venue.subscribe(other, channel, symbol)
    rows = venue.market.old_trades(venue.listing[symbol], 5)
    assert venue.trades(rows, venue.routes) == 10
    assert peer.frames == other.frames
    assert peer.frames
    venue.closed(other)
    assert venue.trades(rows, venue.routes) == 5
    venue.unsubscribe(peer, channel, symbol)
    assert venue.trades(rows, venue.routes) == 0
    assert venue.ledger_lines(rows) == []
    venue.notes_all = True
    assert [line.split(",")[6] for line in venue.ledger_lines(rows)] == ["-1"] * 5


def test_a_new_subscriber_can_be_given_the_present_quote(venue):
    peer = Peer()
    symbol = next(iter(venue.listing))
    venue.push_quote(peer, venue.CHANNELS[1], symbol, START_NS)
    assert len(peer.frames) == 1
    assert venue.native[symbol] in peer.frames[0]


@pytest.mark.parametrize(
    ("text", "wanted"),
    [("1m", 60), ("1min", 60), ("5", 300), ("1H", 3600), ("1hour", 3600), ("1D", 86400), ("1s", None), ("x", None)],
)
def test_interval_names(text, wanted):
    assert interval_seconds(text) == wanted


def test_values_from_clients():
    assert (number("12"), number("x"), number(None)) == (12, None, None)
    assert (seconds("60001"), seconds("60000"), seconds(None)) == (61, 60, None)
    assert (read_json("{"), read_json("[1]")) == (None, [1])
    assert compact({"b": 1, "a": None}) == '{"b":1,"a":null}'
    assert (plain(1e-9, 12), plain(100.0), plain(0.5)) == ("0.000000001", "100", "0.5")
