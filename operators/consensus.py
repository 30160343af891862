"""What the venues agree on: per symbol a robust consensus price, per venue a basis, per symbol a dispersion.

Everything is in natural logarithms of price, so that a rule means the same at 1e-5 and at 1e5. Values change only when
a cell of the time grid closes, and only from ticks of the symbol itself: results do not depend on batching or on other
symbols. No verdict is made here; a wick teaches nothing. `docs/forge.md` derives the constants.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Any, Final

import numpy as np
import numpy.typing as npt

from market.schema import F64, I64, NS_PER_S, Bool
from market.venues import VENUES
from operators.cell import Cell, Part
from operators.venue_tables import flat, greatest, how_many, known_median, middle_two

GRID_NS: Final = 200_000_000
"""The consensus of a tick is the one at the last boundary of this grid before it."""
ANCHOR_NS: Final = 600_000_000
"""The anchor is the consensus 0.6 to 1.2 s ago: where the price was before the excursion that is being judged."""
FRESH_NS: Final = 3_000_000_000
"""A venue's last value takes part in the consensus for this long."""

APART_SCALES: Final = 4.0
APART_LEAST: Final = 0.005
"""Venues that disagree by more than this do not agree on a level between them."""

BAND_SCALES: Final = 5.4
"""The band is this many dispersions: natural trades stay within it, scam wicks from six on do not."""
BAND_LEAST: Final = 0.0075
"""Never narrower than half of the smallest wick of interest (1.5 %)."""
BAND_MOST: Final = 0.30
EDGE_SCALES: Final = 3.0
"""Within the edge nothing is in doubt; between edge and band only what belongs to an excursion beyond the band."""
EDGE_LEAST: Final = 0.0015

SCALE_HALF_LIFE_S: Final = 60.0
SCALE_CLIP: Final = 2.0
"""A trade teaches the dispersion at most this many of the dispersion known."""
CLIPPED_SQUARE: Final = 0.921
"""Mean square of a standard normal variable that is clipped so."""
TEACH_SCALES: Final = 4.0
"""A trade farther off teaches nothing: natural ones are not, and a wick within the band would let the next pass."""
SCALE_CELL_ROWS: Final = 1.0
"""The trades of a venue in one cell count as at most so many: prints of one order, or of one wick, are one."""
FAR_SCALES: Final = 2.0
FAR_NS: Final = 1_000_000_000
"""And where most of them are farther off than this, once in so long: a venue that stays off has said so once."""
THIN_ROWS: Final = 8.0
THIN_SHARE: Final = 0.25
"""Of a symbol with fewer trades behind its dispersion any trade teaches, as this part of one: a first guess that is far
too small is not kept alive by all that it puts beyond the band."""
SCALE_FIRST: Final = 0.001
SCALE_FIRST_ROWS: Final = 4.0
"""Before any trade: 10 bps, as if from four trades."""
QUOTES_SAY_SQUARED: Final = 2.0
"""A trade's mean square distance over that of quotes, each at least its half spread: holds where trades are few."""
QUOTES_COUNT: Final = 8.0
"""Quotes weigh at most as much as so many trades."""
STIR_SHARE: Final = 0.15
STIR_HALF_LIFE_S: Final = 1.0
"""Amid a move venues are apart by a part of it: band and edge are wider by this share of what the consensus moved."""
WARM_NS: Final = 2_000_000_000
"""A symbol's trades are not in doubt so soon after its first tick: nothing is known."""

TREND_RATE: Final = 0.1
FOLLOW_LEAST: Final = 0.1
FOLLOW_S: Final = 10.0
JUMP_SCALES: Final = 3.0
"""The level follows the venues by the tracking signal of their last ten cells, in 10 s at the latest; jumps at once."""

