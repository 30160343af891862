"""Second thoughts: which wicks come back, which stay, and when that is settled."""

from dataclasses import fields

import numpy as np
import pytest

from market.records import Wick
from market.schema import NS_PER_S, empty_ticks
from operators import horizon as module
from operators.consensus import Consensus
from operators.evidence import BACK_NS, CELL_NS, Evidence
from operators.forge import ForgePolicy
from operators.horizon import ACTIVE_NS, LATE_NS, PROBATION_NS, SUSPECT, Horizon
from operators.votes import FOLLOWED, FOLLOWED_LATE, FOLLOWED_PART, way
from tests.operators.markets import BASE, MS, START_NS, by_receipt, hold_of, learn, quotes, trades

WINDOW_NS = ForgePolicy().window_ms * MS
AT_MS = 20_000.0
MOVE = 0.05
QUIET = 1e-5


def suspect(symbol=0, venue=2, trade_id="1"):
    """Return a wick of MOVE at AT_MS, and its record."""
    tick = trades(venue, [AT_MS], MOVE, symbol=symbol, first_id=int(trade_id))
    event_ns = int(tick["event_ns"][0])
    gone = way(*(np.array([value]) for value in (np.log(BASE) + MOVE, np.log(BASE), np.log(BASE), QUIET)))
    found = np.zeros(1, SUSPECT)
    found["symbol"], found["venue"], found["event_ns"], found["released_ns"] = symbol, venue, event_ns, event_ns
    found["price"] = gone.end
    for column in fields(gone):
        found[column.name] = getattr(gone, column.name)
    wick = Wick(symbol, venue, trade_id, event_ns, event_ns, BASE, 1.0, 1, BASE, MOVE * 1e4, 1.0, 0.0, 1)
    return found, [(wick, tick)]


class Desk:
    """A horizon with one wick, over ticks that were judged before it and ticks that come after it."""

    def __init__(self, *parts, venues=(1,), every_ms=100.0, symbols=1, wicks=None):
        before = np.arange(0, AT_MS, every_ms)
        calm = [quotes(venue, before + venue, symbol=code) for venue in venues for code in range(symbols)]
        self.rows = by_receipt(empty_ticks(0), *calm, *parts)
        self.consensus, self.evidence, self.horizon = Consensus(symbols), Evidence(symbols), Horizon()
        self._hold = hold_of(self.rows, symbols)
        self._learned_ns = 0
        for one in [suspect()] if wicks is None else wicks:
            self.horizon.add(*one)

    def look(self, after_ns, least=1):
        """Let that much time pass since the wick and look again."""
        boundary_ns = START_NS + int(AT_MS * MS) + int(after_ns)
        for seen in self._hold.see(boundary_ns + WINDOW_NS):
            self.evidence.add(seen)
        self.evidence.advance(boundary_ns + WINDOW_NS)
        new = (self.rows["receive_ns"] > self._learned_ns) & (self.rows["receive_ns"] <= boundary_ns)
        if new.any():
            learn(self.consensus, self.rows[new])
        self.consensus.scale[:] = QUIET  # the rules on dispersion are of votes.py
        self._learned_ns = boundary_ns
        return self.horizon.look(boundary_ns, WINDOW_NS, least, self.evidence, self.consensus)


def after(*seconds):
    return AT_MS + np.array(seconds) * 1000


def test_a_wick_that_nobody_follows_is_settled_at_the_end_of_the_late_horizon():
    desk = Desk(quotes(1, after(0.1, 1.0, 1.9, 2.5, 3.0)))
    assert desk.look(0.2 * NS_PER_S) == []
    assert desk.look(LATE_NS - 1) == []
    assert len(desk.horizon) == 1
    assert desk.look(LATE_NS) == []
    assert len(desk.horizon) == 0


def test_one_whose_price_others_come_to_is_back_with_the_moment_that_is_known():
    desk = Desk(quotes(1, after(0.1), 0.0), quotes(1, after(0.4, 0.5), MOVE))
    assert desk.look(0) == []
    back = desk.look(0.4 * NS_PER_S)
    assert [one.wick.trade_id for one in back] == ["1"]
    assert back[0].wick.readmitted_ns == START_NS + int(AT_MS * MS) + int(0.4 * NS_PER_S) + WINDOW_NS
    assert back[0].tick["trade_id"].tolist() == [b"1"]
    assert len(desk.horizon) == 0


def test_a_glimpse_near_the_trade_is_enough_and_one_later_is_not():
    near_s, later_s = (BACK_NS - CELL_NS) / NS_PER_S, (BACK_NS + 2 * CELL_NS) / NS_PER_S
    for glimpse_s, count in ((near_s, 1), (later_s, 0)):
        desk = Desk(quotes(1, after(glimpse_s, glimpse_s + 0.01), [MOVE, 0.0]))
        assert len(desk.look(0.5 * NS_PER_S)) == count


