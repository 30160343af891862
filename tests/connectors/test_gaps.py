import random

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from connectors import gaps
from connectors.gaps import FAR, GRACE_NS, GapKernel
from connectors.position import Known
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


def test_what_came_meanwhile_does_not_hide_a_hole_of_time():
    kernel = GapKernel(SYMBOLS, numbered=False)
    kernel.follow([0, 1, 2], 1)
    kernel.add(np.concatenate((trades([60]), trades([70], 1))), None)
    before = kernel.stamps()
    kernel.add(np.concatenate((trades([90]), trades([80], 2))), None)
    kernel.reopen([0, 1, 2], before)
    assert kernel.due(LATER) == [Hole(0, 60, 90), Hole(2, 1, 80)]
    assert holes_of(trades([99], 1), kernel=kernel) == [Hole(1, 70, 99, 70)]


def test_numbers_tell_by_themselves_what_came_meanwhile():
    kernel = GapKernel(SYMBOLS, numbered=True)
    kernel.add(trades([60]), None)
    before = kernel.stamps()
    kernel.add(trades([61]), None)
    kernel.reopen([0], before)
    assert kernel.due(LATER) == []


def test_a_late_trade_before_a_symbol_s_first_is_taken_out_of_a_hole_without_begin():
    """As where a frame lists its newest trade first."""
    kernel = GapKernel(SYMBOLS, numbered=True)
    kernel.follow([0], 50)
    kernel.mark()
    kernel.add(trades([700, 690]), None)
    assert kernel.late == [(0, 690, 690)]
    assert kernel.due(LATER) == [Hole(0, 50, 690, 0, 690), Hole(0, 690, 700, 690, 700)]


@pytest.mark.parametrize("numbered", [True, False])
def test_history_from_before_the_newest_trade_is_no_news(numbered):
    kernel = GapKernel(SYMBOLS, numbered=numbered)
    kernel.follow([0, 1], 500)
    kernel.add(trades([60]), None)
    history = np.concatenate((trades([40, 60, 61], 0, REPLAYED), trades([5], 1, REPLAYED), trades([59])))
    assert kernel.news(history)["trade_id"].tolist() == [b"61", b"5", b"59"]  # 1 has none yet, and 59 is late
    assert kernel.news(trades([40])).size == 1


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
    assert holes_of(trades([90, 95]), kernel=kernel) == [Hole(0, 9, 90, after=9)]
    assert holes_of(trades([70], 1), trades([8], 2), kernel=kernel) == [Hole(1, 40, 70, after=40)]
    assert holes_of(trades([200]), trades([200], 1), kernel=kernel) == []


def test_what_a_venue_repeats_ends_no_hole_but_may_be_where_one_begins():
    kernel = GapKernel(SYMBOLS, numbered=False)
    kernel.add(trades([5, 7], flags=REPLAYED), None)
    kernel.mark()
    assert holes_of(trades([6, 7, 30], flags=REPLAYED), trades([40]), kernel=kernel) == [Hole(0, 7, 40, after=7)]


def test_a_mark_means_nothing_where_numbers_tell():
    kernel = GapKernel(SYMBOLS, numbered=True)
    kernel.add(trades([5]), None)
    kernel.mark()
    assert holes_of(trades([6]), kernel=kernel) == []


def test_ids_that_are_no_numbers_are_not_known():
    kernel = GapKernel(SYMBOLS, numbered=False)
    odd = trades([5])
    odd["trade_id"] = b"5c35c02703aa673ceec2a168"
    kernel.add(odd, None)
    kernel.mark()
    assert holes_of(trades([9]), kernel=kernel) == [Hole(0, 5, 9)]


# between two runs


def stamped(pairs, symbol=0, **options):
    """Return trades with some ids and stamps."""
    ticks = trades([number for number, _ in pairs], symbol, **options)
    ticks["exchange_ns"] = [stamp for _, stamp in pairs]
    return ticks