SAME: Final = 1e-9
"""Means of a cell this close are the same, log units: the rest is rounding."""
REPEAT_NS: Final = 3_000_000_000
"""A venue that says the same for longer may be frozen while the others go on: that is no premium, nor a dispersion."""
BASIS_FIRST: Final = 0.02
"""Standard deviation of a premium that nothing is known about."""
BASIS_DRIFT: Final = 0.3
"""A premium wanders by so many dispersions in a root second."""
USUAL_DOUBT: Final = 0.6
"""Of a basis, in dispersions; a greater one widens the band."""
BASIS_CLIP: Final = 2.0
"""A cell teaches the basis a deviation of at most so many dispersions: a venue late in a move has no premium."""
OFF_NS: Final = 1_000_000_000
"""Unless it has been off on one side for this long."""
CALM_SCALES: Final = 4.0
CALM_LEAST: Final = 0.0015
CALM_NS: Final = 1_000_000_000
"""Nothing is learned until so long after the consensus moved farther than this: venues make a move one by one."""
REGIME_NS: Final = 3_000_000_000
"""A venue that stays outside the band, with its quotes, for this long has a new basis."""
REGIME_TICKED: Final = 3
"""And it ticked in at least so many cells of the grid, wicks included."""

RATE_S: Final = 20.0
"""A venue's usual interval is learned over this time."""
PATIENCE_INTERVALS: Final = 6.0
PATIENCE_LEAST_NS: Final = 300_000_000
PATIENCE_MOST_NS: Final = 5_000_000_000
"""A venue is overdue after six of its usual intervals: one of 400 random intervals is longer."""
QUIET_S: Final = 60.0
"""Time passes for what is learned by at most this much from one tick of a symbol to the next."""

