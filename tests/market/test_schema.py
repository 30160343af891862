from itertools import pairwise

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from market.schema import BUY, KINDS, NO_SIDE, QUOTE, SELL, SIDES, TICK, TRADE, empty_ticks, join
from tests.connectors.ticks import ticks_of


def test_a_tick_is_packed():
    """It crosses pipes and snapshots as bytes: its layout must not depend on the machine."""
    assert TICK.itemsize == 120
    assert not TICK.isalignedstruct
    assert [TICK.fields[name][1] for name in ("symbol", "price", "trade_id", "event_ns")] == [0, 8, 56, 112]


def test_codes():
    assert (KINDS[TRADE], KINDS[QUOTE]) == ("trade", "quote")
    assert SIDES == {BUY: "buy", SELL: "sell", NO_SIDE: None}


def test_empty_ticks_hold_no_price():
    ticks = empty_ticks(3)
    assert ticks.dtype == TICK
    for column in ("price", "size", "bid", "bid_size", "ask", "ask_size"):
        assert np.isnan(ticks[column]).all()
    assert not ticks["receive_ns"].any()
    assert empty_ticks().size == 0


@settings(deadline=None)
@given(st.lists(st.integers(0, 30), min_size=1, max_size=6), st.integers(0, 5))
def test_joining_the_parts_of_a_whole_gives_the_whole(sizes, seed):
    whole = ticks_of(sum(sizes), seed)
    edges = np.cumsum([0, *sizes]).tolist()
    joined = join([whole[start:end] for start, end in pairwise(edges)])
    assert joined.dtype == TICK
    assert joined.tobytes() == whole.tobytes()


def test_joined_ticks_can_be_changed_and_parts_need_not_lie_together():
    ticks = ticks_of(40)
    joined = join((ticks[::2], ticks[1::2]))
    assert joined["receive_ns"].tolist() == [*ticks["receive_ns"][::2], *ticks["receive_ns"][1::2]]
    joined["event_ns"] = 1
    assert not ticks["event_ns"].any()
