"""One venue's clock against ours: offset and drift from the lower envelope of receive - exchange time.

A one-way delay only ever adds to `receive_ns - exchange_ns`, so the line below the least values seen lately is the
clocks' offset plus the least delay, and its slope is their drift. The model and its limits: docs/clock.md. It holds no
clock of its own; every result depends on the rows given, not on how they were batched.
"""

from __future__ import annotations

from typing import Final, NamedTuple

import numpy as np

from market.schema import F64, I64, Bool

BUCKET_NS: Final = 2_000_000_000
"""The least row of each bucket is a point of the envelope; the line is fitted anew as a bucket begins."""
WINDOW_BUCKETS: Final = 30
WINDOW_NS: Final = 300_000_000_000
"""No point is older, however few there are: over a longer silence the drift of before says too little."""
DRIFT: Final = 200e-6
"""Limit of the slope: quartz is within 100 ppm, an NTP client slews by up to 500 but seldom for long."""
AHEAD_NS: Final = 25_000_000
"""A row further below the line than this is a wrong stamp, or the first of a stepped clock."""
BEHIND_NS: Final = 250_000_000
"""A row further above the line than this came over a stalled link, or is the first of a stepped clock."""
SLOT_NS: Final = 200_000_000
FLAT_NS: Final = 30_000_000
"""Rows in three slots, none of them near the line and the slots' least delays closer than this: a stepped clock."""
STRAY_NS: Final = 5_000_000_000
"""Where no row came near the line for this long, the line is wrong, flat or not."""

_UNKNOWN: Final = int(np.iinfo(np.int64).max)

Point = tuple[int, int]
"""Time of receipt and `receive_ns - exchange_ns`, both ns."""


class Line(NamedTuple):
    """A straight line of delay over time of receipt: `level_ns` at `at_ns`, `slope` in ns a ns."""

    at_ns: int
    level_ns: int
    slope: float

    def over(self, receive_ns: I64) -> I64:
        """Return the line at n times, int64."""
        steps: I64 = np.rint((receive_ns - self.at_ns) * self.slope).astype(np.int64)
        return steps + self.level_ns


class Run(NamedTuple):
    """Rows far from the line on one side, none near it since `since_ns`.

    Attributes:
        since_ns: When its first row was received.
        least_ns: The least delay of all its rows.
        points: The least delays of its last two slots with rows; a third one is the row that proved a step.
    """

    since_ns: int
    least_ns: int
    points: tuple[Point, ...]


State = tuple[int, tuple[Point, ...], tuple[int, int, int] | None, Run | None, Run | None, int | None]


