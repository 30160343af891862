"""The hold: what ticks say leaves in receive order, they themselves in release order, however they came."""

from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from market.schema import END_OF_INPUT, LAGGING, QUOTE, empty_ticks
from market.venues import VENUES
from operators.hold import QUANTUM_NS, Hold, Seen, log_value
from operators.sequence import Slice
from tests.operators.markets import BASE, MS, START_NS, Market, by_receipt, hold_of, part_of, quotes, trades

ROWS = by_receipt(
    *(Market(symbol=s, seconds=0.5, rate=60, venues=(v,), seed=v).rows() for s in (0, 1) for v in (0, 1, 4))
)


def ids(part):
    return part.ticks["trade_id"].tolist()


def all_of(parts):
    return Seen(*(np.concatenate([getattr(part, name) for part in parts]) for name in Seen.__dataclass_fields__))


def received_ms(parts):
    return [((part.receive_ns - START_NS) / MS).tolist() for part in parts]


def test_the_log_value_is_a_trade_s_price_and_a_quote_s_mid():
    rows = by_receipt(trades(0, [0.0], 0.5), quotes(0, [1.0], 0.25, half_spread=0.01), empty_ticks(1))
    rows["kind"][0] = QUOTE  # the empty row: a quote with neither side
    value = log_value(rows)
    assert np.isnan(value[0])
    np.testing.assert_allclose(value[1:] - np.log(BASE), [0.5, 0.25])


def test_evidence_has_a_value_and_is_not_known_to_lag():
    rows = trades(1, [0.0, 1.0, 2.0, 3.0])
    rows["price"][1], rows["flags"][2] = np.nan, LAGGING
    hold = hold_of(rows)
    assert received_ms(hold.see(END_OF_INPUT)) == [[0.0, 3.0]]
    assert ids(hold.due(END_OF_INPUT)) == [b"1", b"2", b"3", b"4"]


def test_columns_name_symbol_and_venue_by_place():
    hold = Hold(np.array([-1, -1, 0, 1]), 2)
    hold.add([Slice(3, by_receipt(trades(3, [1.0], 0.1, symbol=3), trades(3, [2.0], symbol=2)), END_OF_INPUT)])
    hold.take_in(END_OF_INPUT)
    seen, due = next(hold.see(END_OF_INPUT)), hold.due(END_OF_INPUT)
    assert seen.place.tolist() == [len(VENUES) + 3, 3]
    assert due.place.tolist() == [2 * 3 + 1, 2 * 3]
    for part in (seen, due):
        np.testing.assert_allclose(part.value - np.log(BASE), [0.1, 0.0], atol=1e-12)
        np.testing.assert_array_equal(part.receive_ns, START_NS + np.array([1, 2]) * MS)


def test_ticks_of_one_time_are_due_by_venue_code_whoever_came_first():
    hold = Hold(np.array([0]), 1)
    for venue in (4, 0, 2):
        hold.add([Slice(venue, trades(venue, [5.0, 5.0], first_id=10 * venue), END_OF_INPUT)])
    hold.take_in(END_OF_INPUT)
    assert ids(hold.due(END_OF_INPUT)) == [b"0", b"1", b"20", b"21", b"40", b"41"]


def test_what_is_above_the_watermark_waits_and_is_seen_once():
    hold = Hold(np.array([0]), 1)
    hold.add([Slice(1, trades(1, [1.0, 2.0, 3.0, 4.0]), END_OF_INPUT)])
    hold.take_in(START_NS + 3 * MS)
    assert received_ms(hold.see(START_NS + 2 * MS)) == [[1.0, 2.0]]
    assert received_ms(hold.see(END_OF_INPUT)) == [[3.0]]
    assert list(hold.see(END_OF_INPUT)) == []
    hold.take_in(END_OF_INPUT)
    assert received_ms(hold.see(END_OF_INPUT)) == [[4.0]]
    assert ids(hold.due(END_OF_INPUT)) == [b"1", b"2", b"3", b"4"]  # one quantum, though the watermark was within it


@pytest.mark.parametrize("apart", [False, True])  # so far that quantum, event time, rank and row need over 64 bits
def test_of_one_event_time_the_order_is_venue_then_trade_id_by_number_then_quotes_as_received(apart):
    rows = by_receipt(
        *(trades(1, [1.0], first_id=number) for number in (100, 99, 101)),
        quotes(1, [1.0], 0.01),
        quotes(1, [1.0], 0.0),
        trades(0, [1.0], first_id=500),
        *([trades(2, [1.0], first_id=1)] if apart else []),
    )
    rows["event_ns"][rows["venue"] == 2] = 0
    due = hold_of(rows).due(END_OF_INPUT)
    assert ids(due) == [b"1"] * apart + [b"500", b"99", b"100", b"101", b"", b""]
    assert due.ticks["bid"][-2] > due.ticks["bid"][-1]