_VENUES: Final = len(VENUES)
_LONG_AGO: Final = int(np.iinfo(np.int64).min // 2)
_ACROSS: Final = ("_errors", "_squares")
"""Tables whose last axis is that of the symbols, not their first."""


class Consensus:
    """Consensus, basis and dispersion of the symbols of a key group; arrays of symbols, or of symbols x 7 venues.

    The latter are in Fortran order: a venue's column is contiguous, and NumPy goes along columns of all symbols, not
    along rows of seven.

    Attributes:
        level: Log consensus, basis removed; NaN without one.
        count: Venues behind it.
        anchor: Log consensus of 0.6 to 1.2 s ago.
        basis: Log premium of each venue over the consensus.
        scale: Dispersion: standard deviation of trades around the consensus, log units.
        band: How far from the consensus a venue's trade may be by itself; inf where too little is known to say.
        edge: Within it nothing is in doubt.
        centre: `level + basis`.
        witnessed_ns: When so many other venues had been received as a verdict needs, for the last time.
        heard_ns: When each venue was last received.
        value: Each venue's newest value, wicks left out: the mean of its last cell, or the newest tick if it ran away.
    """

    def __init__(self, symbols: int, witnesses: int = 1) -> None:
        """Build for a number of symbols; `witnesses` as in `ForgePolicy`."""
        self._witnesses = witnesses

        def table(value: float) -> F64:
            return np.full((_VENUES, symbols), value).T

        def times() -> I64:
            return np.full((_VENUES, symbols), _LONG_AGO).T

        self.level = np.full(symbols, np.nan)
        self.count = np.zeros(symbols, np.int64)
        self.anchor = np.full(symbols, np.nan)
        self.basis = table(0.0)
        self.scale = np.full(symbols, SCALE_FIRST)
        self.band = table(np.inf)
        self.edge = table(np.inf)
        self.centre = table(np.nan)
        self.witnessed_ns = times()
        self.heard_ns = times()
        self._first_ns = np.full(symbols, -1, np.int64)
        self._closed_ns = np.full(symbols, _LONG_AGO, np.int64)
        self._errors = np.zeros((2, symbols))  # smoothed change of the level, with its sign and without
        self._next_anchor = np.full(symbols, np.nan)
        self._anchor_cell = np.zeros(symbols, np.int64)
        self.value = table(np.nan)
        self._rows = table(0.0)  # ticks behind it
        self._doubt = table(BASIS_FIRST**2)  # variance of the basis
        self._squares = np.zeros((4, symbols))  # of trades: sum and number; of quotes: sum and number; fading
        self._ticks = table(0.0)  # and the seconds they came in; fading
        self._seconds = np.zeros(symbols)
        self._away_ns = times()  # outside the band since; LONG_AGO: inside
        self._away = np.zeros((_VENUES, symbols), np.int64).T  # in so many cells
        self._stir = np.zeros(symbols)  # how far the consensus moved lately
        self._stirred_ns = np.full(symbols, _LONG_AGO, np.int64)
        self._off_ns = times()  # off its basis on one side since; LONG_AGO: it is not
        self._off_side = np.zeros((_VENUES, symbols), np.int8).T
        self._changed_ns = times()  # said something new, for the last time
        self._far_ns = times()  # taught the dispersion from far off, for the last time

    def patience_ns(self, symbols: I64) -> I64:
        """Return for n symbols the age of each venue's newest tick from which its next is overdue, n x 7 int64."""
        ticks, seconds = self._ticks[symbols], self._seconds[symbols, None]
        usual_ns = PATIENCE_INTERVALS * NS_PER_S * seconds / np.maximum(ticks, 1e-3)
        patience = np.minimum(usual_ns, PATIENCE_MOST_NS - PATIENCE_LEAST_NS) + PATIENCE_LEAST_NS
        return np.where(ticks > 0, patience, 0).astype(np.int64)

    def close(self, boundary_ns: int, cell: Cell) -> None:
        """Learn from the ticks of a cell of the grid that ends at a boundary; symbols without any stay as they are."""
        heard = np.zeros((_VENUES, self.level.size), bool)
        heard.reshape(-1)[cell.place] = True
        ticked = np.asarray(heard.any(axis=0))
        symbols, silent = ticked.nonzero()[0], (~ticked).nonzero()[0]
        if symbols.size >= silent.size:  # tables are read and written as they are, which is fastest
            kept = self._of(silent) if silent.size else None
            self._close(boundary_ns, cell)
            if kept:
                self._put(silent, kept)
            return
        number = np.cumsum(ticked) - 1
        venue, symbol = np.divmod(cell.place, ticked.size)
        part = self._of(symbols)
        part._close(boundary_ns, replace(cell, place=venue * symbols.size + number[symbol]))
        self._put(symbols, part)

    def _of(self, symbols: I64) -> Consensus:
        """Return a copy for some symbols."""
        part = Consensus.__new__(Consensus)
        vars(part).update(vars(self))
        for name, table in self._tables():
            across = name in _ACROSS
            setattr(part, name, table.take(symbols, axis=1) if across else table.T.take(symbols, axis=-1).T)
        return part

    def _put(self, symbols: I64, part: Consensus) -> None:
        """Take over the values of some symbols."""
        for name, table in self._tables():
            table[(slice(None), symbols) if name in _ACROSS else symbols] = getattr(part, name)

    def _tables(self) -> list[tuple[str, npt.NDArray[Any]]]:
        return [(name, table) for name, table in vars(self).items() if name != "_witnesses"]

    def _close(self, boundary_ns: int, cell: Cell) -> None:
        self._move_anchor(boundary_ns)
        part = Part(cell, self.level.size)
        seconds = self._pass_time(boundary_ns)
        news = self._take_values(part, boundary_ns)
        before = self.level
        self._set_level(part.accused, seconds, boundary_ns)
        self._learn(part, news, before, seconds, boundary_ns)
        self._set_bands(boundary_ns)

    def _move_anchor(self, boundary_ns: int) -> None:
        cell = boundary_ns // ANCHOR_NS
        behind = cell - self._anchor_cell
        moved = behind > 0
        if not moved.any():
            return
        anchor = np.where(behind == 1, self._next_anchor, self.level)
        self.anchor = np.where(moved, anchor, self.anchor)
        self._next_anchor = np.where(moved, self.level, self._next_anchor)
        self._anchor_cell = np.maximum(self._anchor_cell, cell)

    def _pass_time(self, boundary_ns: int) -> F64:
        """Let what was learned fade; return the seconds since each symbol's last tick."""
        new = self._first_ns < 0
        self._first_ns[new] = self._closed_ns[new] = boundary_ns
        seconds = np.minimum((boundary_ns - self._closed_ns) / NS_PER_S, QUIET_S)
        self._closed_ns[:] = boundary_ns
        self._squares *= np.exp2(-seconds / SCALE_HALF_LIFE_S)
        faded = np.exp(-seconds / RATE_S)
        self._ticks *= faded[:, None]
        self._seconds = self._seconds * faded + seconds
        self._doubt += ((BASIS_DRIFT * self.scale) ** 2 * seconds)[:, None]
        np.minimum(self._doubt, BASIS_FIRST**2, out=self._doubt)
        return seconds

    def _take_values(self, part: Part, boundary_ns: int) -> Bool:
        """Bring each venue's value up to date: the mean of the cell, or its newest tick where it runs away.

        Returns:
            Which venues have news, s x 7 bool: one that only repeats what it said may be frozen, and teaches nothing.
        """
        flat(self.heard_ns)[part.place] = part.receive_ns  # of equal places the last stays
        newest = part.mean_value.copy(order="K")
        flat(newest)[part.place] = part.value
        far = np.abs(newest - part.mean_value) > (2 * self.scale)[:, None]
        value = np.where(part.heard, part.mean_value, self.value)
        self._rows = np.where(part.heard, part.rows, self._rows)
        few = np.flatnonzero(far.T)
        flat(value)[few], flat(self._rows)[few] = flat(newest)[few], 1.0
        changed = part.heard & ~(np.abs(value - self.value) <= SAME)
        self._changed_ns = np.where(changed, boundary_ns, self._changed_ns)
        self.value = value
        self._ticks += part.rows
        return np.asarray(part.heard & (boundary_ns - self._changed_ns <= REPEAT_NS))

    def _set_level(self, accused: Bool, seconds: F64, boundary_ns: int) -> None:
        """Set level and count: the precision-weighted mean of those fresh venues that agree with their median.

        A venue that had a wick in this cell has no say, quotes neither, if any other is fresh.
        Where the middle two of an even number disagree by more than the band, half of the venues have moved and half
        have not: the consensus stays with the half nearer to where it was, until one side is the majority.
        """
        age_ns = boundary_ns - self.heard_ns  # history does not count as heard
        fresh = age_ns <= FRESH_NS
        if accused.any():
            others = fresh & ~accused
            fresh = np.where((how_many(others) > 0)[:, None], others, fresh)
        values = np.where(fresh, self.value - self.basis, np.inf)
        count = how_many(fresh)
        low, high = middle_two(values, count)
        scale, before = self.scale, self.level
        with np.errstate(invalid="ignore"):  # inf - inf where no venue is fresh
            apart = high - low > np.maximum(APART_SCALES * scale, APART_LEAST)
            middle = (low + high) / 2
            nearer = np.where(np.abs(low - before) <= np.abs(high - before), low, high)
            start = np.where(apart & np.isfinite(before), nearer, middle)
            away = np.abs(values - start[:, None])
            near = away <= np.maximum(3 * scale, np.where(apart, 0.0, (high - low) / 2 * 1.001))[:, None]
        weight = near / (1 / np.maximum(self._rows, 1) + 0.3 + np.minimum(age_ns / NS_PER_S, 10.0) * 2)
        total = weight.sum(axis=1)
        mean = (np.where(near, values, 0.0) * weight).sum(axis=1) / np.maximum(total, 1e-300)
        found = np.where(count > 0, np.where(total > 0, mean, start), np.nan)
        self.level = self._smoothed(found, seconds)
        self.count = count

    def _smoothed(self, found: F64, seconds: F64) -> F64:
        """Return the level that follows a consensus as fast as its errors run in one direction (Trigg and Leach).

        Noise alone changes its sign and is averaged; a trend does not, and a jump beyond noise is followed at once.
        """
        before = self.level
        error = found - before
        error[np.isnan(error)] = 0.0
        errors = self._errors
        errors[0] += TREND_RATE * (error - errors[0])
        errors[1] += TREND_RATE * (np.abs(error) - errors[1])
        gain = np.abs(errors[0]) / np.maximum(errors[1], 1e-300)
        gain = np.maximum(np.minimum(gain, 1.0), np.minimum(np.maximum(seconds / FOLLOW_S, FOLLOW_LEAST), 1.0))
        at_once = ~(np.abs(error) <= JUMP_SCALES * self.scale) | ~np.isfinite(before)
        return np.where(at_once | ~np.isfinite(found), found, before + gain * error)

    def _learn(self, part: Part, news: Bool, before: F64, seconds: F64, boundary_ns: int) -> None:
        """Learn basis, dispersion and regimes from a cell, measured from the middle of the levels around it."""
        level = self.level
        alone = how_many(part.heard) == 1  # then the new level is mostly this venue's own
        middle = np.where(np.isfinite(before), np.where(alone, before, (before + level) / 2), level)
        scale = self.scale
        deviation = part.value - flat(middle[:, None] + self.basis).take(part.place)
        band = np.maximum(BAND_SCALES * np.sqrt(scale[:, None] ** 2 + self._doubt), BAND_LEAST)
        inside = np.abs(deviation) <= flat(np.minimum(band, BAND_MOST)).take(part.place)
        count, total = part.rows, part.sums(deviation)
        calm_cell = bool(inside.all())
        if not calm_cell:
            count, total = part.sums(inside), part.sums(np.where(inside, deviation, 0.0))
        moved = np.maximum(np.abs(level - self.anchor), np.abs(level - before))  # NaN at first
        stirred = moved > np.maximum(CALM_SCALES * scale, CALM_LEAST)
        self._stirred_ns[stirred] = boundary_ns
        faded = self._stir * np.exp2(-seconds / STIR_HALF_LIFE_S)
        self._stir = np.maximum(np.where(stirred, moved, 0.0), faded)
        calm = boundary_ns - self._stirred_ns >= CALM_NS
        compared = (self.count > 1) & calm
        teaches = news & compared[:, None] & ~(part.accused | part.lagged)
        self._learn_basis(count * teaches, total, boundary_ns)
        self._learn_scale(part, deviation, inside & flat(teaches).take(part.place), boundary_ns)
        if not calm_cell or self._away.any():
            quoted = part.sums(np.isfinite(part.half) & ~inside) > 0
            compared_to = self.count[:, None] > ~part.accused  # some other venue
            self._learn_regime(part, news, count, quoted & compared_to, middle, boundary_ns)

    def _learn_basis(self, count: F64, total: F64, boundary_ns: int) -> None:
        """Move each basis towards the mean deviation, as a Kalman filter of a wandering premium does."""
        doubt = self._doubt
        noise = self.scale[:, None] ** 2 / np.maximum(count, 1)
        heard = count > 0
        gain = doubt / (doubt + noise) * heard
        mean = total / np.maximum(count, 1)
        most = BASIS_CLIP * np.sqrt(self.scale[:, None] ** 2 + doubt)
        lasting = self._is_off_for_long(heard, mean, boundary_ns)
        clipped = np.minimum(np.maximum(mean, -most), most)
        mean = np.where(lasting, mean, clipped) if lasting.any() else clipped
        step = gain * mean
        self._doubt = doubt * (1 - gain)
        known = self._doubt < BASIS_FIRST**2 / 2
        common = known_median(step, known)  # is the market's, which the level has yet to follow
        common = np.where(np.isfinite(common), common, 0.0)
        basis = self.basis + step - (heard & known) * common[:, None]
        shift = known_median(basis, known)
        shift = np.where(np.isfinite(shift), shift, 0.0)
        self.basis = basis - known * shift[:, None]
        for along in (self.level, self.anchor, self._next_anchor):
            along += shift

    def _is_off_for_long(self, heard: Bool, mean: F64, boundary_ns: int) -> Bool:
        """Return which venues have been beyond half the clip, on one side, for OFF_NS: such a premium is no lag."""
        least = self.scale[:, None] * BASIS_CLIP / 2
        side = (mean > least).view(np.int8) - (mean < -least).view(np.int8)
        goes_on = (side == self._off_side) & (side != 0)
        lasting: Bool = heard & goes_on & (self._off_ns <= boundary_ns - OFF_NS)
        self._off_ns = np.where(heard & ~goes_on, boundary_ns, self._off_ns)
        self._off_side += (side - self._off_side) * heard  # where it was heard; thrice as fast as `where` on bytes
        return lasting

    def _learn_scale(self, part: Part, deviation: F64, inside: Bool, boundary_ns: int) -> None:
        off, trade, sums = np.abs(deviation), np.isnan(part.half), self._squares
        scale = self.scale.take(part.symbol)
        most = SCALE_CLIP * scale
        teaches = trade & inside & (off <= TEACH_SCALES * scale)
        far = teaches & (off > FAR_SCALES * scale)
        if far.any():
            teaches &= self._in_turn(part.sums(far) > part.sums(teaches) / 2, boundary_ns).T.take(part.place)
        share, squares = teaches.astype(np.float64), np.minimum(off, most) ** 2 / CLIPPED_SQUARE
        thin = (sums[1] < THIN_ROWS) & (self.count > 1)
        if thin.any():
            rows = (thin.take(part.symbol) & trade & (off <= BAND_MOST)).nonzero()[0]
            share[rows] = np.maximum(share[rows], THIN_SHARE)
            squares[rows] = off[rows] ** 2
        quotes = (~trade & inside).astype(np.float64)
        spread = np.minimum(np.fmax(off, part.half), most)
        for number, (share_of, squares_of) in enumerate(((share, squares), (quotes, spread**2))):
            rows = part.sums(share_of)
            one = 1 / np.maximum(rows / SCALE_CELL_ROWS, 1.0)
            sums[2 * number] += (part.sums(share_of * squares_of) * one).sum(axis=1)
            sums[2 * number + 1] += (rows * one).sum(axis=1)
        quoted = np.minimum(sums[3], QUOTES_COUNT)
        guess = QUOTES_SAY_SQUARED * sums[2] / np.maximum(sums[3], 1e-9)
        known = sums[0] + quoted * guess + SCALE_FIRST_ROWS * np.where(quoted > 0, guess, SCALE_FIRST**2)
        self.scale = np.sqrt(known / (sums[1] + quoted + SCALE_FIRST_ROWS))

    def _in_turn(self, far: Bool, boundary_ns: int) -> Bool:
        """Return which venues may teach the dispersion now, s x 7 bool: those not `far` off, or not so lately."""
        lately = boundary_ns - self._far_ns < FAR_NS
        self._far_ns = np.where(far & ~lately, boundary_ns, self._far_ns)
        return ~(far & lately)

    def _learn_regime(self, part: Part, heard: Bool, inside: F64, quoted: Bool, middle: F64, boundary_ns: int) -> None:
        """Give a venue that has been outside the band for long, alone and with its quotes, the basis it shows."""
        since, cells = self._away_ns, self._away
        back = heard & (inside > part.rows / 2)
        away = heard & ~back
        since = np.where(back, _LONG_AGO, np.where(away & quoted & (since == _LONG_AGO), boundary_ns, since))
        there = away | part.accused
        cells = np.where(back, 0, cells + (there & (since != _LONG_AGO)))
        settled = there & (since != _LONG_AGO) & (boundary_ns - since >= REGIME_NS) & (cells >= REGIME_TICKED)
        if settled.any():
            shown = self.value - middle[:, None]
            self.basis = np.where(settled, shown, self.basis)
            noise = self.scale[:, None] ** 2 / np.maximum(part.rows, 1)
            self._doubt = np.where(settled, noise, self._doubt)
            since, cells = np.where(settled, _LONG_AGO, since), np.where(settled, 0, cells)
        self._away_ns, self._away = since, cells

    def _set_bands(self, boundary_ns: int) -> None:
        level, basis = self.level[:, None], self.basis
        scale = self.scale[:, None]  # a usual doubt about the basis is in what it was learned from
        doubt = np.maximum(self._doubt - (USUAL_DOUBT * scale) ** 2, 0.0)
        few = 1 / np.sqrt(2 * self._squares[1, :, None] + 8)
        spread = np.sqrt(scale**2 + doubt) * (1 + few)
        unknown = np.where(np.isfinite(level) & (boundary_ns >= self._first_ns[:, None] + WARM_NS), 0.0, np.inf)
        stir = STIR_SHARE * self._stir[:, None]
        band = np.minimum(np.maximum(BAND_SCALES * spread, BAND_LEAST) + stir, BAND_MOST)
        edge = np.minimum(np.maximum(EDGE_SCALES * spread, EDGE_LEAST) + stir, BAND_MOST)
        centre = level + basis
        self.centre = centre
        heard_ns = self.heard_ns
        newest = greatest(heard_ns, self._witnesses + 1)
        enough = newest[min(self._witnesses, _VENUES) - 1][:, None]  # counting the venue itself
        without = newest[min(self._witnesses, _VENUES - 1)][:, None]
        self.witnessed_ns = np.where(heard_ns >= enough, without, enough)
        self.band, self.edge = band + unknown, edge + unknown

    def forget(self, symbols: I64) -> None:
        """Forget some symbols, local."""
        self._put(symbols, Consensus(symbols.size))
