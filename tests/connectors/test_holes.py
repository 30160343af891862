import random

from connectors.clock import ReceiveClock
from connectors.gaps import GRACE_NS
from connectors.holes import Holes
from connectors.route import Route
from connectors.venue import Catalog
from connectors.venues import VENUES
from market.schema import Gap, VenueCounters
from tests.connectors.peers import run
from tests.connectors.test_gaps import trades

CATALOG = Catalog({"A-B": "AB"}, {"A-B": 0})


def holes_of(venue, act):
    """Return what `act(holes, counters)` returns, in a running loop, and the holes counted."""

    async def check():
        counters = VenueCounters(state="live")
        holes = Holes(Route.to(VENUES[venue], ReceiveClock()), CATALOG, 1, counters, random.Random(1))
        return act(holes, counters), counters.gaps

    return run(check())


def test_a_hole_is_asked_for_when_it_is_due_and_a_gap_if_it_is_given_up():
    def act(holes, counters):
        holes.saw(trades([5, 9], receive_ns=0), None)
        assert holes.take(GRACE_NS - 1) == ([], [])
        assert counters.gaps == 0
        assert holes.take(GRACE_NS) == ([], [])
        assert counters.gaps == 1
        holes.give_up()
        return holes.take(GRACE_NS)

    (ticks, gaps), counted = holes_of("binance", act)
    assert (ticks, gaps, counted) == ([], [Gap(0, 0, 5, 9, 3, filled=False)], 1)


def test_a_hole_in_its_grace_is_given_up_too():
    def act(holes, counters):
        holes.saw(trades([5, 9], receive_ns=0), None)
        holes.give_up()
        return holes.take(1)[1]

    gaps, counted = holes_of("binance", act)
    assert ([gap.missing for gap in gaps], counted) == ([3], 1)


def test_a_lost_link_and_a_silence_open_holes_of_time():
    def act(holes, counters):
        holes.saw(trades([5]), None)
        holes.take(1)
        counters.reconnects += 1
        holes.take(2)
        holes.saw(trades([20]), None)
        holes.take(3)
        counters.state = "stale"
        holes.take(4)
        holes.saw(trades([90]), None)
        holes.give_up()
        return [(gap.from_ns, gap.to_ns) for gap in holes.take(5)[1]]

    assert holes_of("bybit", act) == ([(5, 20), (20, 90)], 2)