def test_the_quantum_of_receipt_comes_before_the_event_time():
    quantum_ms = QUANTUM_NS / MS
    at_ms = np.array([3.0, 2.0, 1.0])
    rows = trades(1, at_ms, delay_ms=np.array([1.0, 2.0, quantum_ms + 1]) * quantum_ms - at_ms)
    due = hold_of(rows).due(START_NS + 2 * QUANTUM_NS)
    assert ids(due) == [b"1", b"2"]  # one quantum each
    np.testing.assert_array_equal(due.quantum_ns - START_NS, np.array([1, 2]) * QUANTUM_NS)
    together = hold_of(trades(1, at_ms, delay_ms=quantum_ms - at_ms)).due(START_NS + QUANTUM_NS)
    assert ids(together) == [b"3", b"2", b"1"]


def test_nothing_is_due_before_its_quantum_ends():
    hold = hold_of(trades(1, [1.0, QUANTUM_NS / MS + 1]))
    assert hold.due(START_NS) is None
    assert ids(hold.due(START_NS + QUANTUM_NS)) == [b"1"]
    assert hold.due(START_NS + QUANTUM_NS) is None
    assert ids(hold.due(END_OF_INPUT)) == [b"2"]
    assert hold.due(END_OF_INPUT) is None


def test_nothing_comes_of_nothing():
    hold = Hold(np.array([0]), 1)
    hold.add([Slice(1, empty_ticks(0), END_OF_INPUT)])
    hold.take_in(END_OF_INPUT)
    assert list(hold.see(END_OF_INPUT)) == []
    assert hold.due(END_OF_INPUT) is None


@given(st.lists(st.integers(1, 60), min_size=1, max_size=12), st.permutations([0, 1, 4]))
def test_both_orders_depend_on_the_ticks_alone(steps, venues):
    whole = hold_of(ROWS, symbols=2)
    seen, due = next(whole.see(END_OF_INPUT)), whole.due(END_OF_INPUT)
    hold = Hold(np.arange(2), 2)
    marks = [START_NS - 1, *(START_NS + np.cumsum(steps) * QUANTUM_NS).tolist(), END_OF_INPUT]
    parts, released = [], []
    for before, mark in pairwise(marks):
        for venue in venues:
            mine = part_of(ROWS, venue)
            hold.add([Slice(venue, mine[(mine["receive_ns"] > before) & (mine["receive_ns"] <= mark)], mark)])
        hold.take_in(mark)
        parts += hold.see(mark)
        released += [part for part in [hold.due(before)] if part is not None]
    released += [part for part in [hold.due(END_OF_INPUT)] if part is not None]
    order = [np.argsort(part.place % len(VENUES), kind="stable") for part in (all_of(parts), seen)]
    for column in ("place", "value", "receive_ns", "event_ns"):  # each venue's in its own order
        found, expected = (getattr(part, column)[rows] for part, rows in zip((all_of(parts), seen), order, strict=True))
        assert found.tobytes() == expected.tobytes()
    for column in ("ticks", "place", "value", "receive_ns", "event_ns", "quantum_ns"):
        found = np.concatenate([getattr(part, column) for part in released])
        assert found.tobytes() == getattr(due, column).tobytes()


@pytest.mark.parametrize("cut_ms", [10, 200])
def test_a_late_part_of_one_venue_comes_in_its_place(cut_ms):
    """Ticks beyond the watermark wait with those that come later, in the venue's own order."""
    hold = Hold(np.array([0]), 1)
    mine = trades(1, np.arange(0.0, 400.0, 10.0))
    hold.add([Slice(1, mine[:30], END_OF_INPUT)])
    hold.take_in(START_NS + cut_ms * MS)
    hold.add([Slice(1, mine[30:], END_OF_INPUT)])
    hold.take_in(END_OF_INPUT)
    seen = all_of(list(hold.see(END_OF_INPUT)))
    np.testing.assert_array_equal(seen.receive_ns, mine["receive_ns"])
    np.testing.assert_array_equal(seen.value, log_value(mine))
