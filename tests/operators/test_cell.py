"""What a cell of the grid holds, and what is left of it without some symbols."""

import numpy as np

from operators.cell import LAG_NS, OLD_NS, Cell, Part

SYMBOLS = 3


def cell(*ticks):
    """Return a cell of (venue, symbol, value) ticks."""
    venue, symbol, value = (np.array(column) for column in zip(*ticks, strict=True))
    stamps = np.arange(value.size, dtype=np.int64)
    return Cell(venue * SYMBOLS + symbol, value, np.full(value.size, np.nan), stamps, stamps.copy())


def test_rows_and_means_are_by_symbol_and_venue():
    part = Part(cell((0, 1, 1.0), (6, 1, 3.0), (0, 1, 2.0)), SYMBOLS)
    assert part.rows[1].tolist() == [2, 0, 0, 0, 0, 0, 1]
    assert part.heard.sum() == 2
    assert part.mean_value[1, [0, 6]].tolist() == [1.5, 3.0]
    assert part.symbol.tolist() == [1, 1, 1]
    assert part.sums(np.array([True, False, True]))[1, 0] == 2


def test_a_wick_is_left_out_and_accuses_its_venue():
    part = Part(cell((0, 1, np.inf), (0, 1, 2.0), (5, 1, np.nan), (5, 2, 3.0)), SYMBOLS)
    assert part.value.tolist() == [2.0, 3.0]
    assert np.argwhere(part.accused).tolist() == [[1, 0]]


def test_what_was_long_on_its_way_is_left_out():
    late = cell((0, 1, 1.0), (0, 1, 2.0))
    late.event_ns[1] -= OLD_NS + 1
    assert Part(late, SYMBOLS).value.tolist() == [1.0]


def test_a_venue_lagged_where_a_tick_of_it_did():
    late = cell((0, 1, 1.0), (0, 1, 2.0), (5, 2, 3.0))
    late.event_ns[:] -= LAG_NS, LAG_NS + 1, 0
    part = Part(late, SYMBOLS)
    assert part.value.tolist() == [1.0, 2.0, 3.0]
    assert np.argwhere(part.lagged).tolist() == [[1, 0]]


def test_some_symbols_are_left_out():
    kept = cell((0, 1, 1.0), (0, 2, 2.0), (5, 1, 3.0)).without(np.array([1]), SYMBOLS)
    assert (kept.value.tolist(), kept.place.tolist(), kept.receive_ns.tolist()) == ([2.0], [2], [1])