class ClockKernel:
    """Offset estimator of one venue.

    Memory: `WINDOW_BUCKETS` points and two runs of two points each.
    """

    def __init__(self) -> None:
        self._bucket = -1
        self._points = np.zeros((2, 0), np.int64)  # times of receipt, strictly increasing, and delays
        self._line = Line(0, 0, 0.0)
        self._low: tuple[int, int, int] | None = None  # the bucket's least row: receipt, delay, height above the line
        self._ahead: Run | None = None
        self._behind: Run | None = None
        self._offset_ns: int | None = None

    @property
    def offset_ns(self) -> int:
        """What was added to the venue's last stamp; 0 before the first one."""
        return self._offset_ns or 0

    @property
    def error_ns(self) -> int:
        """Uncertainty of the offset: how far a typical bucket's least delay lies above the line."""
        receive_ns, delay = self._points
        return int(np.median(delay - self._line.over(receive_ns))) if delay.size else 0

    @property
    def drift(self) -> float:
        """How much faster our clock runs than the venue's, as a fraction; 0 while there is nothing to tell from."""
        return self._line.slope

    def correct(self, exchange_ns: I64, receive_ns: I64, stamped: Bool, old: Bool | None = None) -> I64:
        """Return the event time of n rows, int64, never after `receive_ns`.

        Args:
            exchange_ns: n int64, the venue's stamps.
            receive_ns: n int64, non-decreasing.
            stamped: n bool; rows without a stamp get `receive_ns`.
            old: n bool, rows known to be history; they teach nothing, and before the first other row their stamps are
                taken as they are.
        """
        event_ns = receive_ns.copy()
        rows = np.flatnonzero(stamped)
        if not rows.size:
            return event_ns
        exchange_ns, receive_ns = exchange_ns[rows], receive_ns[rows]
        if old is None or not (history := old[rows]).any():
            offset = self._learn(receive_ns, receive_ns - exchange_ns)
        else:
            current = np.flatnonzero(~history)
            before = self.offset_ns
            learned = self._learn(receive_ns[current], (receive_ns - exchange_ns)[current])
            offset = np.concatenate(([before], learned))[np.cumsum(~history)]
        event_ns[rows] = np.minimum(exchange_ns + offset, receive_ns)
        return event_ns

    def _learn(self, receive_ns: I64, delay: I64) -> I64:
        """Return the offset at n rows, int64; each row sees the rows up to itself."""
        offset = np.empty_like(delay)
        row = 0
        while row < delay.size:
            self._begin_bucket(int(receive_ns[row]), int(delay[row]))
            stop = row + int(np.searchsorted(receive_ns[row:], (self._bucket + 1) * BUCKET_NS))
            row += self._follow(receive_ns[row:stop], delay[row:stop], offset[row:stop])
        if delay.size:
            self._offset_ns = int(offset[-1])
        return offset

    def _begin_bucket(self, receive_ns: int, delay: int) -> None:
        bucket = receive_ns // BUCKET_NS
        if bucket == self._bucket:
            return
        self._bucket = bucket
        points = self._points
        if self._low is not None:
            same = points[0].searchsorted(self._low[0])  # a step or a start left a point of the same time, not lower
            points = np.column_stack((points[:, :same], self._low[:2]))
        points = points[:, points[0].searchsorted(bucket * BUCKET_NS - WINDOW_NS) :][:, -WINDOW_BUCKETS:]
        self._fit(points if points.size else np.array([[receive_ns], [delay]]))

    def _fit(self, points: I64) -> None:
        self._points = points
        self._line = lower_line(*points)
        self._low = None

    def _follow(self, receive_ns: I64, delay: I64, offset: I64) -> int:
        """Fill in the offsets of rows of one bucket up to a step of either clock; return how many rows that are."""
        line = self._line.over(receive_ns)
        rise = delay - line
        used, stepped = delay.size, None
        if rise.min() >= -AHEAD_NS and rise.max() <= BEHIND_NS:
            self._ahead = self._behind = None
        else:
            side = (rise > BEHIND_NS).astype(np.int64) - (rise < -AHEAD_NS)
            used, stepped = self._watch(receive_ns, delay, side)
            rise[side != 0] = _UNKNOWN
        low = 0 if self._low is None else min(self._low[2], 0)
        offset[:used] = line[:used] + np.minimum(np.minimum.accumulate(rise[:used]), low)
        if stepped is not None:
            self._ahead = self._behind = None
            self._fit(np.array(stepped).T)
        else:
            self._keep_low(receive_ns, delay, rise)
        return used

    def _keep_low(self, receive_ns: I64, delay: I64, rise: I64) -> None:
        row = int(rise.argmin())
        least = int(rise[row])
        if least != _UNKNOWN and (self._low is None or least < self._low[2]):
            self._low = int(receive_ns[row]), int(delay[row]), least

    def _watch(self, receive_ns: I64, delay: I64, side: I64) -> tuple[int, tuple[Point, ...] | None]:
        """Follow the runs of rows far from the line; return the first row of a stepped clock and the points of it."""
        near = np.cumsum(side == 0)
        ahead = _followed(self._ahead, receive_ns, delay, np.flatnonzero(side < 0), near)
        behind = _followed(self._behind, receive_ns, delay, np.flatnonzero(side > 0), near)
        self._ahead, self._behind = ahead[1], behind[1]
        row, run = min(ahead, behind, key=lambda end: end[0])
        return row, run.points if row < delay.size and run is not None else None

    def snapshot(self) -> State:
        """Return the state, small and immutable."""
        points = tuple(zip(*self._points.tolist(), strict=True))
        return self._bucket, points, self._low, self._ahead, self._behind, self._offset_ns

    @classmethod
    def restore(cls, state: State) -> ClockKernel:
        """Return the kernel that `snapshot` described."""
        kernel = cls()
        bucket, points, low, ahead, behind, offset_ns = state
        if points:
            kernel._fit(np.array(points).T)
        kernel._bucket, kernel._low, kernel._ahead, kernel._behind = bucket, low, ahead, behind
        kernel._offset_ns = offset_ns
        return kernel