@pytest.mark.parametrize(("share", "count"), [(FOLLOWED_LATE + 0.05, 1), ((FOLLOWED + FOLLOWED_LATE) / 2, 0)])
def test_later_they_must_come_farther_and_stand_there(share, count):
    desk = Desk(quotes(1, after(0.1)), quotes(1, after(*np.arange(1.0, 1.5, 0.02)), share * MOVE))
    assert desk.look(0.5 * NS_PER_S) == []
    assert len(desk.look(1.5 * NS_PER_S)) == count


def test_one_venue_of_many_that_comes_is_not_enough():
    came, stay = quotes(1, after(0.2), MOVE), [quotes(venue, after(0.2)) for venue in (0, 3, 4)]
    assert Desk(came, *stay, venues=(0, 1, 3)).look(0.3 * NS_PER_S) == []
    assert len(Desk(came, *stay[:2], venues=(0, 1, 3)).look(0.3 * NS_PER_S)) == 1


def test_one_that_came_a_part_of_the_way_is_not_against():
    came, stays = quotes(1, after(0.2), MOVE), [quotes(venue, after(0.2)) for venue in (0, 3)]
    for share, count in ((FOLLOWED_PART - 0.05, 0), ((FOLLOWED_PART + FOLLOWED) / 2, 1)):
        desk = Desk(came, *stays, quotes(4, after(0.2), share * MOVE), venues=(0, 1, 3, 4))
        assert len(desk.look(0.3 * NS_PER_S)) == count


def test_once_one_came_those_heard_lately_may_be_against_without_a_word():
    came, stay = quotes(1, after(0.2), MOVE), [quotes(venue, after(0.2)) for venue in (0, 3)]
    for before_s, count in ((ACTIVE_NS / NS_PER_S - 1, 0), (ACTIVE_NS / NS_PER_S + 1, 1)):
        desk = Desk(came, *stay, quotes(4, after(-before_s)), venues=(0, 1, 3))
        assert len(desk.look(0.3 * NS_PER_S)) == count


def test_the_own_venue_and_other_symbols_bring_nothing_back():
    desk = Desk(quotes(2, after(0.2), MOVE), quotes(1, after(0.2), MOVE, symbol=1), quotes(1, after(0.2)), symbols=2)
    assert desk.look(0.4 * NS_PER_S) == []
    assert len(desk.horizon) == 1


def test_on_probation_a_wick_stays_once_its_witness_was_heard():
    desk = Desk(quotes(1, after(3.0)), every_ms=700.0)
    assert desk.look(LATE_NS) == []
    assert len(desk.horizon) == 1  # presumed to stand where it stood: not proven
    assert desk.look(3.0 * NS_PER_S) == []
    assert len(desk.horizon) == 0


@pytest.mark.parametrize("every_ms", [100.0, 700.0])
def test_silence_condemns_nobody_for_good(every_ms):
    desk = Desk(every_ms=every_ms)
    steps_ns = np.arange(0, PROBATION_NS + 1, NS_PER_S // 10)
    first = next(int(at_ns) for at_ns in steps_ns if desk.look(at_ns))
    patience_ns = int(desk.consensus.patience_ns(np.zeros(1, np.int64))[0, 1])
    assert first >= LATE_NS
    assert abs(first - max(LATE_NS, patience_ns - WINDOW_NS)) <= every_ms * MS + NS_PER_S // 10
    assert len(desk.horizon) == 0


def test_without_a_witness_from_the_start_it_is_back_after_the_late_horizon():
    desk = Desk(venues=())
    assert desk.look(LATE_NS - 1) == []
    assert len(desk.look(LATE_NS)) == 1


def test_a_policy_of_two_asks_for_two():
    heard = [quotes(venue, after(0.2, 2.0)) for venue in (1, 3)]
    for parts, count in ((heard[:1], 1), (heard, 0)):
        assert len(Desk(*parts).look(LATE_NS, least=2)) == count


def test_it_is_bounded_and_the_oldest_stay_wicks(monkeypatch):
    monkeypatch.setattr(module, "MOST", 3)
    desk = Desk(venues=(), wicks=[suspect(trade_id=str(number)) for number in range(1, 6)])
    assert len(desk.horizon) == 3
    assert [one.wick.trade_id for one in desk.look(LATE_NS)] == ["3", "4", "5"]


def test_a_forgotten_symbol_leaves_the_others():
    desk = Desk(venues=(), symbols=2, wicks=[suspect(0, trade_id="1"), suspect(1, trade_id="2")])
    desk.horizon.forget(np.array([0]))
    assert [one.wick.trade_id for one in desk.look(LATE_NS)] == ["2"]
