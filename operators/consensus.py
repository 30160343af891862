"""What the venues agree on: per symbol a robust consensus price, per venue a basis, per symbol a dispersion.

Everything is in natural logarithms of price, so that a rule means the same at 1e-5 and at 1e5. Values change only when
a cell of the time grid closes, and only from ticks of the symbol itself: results do not depend on batching or on other
symbols. No verdict is made here; a wick teaches nothing, because medians over venues ignore it.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

import numpy as np

from market.records import WICK
from market.schema import F64, I8, I64, QUOTE, TRADE, Bool, Rows, join
from market.venues import VENUES

GRID_NS: Final = 100_000_000
"""The consensus of a tick is the one at the last boundary of this grid before it."""
ANCHOR_NS: Final = 500_000_000
"""The anchor is the consensus 0.5 to 1 s ago: where the price was before the excursion that is being judged."""
FOLD_NS: Final = 1_000_000_000
"""Basis and dispersion learn once in this time."""
FRESH_NS: Final = 3_000_000_000
"""A venue's last value takes part in the consensus for this long."""
BAND_SCALES: Final = 4.5
"""The band is this many dispersions: above the 4 that natural trades reach, below the 6 from which a wick counts.
Measured dispersions are some tenth too wide: the consensus they are measured from has noise of its own."""
BAND_LEAST: Final = 0.0075
"""Never narrower than half of the smallest wick of interest (1.5 %)."""
BAND_MOST: Final = 0.30
SCALE_RATE: Final = 1 / 87  # half-life of 60 folds
BASIS_RATE: Final = 1 / 44  # half-life of 30 folds
SIGMA_OF_MEAN_ABS: Final = 1.2533
"""Standard deviation of a normal variable over its mean absolute value, sqrt(pi / 2)."""
WARM_FOLDS: Final = 2
REGIME_FOLDS: Final = 5
"""A venue that is outside the band, alone, for this many folds in a row in which it is heard has a new basis."""
RATE_RATE: Final = 1 / 20
USUAL_TICKS: Final = 2.0
"""A venue is not overdue within this many of its usual intervals: six of seven random intervals are shorter."""
USUAL_MOST_NS: Final = 1_000_000_000
QUIET_FOLDS: Final = 60
"""A rate is taken over this many folds at most, so that one quiet hour is not what is usual."""

_VENUES: Final = len(VENUES)


@dataclass(slots=True)
class Comparison:
    """n rows against their consensus.

    Attributes:
        reference: n float64, the consensus as a price of the row's venue (basis added); NaN without one.
        deviation: n float64, log price less log reference.
        peers: n int64, other venues with a fresh value.
        suspect: n bool, outside the band of both consensus and anchor, and enough is known to say so.
    """

    reference: F64
    deviation: F64
    peers: I64
    suspect: Bool