def rows_of(moved):
    return sorted(tuple(row) for row in np.frombuffer(moved, np.int64).reshape(-1, 3).tolist())


def resumed(kernel, *, numbered):
    """Return a kernel that goes on where another one is."""
    successor = GapKernel(SYMBOLS, numbered=numbered)
    rows = [(code, kernel._last[code], kernel._last_ns[code]) for code in range(SYMBOLS) if kernel._last_ns[code]]
    successor.resume(Known(rows, kernel.open))
    successor.follow(range(SYMBOLS), 10**6)
    return successor


def test_only_symbols_that_moved_are_told_and_once():
    kernel = GapKernel(SYMBOLS, numbered=True)
    kernel.follow([0, 1], 77)
    assert rows_of(kernel.moved()) == [(0, 0, -77), (1, 0, -77)]
    assert kernel.moved() == b""
    kernel.add(stamped([(5, 50), (6, 60), (9, 90), (7, 70)]), None)
    assert rows_of(kernel.moved()) == [(0, 9, 90)]
    kernel.add(trades([300], flags=REPLAYED), None)
    kernel.add(trades([], 1), None)
    assert kernel.moved() == b""


@pytest.mark.parametrize("numbered", [True, False])
def test_the_newest_trade_is_the_position_and_not_the_last_to_come(numbered):
    kernel = GapKernel(SYMBOLS, numbered=numbered)
    kernel.follow([0], 77)  # our clock, which may be ahead of the venue's
    kernel.add(stamped([(4, 40), (6, 60), (5, 60), (3, 55)]), None)
    assert rows_of(kernel.moved()) == [(0, 6, 60)]


def test_numbers_go_on_where_the_run_before_ended():
    kernel = GapKernel(SYMBOLS, numbered=True)
    kernel.add(stamped([(5, 50), (6, 60)]), None)
    kernel.add(stamped([(7, 70)], 1), None)
    kernel = resumed(kernel, numbered=True)
    assert holes_of(stamped([(10, 100)]), stamped([(8, 80)], 1), kernel=kernel) == [Hole(0, 60, 100, 6, 10)]


def test_where_numbers_prove_nothing_each_symbol_s_first_trade_ends_a_hole():
    kernel = GapKernel(SYMBOLS, numbered=False)
    kernel.add(stamped([(5, 50), (6, 60)]), None)
    kernel.add(stamped([(7, 70)], 1), None)
    kernel = resumed(kernel, numbered=False)
    history = stamped([(8, 90)], flags=REPLAYED)
    assert holes_of(history, stamped([(9, 100), (12, 110)]), kernel=kernel) == [Hole(0, 60, 100, 6)]
    assert holes_of(stamped([(8, 80)], 1), kernel=kernel) == [Hole(1, 70, 80, 7)]


@pytest.mark.parametrize("numbered", [True, False])
def test_a_symbol_that_had_no_trade_is_looked_for_from_when_it_was_followed(numbered):
    kernel = GapKernel(SYMBOLS, numbered=numbered)
    kernel.follow([2], 30)
    assert holes_of(stamped([(8, 40)], 2), kernel=kernel) == []  # it begins: no hole
    kernel = GapKernel(SYMBOLS, numbered=numbered)
    kernel.follow([2], 30)
    kernel = resumed(kernel, numbered=numbered)
    assert holes_of(stamped([(8, 80), (9, 90)], 2), kernel=kernel) == [Hole(2, 30, 80, 0, 8 if numbered else 0)]
    assert holes_of(stamped([(10, 100)], 2), kernel=kernel) == []
    assert rows_of(kernel.moved())[-1] == (2, 10, 100)


@pytest.mark.parametrize("numbered", [True, False])
def test_a_symbol_that_has_not_traded_since_may_have_a_hole(numbered):
    kernel = GapKernel(SYMBOLS, numbered=numbered)
    kernel.add(stamped([(5, 50)]), None)
    kernel.add(stamped([(7, 70)], 1), None)
    kernel.follow([2], 30)
    kernel.mark()
    kernel.add(stamped([(6, 60)]), None)
    assert kernel.unsure(100) == [Hole(1, 70, 100, 7), Hole(2, 30, 100)]
    assert kernel.unsure(10)[0].to_ns == 70


