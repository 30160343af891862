"""Newest state of each symbol of a key group: last good trade, best bid and offer, reference. Rows of HOT."""

from __future__ import annotations

from typing import Any, Final

import numpy as np
import numpy.typing as npt

from market.records import HOT, WICK
from market.schema import I64, TICK, Rows
from market.venues import VENUES
from operators.book import Book
from operators.consensus import Consensus
from operators.jury import Judged

_VENUES: Final = len(VENUES)
_WHOLE: Final = np.dtype((np.void, TICK.itemsize))
"""A row without its fields: NumPy writes those 40 times faster than records."""
_NO_HOT: Final = np.zeros(0, HOT)
_OF_TRADE: Final = ("price", "size", "side", "venue", "event_ns", "receive_ns")


class Newest:
    """See above. What is released is put down as it is and looked at when the newest state is asked for."""

    def __init__(self, symbols: I64) -> None:
        """Build for the symbol codes of a key group, int64."""
        self._symbols = symbols
        self._book = Book(symbols.size)
        self._trade = np.zeros(symbols.size, TICK)
        self._verdict = np.full(symbols.size, -1, np.int8)
        self._seq = np.zeros(symbols.size, np.int64)
        self._moved = np.zeros((_VENUES, symbols.size), bool)
        self._fresh: list[Judged] = []  # released since the newest state was asked for
        self.forget(np.arange(symbols.size))

    def __bool__(self) -> bool:
        """Return whether anything is new."""
        return bool(self._fresh)

    def add(self, judged: Judged) -> None:
        """Take released ticks with their verdicts."""
        self._fresh.append(judged)

    def rows(self, consensus: Consensus) -> Rows:
        """Return HOT rows of the symbols touched since the last time."""
        if not self._fresh:
            return _NO_HOT
        for judged in self._fresh:
            self._look_at(judged)
        now_ns = max(int(judged.due.receive_ns.max()) for judged in self._fresh)
        self._fresh.clear()
        touched = np.flatnonzero(self._moved.any(axis=0))
        self._moved[:] = False
        self._seq[touched] += 1
        hot = np.empty(touched.size, HOT)
        trade = self._trade.take(touched)
        for column in _OF_TRADE:
            hot[column] = trade[column]
        columns: dict[str, npt.NDArray[Any]] = self._book.best(touched, now_ns)
        columns |= {"symbol": self._symbols[touched], "verdict": self._verdict[touched], "seq": self._seq[touched]}
        columns |= {"reference": np.exp(consensus.level[touched]), "venues": consensus.count[touched]}
        for name, values in columns.items():
            hot[name] = values
        return hot

    def _look_at(self, judged: Judged) -> None:
        """Bring trades and quotes up to date; of one symbol the last stays, as NumPy assigns in order."""
        due, verdict = judged.due, judged.verdict
        self._moved.reshape(-1)[due.place] = True
        quotes = (verdict < 0).nonzero()[0]
        self._book.update(
            due.place.take(quotes), due.bid.take(quotes), due.ask.take(quotes), due.receive_ns.take(quotes)
        )
        good = (verdict >= 0) & (verdict != WICK)
        trades = good.nonzero()[0]
        symbol = due.place.take(trades) % self._symbols.size
        self._trade.view(_WHOLE)[symbol] = due.ticks.view(_WHOLE).take(trades)
        self._verdict[symbol] = verdict.take(trades)

    def forget(self, symbols: I64) -> None:
        """Forget some symbols, local."""
        self._book.forget(symbols)
        none = np.zeros(symbols.size, TICK)
        none["price"] = none["size"] = np.nan
        self._trade[symbols], self._verdict[symbols], self._seq[symbols] = none, -1, 0
