"""Pearson correlation of log returns between all symbols, over a rolling window of closed candles of one interval.

Fed by all key groups, each at its own pace. The window that ends with a candle is computed once the slowest group's
candle clock has passed that candle's end, from what every candle was at that moment (`as_of_ns`): a group that is
ahead changes nothing. Each matrix is computed anew from the window, never updated, so there is no drift.
"""

from __future__ import annotations

import pickle
from collections.abc import Iterable, Iterator, Sequence
from typing import Final

import numpy as np

from market.records import Correlation
from market.schema import F64, Rows
from market.symbols import KEY_GROUPS

NS_PER_S: Final = 1_000_000_000
LEAST_RETURNS: Final = 3
"""Fewer common returns than this say nothing: NaN."""
LEAST_DEVIATION: Final = 1e-12
"""Standard deviation of log returns below which a symbol did not move: NaN. Rounding alone gives about 1e-16."""
WAITING_CANDLES: Final = 1_440
"""Bound of what waits for the slowest group: this many candles a symbol."""
NEVER: Final = np.iinfo(np.int64).min

_CLOSE: Final = np.dtype([("open_ns", "i8"), ("known_ns", "i8"), ("symbol", "i8"), ("close", "f8")])


class CorrelationKernel:
    """Correlation matrix of one interval, all symbols.

    Memory: `window + 1` closes a symbol, and at most WAITING_CANDLES a symbol that wait for the slowest group.

    Attributes:
        forgotten: Symbols that the last `advance` has freed: no matrix has them any more.
    """

    def __init__(self, n_symbols: int, interval_s: int, window: int, groups: Iterable[int] = range(KEY_GROUPS)) -> None:
        """Build without candles.

        Args:
            n_symbols: How many symbol codes there are.
            interval_s: The candle interval that is used, seconds; others are passed over.
            window: Returns used at most, at least 3.
            groups: The key groups that will report.
        """
        self._interval_s = interval_s
        self._width_ns = interval_s * NS_PER_S
        self._window = window
        self._clocks = dict.fromkeys(groups, NEVER)
        self._closes: F64 = np.full((window + 1, n_symbols), np.nan)
        self._newest_ns = NEVER  # open time of the last row of `_closes`
        self._waiting: Rows = np.zeros(0, _CLOSE)
        self._leaving: list[tuple[int, int]] = []  # candle clock, symbol
        self.forgotten: list[int] = []

    def forget(self, symbols: Sequence[int], clock_ns: int) -> None:
        """Free symbols that nothing more comes of, once the slowest group is as far as theirs is now.

        Args:
            symbols: Codes of one key group, all whose candles have been given. Those that end later were let go
                while they formed; they take part in nothing.
            clock_ns: The group's candle clock.
        """
        theirs = np.isin(self._waiting["symbol"], symbols)
        self._waiting = self._waiting[~(theirs & (self._waiting["open_ns"] + self._width_ns > clock_ns))]
        self._leaving += [(clock_ns, symbol) for symbol in symbols]

    def advance(self, group: int, candle_watermark_ns: int, candles: Rows) -> list[Correlation]:
        """Take candles of a key group and compute the windows that are complete now.

        Args:
            group: A key group.
            candle_watermark_ns: The group's candle clock, `CandleKernel.clock_ns`: all its candles that end up to
                here have been given, this call included.
            candles: n rows of CANDLE, closed or amended.

        Returns:
            In time order, one for each open time at which two symbols or more have 3 returns up to it.

        Raises:
            KeyError: `group` is none of the groups.
            ValueError: Too many candles wait for the slowest group.
        """
        self._clocks[group] = max(self._clocks[group], candle_watermark_ns)
        self._take(candles[candles["interval_s"] == self._interval_s])
        done_ns = min(self._clocks.values())
        ends = self._waiting["open_ns"] + self._width_ns
        on_time = (ends == self._waiting["known_ns"]) & (ends <= done_ns)
        on_time &= self._waiting["open_ns"] > self._newest_ns  # a candle can be given again: its indicators moved
        moments = np.unique(self._waiting["open_ns"][on_time]).tolist()
        found = list(self._go(moments, done_ns))
        if self._waiting.size > WAITING_CANDLES * self._closes.shape[1]:
            slowest = min(self._clocks, key=self._clocks.__getitem__)
            message = f"{self._waiting.size} candles wait for key group {slowest}, whose clock is {done_ns} ns"
            raise ValueError(message)
        return [one for one in found if one is not None]

    def _take(self, candles: Rows) -> None:
        if not candles.size:
            return
        rows = np.zeros(candles.size, _CLOSE)
        for column in ("open_ns", "symbol", "close"):
            rows[column] = candles[column]
        rows["known_ns"] = np.maximum(candles["as_of_ns"], candles["open_ns"] + self._width_ns)
        self._waiting = np.frombuffer(self._waiting.tobytes() + rows.tobytes(), _CLOSE)

    def _go(self, moments: list[int], done_ns: int) -> Iterator[Correlation | None]:
        """Compute the windows of some moments, and free symbols where it is their turn."""
        self.forgotten = []
        for open_ns in moments:
            self._free(open_ns + self._width_ns)
            yield self._compute(open_ns)
        self._free(done_ns + 1)

    def _free(self, before_ns: int) -> None:
        """Free the symbols whose candles all ended before a time."""
        due = [entry for entry in self._leaving if entry[0] < before_ns]
        if not due:
            return
        for clock_ns, symbol in due:
            self._closes[:, symbol] = np.nan
            old = (self._waiting["symbol"] == symbol) & (self._waiting["known_ns"] <= clock_ns)
            self._waiting = self._waiting[~old]
            self.forgotten.append(symbol)
        self._leaving = [entry for entry in self._leaving if entry[0] >= before_ns]

    def _compute(self, open_ns: int) -> Correlation | None:
        """Move the window on to a candle's open time and return its matrix."""
        self._move_to(open_ns)
        known = self._waiting["known_ns"] <= open_ns + self._width_ns
        rows = self._waiting[known]
        self._waiting = self._waiting[~known]
        rows = rows[np.argsort(rows["known_ns"], kind="stable")]
        back = (open_ns - rows["open_ns"]) // self._width_ns
        usable = (back <= self._window) & (rows["close"] > 0)
        rows, back = rows[usable], back[usable]
        self._closes[self._window - back, rows["symbol"]] = rows["close"]  # of equal places the last stays
        return self._matrix(open_ns)

    def _move_to(self, open_ns: int) -> None:
        steps = self._window + 1
        if self._newest_ns != NEVER:
            steps = min(steps, (open_ns - self._newest_ns) // self._width_ns)
        self._newest_ns = open_ns
        self._closes = np.roll(self._closes, -steps, axis=0)
        self._closes[self._window + 1 - steps :] = np.nan

    def _matrix(self, open_ns: int) -> Correlation | None:
        returns = np.log(self._closes[1:] / self._closes[:-1])
        # How many returns up to this candle each symbol has without a hole.
        unbroken = np.logical_and.accumulate(~np.isnan(returns[::-1]), axis=0).sum(axis=0)
        symbols = np.flatnonzero(unbroken >= LEAST_RETURNS)
        if symbols.size < 2:
            return None
        have = unbroken[symbols]
        matrix = np.full((symbols.size, symbols.size), np.nan)
        common = np.minimum(have[:, None], have)
        for length in np.unique(have).tolist():
            longer = np.flatnonzero(have >= length)
            part = np.ix_(longer, longer)
            pearson = pearson_matrix(returns[self._window - length :, symbols[longer]])
            matrix[part] = np.where(common[part] == length, pearson, matrix[part])
        return Correlation(self._interval_s, open_ns, self._window, symbols, matrix)

    def snapshot(self) -> bytes:
        """Return the state as bytes."""
        shape = (self._closes.shape, self._interval_s, sorted(self._clocks))
        state = (self._clocks, self._closes, self._newest_ns, self._waiting, self._leaving)
        return pickle.dumps((shape, state), protocol=5)

    def restore(self, snapshot: bytes) -> None:
        """Take over what `snapshot` returned.

        Raises:
            ValueError: It is of another number of symbols, window, interval or set of groups.
        """
        shape, state = pickle.loads(snapshot)
        mine = (self._closes.shape, self._interval_s, sorted(self._clocks))
        if shape != mine:
            message = f"the snapshot is of ((window + 1, symbols), interval, groups) {shape}, not {mine}"
            raise ValueError(message)
        self._clocks, self._closes, self._newest_ns, self._waiting, self._leaving = state


def pearson_matrix(returns: F64) -> F64:
    """Return the k x k Pearson correlation of the columns of m x k returns; NaN where a column does not move.

    The sums are made row after row, not by BLAS, whose order depends on threads and build: equal input gives equal
    bits everywhere.
    """
    centred = returns - returns.mean(axis=0)
    products = np.einsum("ti,tj->ij", centred, centred)
    scale = np.sqrt(np.diagonal(products))
    still = scale <= LEAST_DEVIATION * np.sqrt(len(returns))
    scale = np.where(still, np.nan, scale)
    pearson: F64 = np.clip(products / np.outer(scale, scale), -1.0, 1.0)
    np.fill_diagonal(pearson, np.where(still, np.nan, 1.0))
    return pearson