def test_a_symbol_that_is_new_to_a_resumed_run_has_no_past():
    kernel = resumed(GapKernel(SYMBOLS, numbered=True), numbered=True)
    assert holes_of(stamped([(8, 80)]), kernel=kernel) == []


def test_frames_that_do_not_say_their_numbers_leave_a_hole_of_time():
    kernel, unsaid = GapKernel(SYMBOLS, numbered=True), np.zeros((1, 2), np.int64)
    kernel.follow([0], 30)
    kernel.add(stamped([(5, 50)]), unsaid)
    kernel = resumed(kernel, numbered=True)
    assert holes_of(stamped([(9, 90)]), spans=unsaid, kernel=kernel) == [Hole(0, 50, 90)]


def test_a_symbol_taken_up_again_may_have_traded_meanwhile():
    kernel = GapKernel(SYMBOLS, numbered=False)
    kernel.add(stamped([(5, 50)]), None)
    kernel.follow([0], 60)
    assert holes_of(stamped([(9, 90)]), kernel=kernel) == [Hole(0, 50, 90, 5)]


def test_holes_that_were_open_are_due_at_once_and_late_trades_still_shrink_them():
    kernel = GapKernel(SYMBOLS, numbered=True)
    kernel.add(stamped([(5, 50), (9, 90)]), None)
    assert kernel.open == [Hole(0, 50, 90, 5, 9)]
    kernel = resumed(kernel, numbered=True)
    assert kernel.changed
    kernel.add(stamped([(6, 60), (10, 100)]), None)
    assert kernel.due(0) == [Hole(0, 60, 90, 6, 9)]


@settings(max_examples=200, deadline=None, derandomize=True)
@given(st.data())
def test_a_stop_anywhere_loses_no_number(data):
    """What came before the stop, what is open at it and what comes after: together all numbers, each once."""
    ids = list(range(1_000, 1_030))
    lost = data.draw(st.sets(st.sampled_from(ids[1:-1])))
    came = [number for number in ids if number not in lost]
    order = [came[0], *data.draw(st.permutations(came[1:]))]
    stop = data.draw(st.integers(1, len(order)))
    down = data.draw(st.integers(0, len(order) - stop))
    kernel = GapKernel(SYMBOLS, numbered=True)
    kernel.add(trades(order[:stop]), None)
    after = order[stop + down :]  # what came while nobody looked is lost
    kernel = resumed(kernel, numbered=True)
    kernel.add(trades(after), None)
    missing = [number for hole in kernel.due(LATER) for number in range(hole.after + 1, hole.before)]
    seen = set(order[:stop]) | set(after)
    assert sorted(missing) == [number for number in ids if number < max(seen) and number not in seen]


@pytest.mark.parametrize("numbered", [True, False])
def test_what_is_known_of_a_symbol_let_go_is_freed_and_its_holes_are_told(numbered):
    kernel = GapKernel(SYMBOLS, numbered=numbered)
    kernel.add(stamped([(5, 50), (9, 90)]), None)
    kernel.mark()
    kernel.moved()
    found = kernel.forget({0}, 200)
    assert found == ([Hole(0, 50, 90, 5, 9)] if numbered else []) + [Hole(0, 90, 200, 9)]
    assert (kernel.open, kernel.due(LATER), kernel.unsure(300), kernel.changed) == ([], [], [], True)
    assert np.frombuffer(kernel.moved(), np.int64).tolist() == [0, 0, 0]
    # Whoever has the code next: another count, and nothing before it is missing.
    kernel.follow([0], 1_000)
    assert holes_of(stamped([(7_000, 2_000), (7_001, 2_001)]), kernel=kernel) == []
