"""Newest state: the last good trade, the best quotes and the reference of what was touched."""

import numpy as np
import pytest

from market.records import CONFIRMED, UNVERIFIED, WICK
from market.schema import END_OF_INPUT, QUOTE
from operators.consensus import Consensus
from operators.jury import Judged
from operators.newest import Newest
from tests.operators.markets import by_receipt, hold_of, quotes, trades

CONSENSUS = Consensus(2)


def judged(*parts, verdicts=()):
    """Return released ticks, the trades with the verdicts given."""
    due = hold_of(by_receipt(*parts), symbols=2).due(END_OF_INPUT)
    verdict = np.full(due.place.size, -1, np.int8)
    verdict[due.ticks["kind"] != QUOTE] = verdicts
    nothing = np.full(due.place.size, np.nan)
    return Judged(due, verdict, nothing, nothing)


def test_the_last_trade_that_is_no_wick_sets_the_price():
    newest = Newest(np.arange(2))
    newest.add(judged(trades(3, [1.0, 2.0, 3.0]), verdicts=(CONFIRMED, UNVERIFIED, WICK)))
    (row,) = newest.rows(CONSENSUS)
    assert (row["symbol"], row["venue"], row["verdict"], row["seq"]) == (0, 3, UNVERIFIED, 1)
    assert row["price"] == trades(3, [2.0])["price"][0]


def test_only_what_was_touched_is_told_once():
    newest = Newest(np.array([0, 1]))
    assert not newest
    newest.add(judged(quotes(2, [1.0], symbol=1)))
    newest.add(judged(quotes(4, [2.0], symbol=1)))
    assert newest
    (row,) = newest.rows(CONSENSUS)
    assert (row["symbol"], row["verdict"], row["bid_venue"], row["seq"]) == (1, -1, 2, 1)
    assert np.isnan(row["price"])
    assert not newest.rows(CONSENSUS).size


@pytest.mark.parametrize("symbol", [0, 1])
def test_a_forgotten_symbol_is_as_new(symbol):
    newest = Newest(np.arange(2))
    both = [trades(1, [1.0], symbol=code) for code in (0, 1)]
    newest.add(judged(*both, verdicts=(CONFIRMED, CONFIRMED)))
    newest.rows(CONSENSUS)
    newest.forget(np.array([symbol]))
    newest.add(judged(*(quotes(1, [2.0], symbol=code) for code in (0, 1))))
    told = newest.rows(CONSENSUS)
    assert told["seq"].tolist() == [1 if code == symbol else 2 for code in (0, 1)]
    assert np.isnan(told["price"]).tolist() == [code == symbol for code in (0, 1)]
