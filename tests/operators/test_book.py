"""Best bid and offer over all venues."""

import numpy as np
import pytest

from market.schema import QUOTE, empty_ticks
from operators.book import FRESH_NS, Book
from tests.operators.markets import START_NS, by_receipt, trades


def quote(venue, bid, ask, *, at_ns=START_NS, symbol=0):
    rows = empty_ticks(1)
    rows["kind"], rows["venue"], rows["symbol"], rows["receive_ns"] = QUOTE, venue, symbol, at_ns
    rows["bid"], rows["ask"] = bid, ask
    return rows


def book(*quotes, symbols=1):
    made = Book(symbols)
    if quotes:
        rows = by_receipt(*quotes)
        rows = rows[rows["kind"] == QUOTE]
        made.update(rows["venue"] * symbols + rows["symbol"], rows["bid"], rows["ask"], rows["receive_ns"])
    return made


def best(made, now_ns=START_NS, symbol=0):
    return {name: values[0].item() for name, values in made.best(np.array([symbol]), now_ns).items()}


def test_the_best_of_each_side_and_whose_it_is():
    found = best(book(quote(0, 99.0, 101.0), quote(3, 99.5, 100.5), quote(5, 99.2, 100.3)))
    assert (found["bid"], found["bid_venue"], found["ask"], found["ask_venue"]) == (99.5, 3, 100.3, 5)
    assert found["spread_bps"] == pytest.approx(0.8 / 99.9 * 1e4)


def test_the_newest_quote_of_a_venue_counts_even_if_worse():
    assert best(book(quote(0, 99.9, 100.1), quote(0, 99.0, 101.0)))["bid"] == 99.0


def test_venues_may_cross():
    assert best(book(quote(0, 100.0, 101.0), quote(1, 98.0, 99.0)))["spread_bps"] < 0


def test_an_absent_side_is_no_offer():
    found = best(book(quote(0, 99.0, np.nan), quote(1, np.nan, 102.0)))
    assert (found["bid_venue"], found["ask_venue"]) == (0, 1)
    lonely = best(book(quote(0, 99.0, np.nan)))
    assert (lonely["bid"], lonely["ask_venue"]) == (99.0, -1)
    assert np.isnan(lonely["ask"])
    assert np.isnan(lonely["spread_bps"])


def test_a_quote_is_good_for_some_seconds():
    made = book(quote(0, 99.0, 101.0), quote(1, 98.0, 102.0, at_ns=START_NS + FRESH_NS))
    assert best(made, START_NS + FRESH_NS)["bid_venue"] == 0
    assert best(made, START_NS + FRESH_NS + 1)["bid_venue"] == 1
    assert best(made, START_NS + 2 * FRESH_NS + 1)["bid_venue"] == -1


def test_trades_and_other_symbols_change_nothing():
    made = book(quote(0, 99.0, 101.0), quote(0, 5.0, 6.0, symbol=1), trades(2, [1.0], 0.5), symbols=2)
    assert best(made)["bid"] == 99.0
    assert best(made, symbol=1)["ask"] == 6.0


def test_nothing_is_known_at_first():
    found = best(book())
    assert (found["bid_venue"], found["ask_venue"]) == (-1, -1)
    assert np.isnan([found["bid"], found["ask"], found["spread_bps"]]).all()