class Consensus:
    """Consensus, basis and dispersion of the symbols of a key group; arrays of (symbols, venues)."""

    def __init__(self, symbols: int) -> None:
        table = (symbols, _VENUES)
        self.basis = np.zeros(table)
        """Log premium of each venue over the consensus."""
        self.scale = np.zeros(symbols)
        """Dispersion: standard deviation of trades around the consensus, log units."""
        self._value = np.full(table, np.nan)
        self._event_ns = np.zeros(table, np.int64)
        self._receive_ns = np.full(table, np.iinfo(np.int64).min // 2, np.int64)
        self._level = np.full(symbols, np.nan)
        self._count = np.zeros(symbols, np.int64)
        self._anchor = np.full((symbols, 2), np.nan)  # the newest, and the one before it, which is used
        self._anchor_cell = np.zeros(symbols, np.int64)
        self._fold_cell = np.zeros(symbols, np.int64)
        self._folds = np.zeros(symbols, np.int64)
        self._basis_folds = np.zeros(table, np.int64)
        self._alone = np.zeros(table, np.int64)
        self._rate = np.zeros(table)  # ticks a second
        self._sums = np.zeros((4, *table))  # |deviation|, rows, deviation, quotes
        self._good = np.zeros((2, *table))  # deviation and rows of ticks inside the band
        self._cell: list[tuple[Rows, I64, I8]] = []

    def band(self, symbol: int | I64) -> float | F64:
        """Return how far from the consensus a trade of a symbol may be, log units."""
        return np.minimum(np.maximum(BAND_SCALES * self.scale[symbol], BAND_LEAST), BAND_MOST)

    def anchor_of(self, symbol: int) -> float:
        """Return the log consensus of 0.5 to 1 s ago, NaN if there was none."""
        return float(self._anchor[symbol, 1])

    def overdue_ns(self, symbol: int) -> I64:
        """Return for each venue the age of its newest tick from which its next is overdue, 7 int64; 0 if unknown."""
        rate = self._rate[symbol]
        usual_ns = USUAL_TICKS * 1e9 / np.maximum(rate, 1e-3)
        return np.where(rate > 0, np.minimum(usual_ns, USUAL_MOST_NS), 0).astype(np.int64)

    def level_of(self, symbols: I64) -> tuple[F64, I64]:
        """Return the consensus price of some symbols and how many venues are behind it."""
        return np.exp(self._level[symbols]), self._count[symbols]

    def compare(self, ticks: Rows, local: I64) -> Comparison:
        """Compare n trades, TICK rows, with the consensus at the last closed boundary."""
        venue, receive_ns = ticks["venue"], ticks["receive_ns"]
        value = np.log(ticks["price"]) - self.basis[local, venue]
        level = self._level[local]
        deviation = value - level
        oldest_ns = receive_ns - FRESH_NS
        peers = (self._receive_ns[local] >= oldest_ns[:, None]).sum(axis=1)
        peers -= self._receive_ns[local, venue] >= oldest_ns
        suspect = (np.abs(deviation) > self.band(local)) & (peers > 0)
        if suspect.any():
            suspect &= self._far(local, venue, value)
        return Comparison(np.exp(level + self.basis[local, venue]), deviation, peers, suspect)

    def _far(self, local: I64, venue: I8, value: F64) -> Bool:
        """Return which values are far from consensus and anchor, where enough is known to say so."""
        folds = self._basis_folds[local, venue]
        band = self.band(local) * np.sqrt(1 + 1 / np.maximum(folds, 1))  # a basis of few folds is itself uncertain
        known = (self._folds[local] >= WARM_FOLDS) & (folds > 0)
        far: Bool = known & (np.abs(value - self._level[local]) > band)
        far &= np.abs(value - self._anchor[local, 1]) > band
        return far

    def observe(self, ticks: Rows, local: I64, verdict: I8) -> None:
        """Keep released ticks of the open grid cell until it closes."""
        self._cell.append((ticks, local, verdict))

    def close_grid(self, boundary_ns: int) -> I64:
        """Close the open cell; return the local indices of the symbols that had ticks in it, ascending."""
        if not self._cell:
            return np.zeros(0, np.int64)
        ticks = join([part[0] for part in self._cell])
        local = np.concatenate([part[1] for part in self._cell])
        verdict = np.concatenate([part[2] for part in self._cell])
        value = log_value(ticks)
        deviation = value - self.basis[local, ticks["venue"]] - self._level[local]
        self._cell = []
        touched = np.unique(local)
        self._move_anchor(touched, boundary_ns)
        due = touched[self._fold_cell[touched] < boundary_ns // FOLD_NS]
        if due.size:
            self._fold(due, np.minimum(boundary_ns // FOLD_NS - self._fold_cell[due], QUIET_FOLDS))
            self._fold_cell[due] = boundary_ns // FOLD_NS
        self._count_in(ticks, local, verdict != WICK, deviation)
        self._take_newest(ticks, local, np.where(verdict == WICK, np.nan, value))
        self._level[touched], self._count[touched] = self._median(touched, boundary_ns)
        return touched

    def _move_anchor(self, touched: I64, boundary_ns: int) -> None:
        cell = boundary_ns // ANCHOR_NS
        behind = cell - self._anchor_cell[touched]
        moved = touched[behind > 0]
        self._anchor[moved, 1] = np.where(behind[behind > 0] == 1, self._anchor[moved, 0], self._level[moved])
        self._anchor[moved, 0] = self._level[moved]
        self._anchor_cell[moved] = cell

    def _count_in(self, ticks: Rows, local: I64, good: Bool, deviation: F64) -> None:
        known = np.isfinite(deviation)
        if not known.any():
            return
        shape = self.basis.shape
        size = self.basis.size
        deviation = deviation[known]
        local, good = local[known], good[known]
        place = local * _VENUES + ticks["venue"][known]
        quote = ticks["kind"][known] == QUOTE
        bid, ask = ticks["bid"][known], ticks["ask"][known]
        spread = np.abs(deviation) + np.where(quote, (ask - bid) / (ask + bid), 0.0)
        inside = good & (np.abs(deviation) <= self.band(local))
        for total, weights in zip(self._sums, (spread, None, deviation, quote), strict=True):
            total += np.bincount(place, weights, size).reshape(shape)
        place = place[inside]
        self._good[0] += np.bincount(place, deviation[inside], size).reshape(shape)
        self._good[1] += np.bincount(place, None, size).reshape(shape)

    def _take_newest(self, ticks: Rows, local: I64, value: F64) -> None:
        """Bring each venue's last value up to date, by event time; a quote's mid counts like a trade."""
        event_ns, venue = ticks["event_ns"], ticks["venue"]
        keep = np.flatnonzero(np.isfinite(value) & (event_ns >= self._event_ns[local, venue]))
        rows = keep[np.argsort(event_ns[keep], kind="stable")]
        place = local[rows], venue[rows]
        self._value[place] = value[rows]  # of equal places the last stays
        self._event_ns[place] = event_ns[rows]
        self._receive_ns[place] = ticks["receive_ns"][rows]

    def _median(self, symbols: I64, now_ns: int) -> tuple[F64, I64]:
        """Return the median of the fresh venues' values and their number.

        Where the middle two of an even number disagree by more than the band, half of the venues have moved and half
        have not: the consensus stays with the one nearer to where it was, until one side is the majority.
        """
        fresh = (now_ns - self._receive_ns[symbols]) <= FRESH_NS
        values = np.sort(np.where(fresh, self._value[symbols] - self.basis[symbols], np.inf), axis=1)
        count = fresh.sum(axis=1)
        row = np.arange(symbols.size)
        low, high = values[row, np.maximum(count - 1, 0) // 2], values[row, count // 2 % _VENUES]
        with np.errstate(invalid="ignore"):  # inf - inf where no venue is fresh
            apart = high - low > self.band(symbols)
            middle = (low + high) / 2
        nearer = np.where(self._level[symbols] < middle, low, high)
        level = np.where(apart & np.isfinite(self._level[symbols]), nearer, middle)
        return np.where(count > 0, level, np.nan), np.asarray(count)

    def _fold(self, symbols: I64, seconds: I64) -> None:
        """Learn basis, dispersion and rates of some symbols from their sums since the last fold, `seconds` ago."""
        rows = self._sums[1, symbols]
        seen = rows > 0
        with np.errstate(invalid="ignore", divide="ignore"):
            spread = np.where(seen, self._sums[0, symbols] / rows, np.nan)
            mean = np.where(seen, self._sums[2, symbols] / rows, 0.0)
            inside = np.where(self._good[1, symbols] > 0, self._good[0, symbols] / self._good[1, symbols], np.nan)
        learned = seen.any(axis=1)
        self._learn_scale(symbols[learned], spread[learned])
        self._learn_basis(symbols, inside)
        self._learn_regime(symbols, mean, seen, self._sums[3, symbols] > 0)
        self._learn_rate(symbols[learned], rows[learned] / seconds[learned, None])
        self._folds[symbols[learned]] += 1
        self._sums[:, symbols] = 0.0
        self._good[:, symbols] = 0.0

    def _learn_scale(self, symbols: I64, spread: F64) -> None:
        if not symbols.size:
            return
        typical = known_median(spread) * SIGMA_OF_MEAN_ABS
        folds = self._folds[symbols]
        most = np.where(folds >= WARM_FOLDS, 2 * self.scale[symbols] + 1e-4, np.inf)
        rate = np.maximum(1 / (folds + 1), SCALE_RATE)
        self.scale[symbols] += rate * (np.minimum(typical, most) - self.scale[symbols])

    def _learn_basis(self, symbols: I64, inside: F64) -> None:
        known = np.isfinite(inside)
        folds = self._basis_folds[symbols]
        rate = np.maximum(1 / (folds + 1), BASIS_RATE)
        basis = self.basis[symbols] + np.where(known, rate * np.nan_to_num(inside), 0.0)
        self._basis_folds[symbols] += known
        ours = np.where(self._basis_folds[symbols] > 0, basis, np.nan)
        some = np.isfinite(ours).any(axis=1)
        basis[some] -= known_median(ours[some])[:, None]
        self.basis[symbols] = np.where(self._basis_folds[symbols] > 0, basis, 0.0)

    def _learn_rate(self, symbols: I64, rate: F64) -> None:
        pace = np.maximum(1 / (self._folds[symbols] + 1), RATE_RATE)[:, None]
        self._rate[symbols] += pace * (rate - self._rate[symbols])

    def _learn_regime(self, symbols: I64, mean: F64, seen: Bool, quoted: Bool) -> None:
        away = np.abs(mean) > np.asarray(self.band(symbols))[:, None]
        alone = self._alone[symbols] + (seen & away & quoted)
        self._alone[symbols] = np.where(seen & ~away, 0, alone)
        settled = self._alone[symbols] >= REGIME_FOLDS
        if settled.any():
            self.basis[symbols] += np.where(settled, mean, 0.0)
            self._basis_folds[symbols] += settled
            self._alone[symbols] = np.where(settled, 0, self._alone[symbols])


def log_value(ticks: Rows) -> F64:
    """Return the log price of trades and the log mid of quotes, n float64; NaN where a side is missing."""
    price = np.where(ticks["kind"] == TRADE, ticks["price"], np.sqrt(ticks["bid"] * ticks["ask"]))
    return np.asarray(np.log(price))


def known_median(values: F64) -> F64:
    """Return the median of each row of n x m float64 without its NaNs, n float64; NaN where all are.

    A twentieth of the time of `np.nanmedian` on a few short rows.
    """
    ordered = np.sort(values, axis=1)  # NaN last
    count = np.isfinite(values).sum(axis=1)
    row = np.arange(len(values))
    median: F64 = (ordered[row, (count - 1) // 2] + ordered[row, np.minimum(count // 2, values.shape[1] - 1)]) / 2
    return median
