"""Rows of seven venues, asked column by column: the same as numpy says row by row."""

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from operators.venue_tables import ascending, flat, greatest, how_many, known_median, middle_two

VALUES = st.floats(-10, 10) | st.just(np.inf)
ROWS = st.lists(st.lists(VALUES, min_size=7, max_size=7), min_size=1, max_size=5).map(np.array)


@given(ROWS)
def test_seven_columns_are_sorted_row_by_row(values):
    np.testing.assert_array_equal(np.stack(ascending(values), axis=1), np.sort(values, axis=1))


@given(ROWS, st.integers(1, 9))
def test_the_greatest_come_first(values, many):
    expected = -np.sort(-values, axis=1)[:, :many]
    np.testing.assert_array_equal(np.stack(greatest(values, many), axis=1), expected)


@given(ROWS)
def test_the_median_of_what_is_known(values):
    known = np.isfinite(values)
    expected = [np.median(row[np.isfinite(row)]) if np.isfinite(row).any() else np.inf for row in values]
    np.testing.assert_allclose(known_median(values, known), expected)
    np.testing.assert_array_equal(how_many(known), known.sum(axis=1))


@given(ROWS)
def test_the_middle_two_of_an_odd_number_are_one(values):
    count = how_many(np.isfinite(values))
    low, high = middle_two(values, count)
    odd = count % 2 == 1
    np.testing.assert_array_equal(low[odd], high[odd])
    assert (low <= high).all()


def test_a_flat_table_is_a_view_by_place():
    """Place: venue * symbols + symbol."""
    table = np.zeros((7, 3)).T
    flat(table)[2 * 3 + 1] = 5.0
    assert table[1, 2] == 5.0
