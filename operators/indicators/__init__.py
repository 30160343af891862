"""Indicators on closed candles: one file each, and the table that the kernel runs.

A new indicator is a file with COLUMNS, STATE, `step` and `values`, a line in `INDICATORS`, and its columns in
`market.records.STUDIES` and the history table.
"""

from __future__ import annotations

from typing import Any, Final, Protocol

import numpy as np

from market.schema import F64, Rows
from operators.indicators import macd, rsi


class Indicator(Protocol):
    """What an indicator's module offers. State is a row a symbol, zeros before the first candle."""

    @property
    def COLUMNS(self) -> tuple[str, ...]:
        """Names of its values, as in `market.records.STUDIES`."""

    @property
    def STATE(self) -> np.dtype[Any]:
        """Dtype of the state of one symbol: fixed size, whatever the history."""

    def step(self, state: Rows, candles: Rows) -> Rows:
        """Return n states after n CANDLE rows, one each. On a forming candle the result is a preview."""

    def values(self, state: Rows) -> tuple[F64, ...]:
        """Return per column n float64, NaN while warming up."""


INDICATORS: Final[tuple[Indicator, ...]] = (rsi, macd)
