import random

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from connectors import gaps
from connectors.gaps import FAR, GRACE_NS, GapKernel
from connectors.venue import Hole
from market.schema import BACKFILL, QUOTE, REPLAYED, empty_ticks

LATER = 10**18
SYMBOLS = 3


def trades(ids, symbol=0, flags=0, receive_ns=1_000):
    """Return trades with some ids; the venue's stamp is the number itself."""
    ticks = empty_ticks(len(ids))
    ticks["symbol"], ticks["flags"], ticks["receive_ns"] = symbol, flags, receive_ns
    ticks["trade_id"] = [str(number) for number in ids]
    ticks["exchange_ns"] = ids
    return ticks


def holes_of(*batches, numbered=True, spans=None, kernel=None):
    kernel = kernel or GapKernel(SYMBOLS, numbered=numbered)
    for batch in batches:
        kernel.add(batch, spans)
    return kernel.due(LATER)


def test_a_jump_is_a_hole_between_its_neighbours():
    assert holes_of(trades([5, 6, 9, 10])) == [Hole(0, 6, 9, 6, 9)]
    assert holes_of(trades([5, 6]), trades([9, 10])) == [Hole(0, 6, 9, 6, 9)]
    assert Hole(0, 6, 9, 6, 9).size == 2


def test_symbols_are_counted_apart():
    both = np.concatenate((trades([5]), trades([70], 1), trades([6]), trades([71], 1), trades([80], 1)))
    assert holes_of(both) == [Hole(1, 71, 80, 71, 80)]


def test_the_first_trade_of_a_symbol_is_no_hole():
    assert holes_of(trades([5]), trades([900], 1)) == []


def test_what_comes_twice_is_no_hole():
    assert holes_of(trades([5, 6, 7]), trades([6, 7]), trades([8])) == []


def test_a_hole_is_given_after_its_grace_and_once():
    kernel = GapKernel(SYMBOLS, numbered=True)
    kernel.add(trades([5, 8], receive_ns=1_000), None)
    assert kernel.due(1_000 + GRACE_NS - 1) == []
    assert kernel.due(1_000 + GRACE_NS) == [Hole(0, 5, 8, 5, 8)]
    assert kernel.due(LATER) == []


@pytest.mark.parametrize("seed", range(20))
def test_no_order_within_the_grace_makes_a_hole(seed):
    ids = list(range(100, 160))
    random.Random(seed).shuffle(ids)
    ids.remove(100)
    assert holes_of(trades([100]), *[trades(ids[at : at + 7]) for at in range(0, len(ids), 7)]) == []


def test_late_trades_leave_what_is_still_missing():
    found = holes_of(trades([5, 12]), trades([8]))
    assert found == [Hole(0, 5, 8, 5, 8), Hole(0, 8, 12, 8, 12)]
    assert sum(hole.size for hole in found) == 5


@settings(max_examples=200, deadline=None, derandomize=True)
@given(st.data())
def test_holes_are_the_numbers_that_never_came(data):
    ids = list(range(1_000, 1_040))
    lost = data.draw(st.sets(st.sampled_from(ids[1:-1])))
    kept = [number for number in ids if number not in lost]
    middle = data.draw(st.permutations(kept[1:]))
    cut = data.draw(st.integers(0, len(middle)))
    found = holes_of(trades(kept[:1]), trades(middle[:cut]), trades(middle[cut:]))
    missing = [number for hole in found for number in range(hole.after + 1, hole.before)]
    assert sorted(missing) == sorted(number for number in lost if number < max(kept))
    assert all(hole.from_ns <= hole.to_ns for hole in found)


def test_joined_fills_are_no_hole_and_tell_a_hole_s_end():
    spans = np.array([[5, 5], [6, 9], [13, 20]])
    assert holes_of(trades([5, 9, 20]), spans=spans) == [Hole(0, 9, 20, 9, 13)]


def test_frames_that_do_not_say_their_numbers_are_not_checked():
    assert holes_of(trades([5, 90, 7]), spans=np.zeros((3, 2), np.int64)) == []
    assert holes_of(trades([5, 9]), spans=np.array([[5, 5], [12, 9]])) == []
    odd = trades([5, 9])
    odd["trade_id"] = [b"a1", b"b2"]
    assert holes_of(odd) == []


def test_history_and_quotes_are_not_checked():
    quotes = trades([900])
    quotes["kind"] = QUOTE
    assert holes_of(trades([5]), trades([300], flags=REPLAYED), trades([400], flags=BACKFILL), quotes) == []


def test_a_venue_that_counts_anew_is_followed():
    assert holes_of(trades([10 * FAR]), trades([5, 6, 8])) == [Hole(0, 6, 8, 6, 8)]


def test_holes_in_their_grace_are_bounded(monkeypatch):
    monkeypatch.setattr(gaps, "MOST_OPEN", 2)
    kernel = GapKernel(SYMBOLS, numbered=True)
    kernel.add(trades([10, 20, 30, 40, 50]), None)
    assert [hole.after for hole in kernel.due(0)] == [10, 20]
    assert [hole.after for hole in kernel.due(LATER)] == [30, 40]


# venues that number nothing


def test_only_a_mark_opens_a_hole_which_ends_at_the_symbol_s_next_trade():
    kernel = GapKernel(SYMBOLS, numbered=False)
    assert holes_of(trades([5, 9]), trades([40], 1), kernel=kernel) == []
    kernel.mark()
    assert holes_of(trades([90, 95]), kernel=kernel) == [Hole(0, 9, 90)]
    assert holes_of(trades([70], 1), trades([8], 2), kernel=kernel) == [Hole(1, 40, 70)]
    assert holes_of(trades([200]), trades([200], 1), kernel=kernel) == []


def test_what_a_venue_repeats_ends_no_hole_but_may_be_where_one_begins():
    kernel = GapKernel(SYMBOLS, numbered=False)
    kernel.add(trades([5, 7], flags=REPLAYED), None)
    kernel.mark()
    assert holes_of(trades([6, 7, 30], flags=REPLAYED), trades([40]), kernel=kernel) == [Hole(0, 7, 40)]


def test_a_mark_means_nothing_where_numbers_tell():
    kernel = GapKernel(SYMBOLS, numbered=True)
    kernel.add(trades([5]), None)
    kernel.mark()
    assert holes_of(trades([6]), kernel=kernel) == []
