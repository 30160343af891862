import random
import time

from connectors.clock import ReceiveClock
from connectors.gaps import GRACE_NS
from connectors.holes import Holes
from connectors.position import Known, Position
from connectors.route import Route
from connectors.venue import Catalog, Hole
from connectors.venues import VENUES
from market.schema import Gap, VenueCounters
from tests.connectors.peers import run
from tests.connectors.test_gaps import trades

CATALOG = Catalog({"A-B": "AB"}, {"A-B": 0})


def holes_of(venue, act, known=None):
    """Return what `act(holes, counters)` returns, in a running loop, and the holes counted."""

    async def check():
        counters = VenueCounters(state="live")
        holes = Holes(Route.to(VENUES[venue], ReceiveClock()), CATALOG, 1, counters, random.Random(1), known)
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


def test_at_the_end_a_symbol_that_was_not_heard_since_its_link_was_lost_has_a_gap():
    def act(holes, counters):
        holes.saw(trades([5]), None)
        counters.reconnects += 1
        holes.take(2)
        holes.give_up()
        return holes.take(5)[1]

    for venue in ("binance", "bybit"):
        (gap,), _ = holes_of(venue, act)
        assert (gap.from_ns, gap.missing, gap.filled) == (5, 0, False)
        assert gap.to_ns > time.time_ns() - 60 * 10**9


def position_of(steps):
    position = Position(["A-B"])
    for step in steps:
        position.add(step)
    return position.known()


def test_a_position_moves_with_the_batch_that_moves_it():
    hole = Hole(0, 5, 9, 5, 9)

    def act(holes, counters):
        holes.saw(trades([5, 9], receive_ns=0), None)
        holes.take(0)
        steps = [holes.step()]
        assert position_of(steps) == Known([(0, 9, 9)], [hole])
        holes.take(GRACE_NS)  # asked for, and not yet answered
        steps.append(holes.step())
        assert position_of(steps).holes == [hole]
        holes.saw(trades([10], receive_ns=0), None)
        steps.append(holes.step())
        assert holes.step() == b""
        return position_of(steps)

    assert holes_of("binance", act)[0] == Known([(0, 10, 10)], [hole])


def test_a_hole_that_is_done_with_leaves_the_position():
    def act(holes, counters):
        holes.saw(trades([5, 5 + 10**5], receive_ns=0), None)
        steps = [holes.step()]
        assert len(position_of(steps).holes) == 1
        _, (gap,) = holes.take(GRACE_NS)  # more than is asked for
        assert not gap.filled
        return position_of([*steps, holes.step()])

    assert holes_of("binance", act)[0].holes == []


def test_what_is_given_up_at_the_end_is_asked_for_by_the_next_run():
    def act(holes, counters):
        holes.saw(trades([5, 9], receive_ns=0), None)
        steps = [holes.step()]
        holes.give_up()
        assert len(holes.take(1)[1]) == 1
        return position_of([*steps, holes.step()])

    assert holes_of("binance", act)[0] == Known([(0, 9, 9)], [Hole(0, 5, 9, 5, 9)])


def test_what_another_one_has_handed_out_is_gone_on_from():
    def act(holes, counters):
        holes.saw(trades([20], receive_ns=0), None)
        holes.take(0)
        assert position_of([holes.step()]).holes == [Hole(0, 9, 20, 9, 20), Hole(0, 5, 9, 5, 9)]
        holes.take(GRACE_NS)
        assert counters.gaps == 2
        holes.give_up()
        return sorted(gap.missing for gap in holes.take(GRACE_NS)[1])

    known = Known([(0, 9, 9)], [Hole(0, 5, 9, 5, 9)])
    assert holes_of("binance", act, known)[0] == [3, 10]


def test_the_holes_of_a_symbol_let_go_are_gaps_and_its_position_nothing():
    def act(holes, counters):
        holes.saw(trades([5, 9], receive_ns=0), None)
        steps = [holes.step()]
        holes.forget({0})
        _, gaps = holes.take(GRACE_NS)
        assert gaps == [Gap(0, 0, 5, 9, 3, filled=False)]
        position = position_of([*steps, holes.step()])
        holes.saw(trades([700, 701], receive_ns=GRACE_NS), None)
        assert holes.take(3 * GRACE_NS) == ([], [])
        return position

    assert holes_of("binance", act) == (Known([], []), 1)
