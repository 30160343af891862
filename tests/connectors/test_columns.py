"""Columns made of lists: what is common in one step, what is not, each by itself."""

from math import inf, nan

import numpy as np
import pytest

from connectors import columns

CODES = {"a": 1, "b": -1}


@pytest.mark.parametrize(
    ("words", "codes", "known"),
    [(["a", "b"], [1, -1], None), (["b", "x"], [-1, 9], [True, False]), ([None], [9], [False])],
)
def test_words_become_codes(words, codes, known):
    column, found = columns.coded(CODES.get, words, np.int8, 9)
    assert (column.dtype, column.tolist()) == (np.int8, codes)
    assert (found if found is None else found.tolist()) == known


@pytest.mark.parametrize("odd", [None, 10**400, 5])
def test_numbers_become_rows_of_float64(odd):
    numbers = columns.floats(2, [1.5, 2.5, 0.5, odd])
    expected = {None: nan, 10**400: inf, 5: 5.0}[odd]
    np.testing.assert_array_equal(numbers, [[1.5, 2.5], [0.5, expected]])


@pytest.mark.parametrize(("text", "number"), [("12", 12), ("", 0), ("-1", 0), ("1.5", 0), ("\u0663", 0), ("9" * 19, 0)])
def test_whole_numbers_of_digits(text, number):
    assert columns.whole(text) == number
    expected = [[number - 1, number], [6, 7]]
    assert columns.spans_to([text, "7"], [2, 2]).tolist() == expected
    assert columns.spans_of([f"{text}-7", "6-7"]).tolist() == [
        [number if "-" not in text else 0, 7 if "-" not in text else 0],
        [6, 7],
    ]


def test_spans_that_end_in_a_known_number():
    assert columns.spans_to(["9", "14"], [1, 5]).tolist() == [[9, 9], [10, 14]]
    assert columns.spans_to(["007", "14"], [1, 5]).tolist() == [[7, 7], [10, 14]]
    assert columns.spans_to(["1,2", ""], [1, 1]).tolist() == [[0, 0], [0, 0]]
    assert columns.spans_to(["9", "14"], [1, 10**30]).tolist() == [[0, 0], [0, 0]]


def test_spans_written_as_ranges():
    assert columns.spans_of(["7-9", "123456789012345678-123456789012345679"]).tolist() == [
        [7, 9],
        [123456789012345678, 123456789012345679],
    ]
    assert columns.spans_of(["7-9", "x-9", "7", "", "1-2-3"]).tolist() == [[7, 9], [0, 9], [7, 0], [0, 0], [1, 0]]