def _followed(run: Run | None, receive_ns: I64, delay: I64, rows: I64, near: I64) -> tuple[int, Run | None]:
    """Carry a run on through the rows of its side.

    Args:
        run: What the rows before left.
        receive_ns: n int64.
        delay: n int64.
        rows: Those far from the line on the run's side, int64, sorted.
        near: n int64, how many rows near the line there are up to each; any of them ends a run.

    Returns:
        The row that proves a step, n if none does; the run's state after it, with three points if it is a step.
    """
    seen = 0
    slots = receive_ns[rows] // SLOT_NS
    cuts = np.flatnonzero((np.diff(slots) != 0) | (np.diff(near[rows]) != 0)) + 1
    starts = np.concatenate(([0], cuts)) if rows.size else rows
    lows = np.minimum.reduceat(delay[rows], starts) if rows.size else rows
    first = rows[starts]
    groups = zip(first.tolist(), receive_ns[first].tolist(), near[first].tolist(), lows.tolist(), strict=True)
    for row, at_ns, ended, low in groups:
        if run is None or ended != seen:
            run, seen = Run(at_ns, low, ((at_ns, low),)), ended
            continue
        last_ns, last_low = run.points[-1]
        if last_ns // SLOT_NS == at_ns // SLOT_NS:
            run = Run(run.since_ns, min(low, run.least_ns), (*run.points[:-1], (last_ns, min(low, last_low))))
            continue
        proven = run._replace(points=(*run.points, (at_ns, int(delay[row]))))
        if _is_step(proven):
            return row, proven
        run = Run(run.since_ns, min(low, run.least_ns), (*run.points[-1:], (at_ns, low)))
    return len(delay), run if near.size and near[-1] == seen else None


def _is_step(run: Run) -> bool:
    """Return whether a run is level: a queue swells before it is full, and a stall's burst falls."""
    if len(run.points) < 3:
        return False
    levels = [run.least_ns, *(delay for _, delay in run.points)]
    return max(levels) - min(levels) <= FLAT_NS or run.points[-1][0] - run.since_ns >= STRAY_NS


def lower_line(receive_ns: I64, delay: I64) -> Line:
    """Return the line below all points that is closest to them, its slope within ±`DRIFT`.

    Of all lines below the points, the one with the least sum of distances holds the edge of their lower convex hull
    that spans their mean time. Source: Moon, Skelly, Towsley, "Estimation and removal of clock skew from network delay
    measurements", INFOCOM 1999.

    Args:
        receive_ns: n int64, at least one, strictly increasing.
        delay: n int64.
    """
    at_ns, level_ns = int(receive_ns[-1]), int(delay[-1])
    x, y = (receive_ns - at_ns).astype(np.float64), (delay - level_ns).astype(np.float64)
    slope = max(-DRIFT, min(DRIFT, _middle_slope(x, y)))
    return Line(at_ns, level_ns + round(float((y - slope * x).min())), slope)


def _middle_slope(x: F64, y: F64) -> float:
    """Return the slope of the edge of the lower hull that spans the mean x, 0 for a single point.

    From the chord of all points, the corner furthest below becomes the end of a shorter chord, until there is none.
    """
    left, right, middle = 0, x.size - 1, float(x.sum()) / x.size
    slope = 0.0
    while left < right:
        slope = float((y[right] - y[left]) / (x[right] - x[left]))
        below = y[left : right + 1] - slope * (x[left : right + 1] - x[left]) - y[left]
        corner = left + int(below.argmin())
        if corner in (left, right) or below[corner - left] > -1.0:
            break
        if x[corner] <= middle:
            left = corner
        else:
            right = corner
    return slope
