"""The ticks of a cell of the consensus grid: as they are released, and as they are learned from."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

import numpy as np

from market.schema import F64, I64, Bool
from market.venues import VENUES
from operators.hold import Columns

OLD_NS: Final = 1_000_000_000
"""What is older than this at its receipt is history, sent late or again: it moves nothing."""
LAG_NS: Final = 300_000_000
"""What is older than this says where its venue was, when the others may have been elsewhere: it teaches nothing."""


@dataclass(slots=True)
class Cell(Columns):
    """Released ticks in release order, to be learned from; n rows.

    Attributes:
        place: n int64, venue * symbols + local symbol.
        value: n float64, log price or log mid; NaN where there is none, inf on wicks.
        half: n float64, half spread of quotes, log units; NaN on trades.
        receive_ns: n int64.
        event_ns: n int64.
    """

    place: I64
    value: F64
    half: F64
    receive_ns: I64
    event_ns: I64

    def without(self, symbols: I64, of: int) -> Cell:
        """Return the cell without the ticks of some symbols, local, of so many."""
        return self.take(np.flatnonzero(~np.isin(self.place % of, symbols)))


class Part:
    """What a cell holds of n ticks to be learned from, and of s symbols.

    Attributes:
        place: n int64, venue * symbols + symbol.
        symbol: n int64.
        value: n float64.
        half: n float64.
        receive_ns: n int64.
        rows: s x 7 float64, ticks of each venue.
        heard: s x 7 bool, whether there are any.
        mean_value: s x 7 float64; 0 without ticks.
        accused: s x 7 bool, which venues had a wick.
        lagged: s x 7 bool, which venues had a tick older than LAG_NS at its receipt.
    """

    def __init__(self, cell: Cell, symbols: int) -> None:
        age_ns = cell.receive_ns - cell.event_ns
        good = np.isfinite(cell.value)
        good &= age_ns <= OLD_NS
        accused, lagged = np.zeros((2, len(VENUES), symbols), bool)
        lagged.reshape(-1)[cell.place[good & (age_ns > LAG_NS)]] = True
        if not good.all():
            accused.reshape(-1)[cell.place[np.isposinf(cell.value)]] = True
            cell = cell.take(good.nonzero()[0])
        self.accused, self.lagged = accused.T, lagged.T
        self.place, self.value, self.half, self.receive_ns = cell.place, cell.value, cell.half, cell.receive_ns
        self.symbol = cell.place % symbols
        self._symbols = symbols
        self.rows = self.sums(None)
        self.heard = self.rows > 0
        self.mean_value = self.sums(cell.value) / np.maximum(self.rows, 1)

    def sums(self, values: F64 | Bool | None) -> F64:
        """Return the sums of n values by symbol and venue, s x 7; None: the numbers of rows."""
        sums = np.bincount(self.place, values, self._symbols * len(VENUES))
        return sums.astype(np.float64, copy=False).reshape(len(VENUES), -1).T
