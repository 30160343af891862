"""The evidence: where each venue was lately, and what that says about the trades that are in doubt.

The way of each symbol on each venue is kept as the least and the greatest value in cells of `CELL_NS` of event time,
for the last `CELLS` of them. So memory does not depend on how busy a market is, and thousands of trades of a crash are
voted on in one go. Values are natural logarithms of price. Silence never counts as "did not move": a venue is **live**
for a trade only if it was heard with an event time after it.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Final

import numpy as np

from market.schema import F64, I64, Bool
from market.venues import VENUES
from operators.hold import Seen

CELL_NS: Final = 25_000_000
CELLS: Final = 96
"""2.4 s: the lateness of a trade over a stalled link, and BACK_NS before it."""
BACK_NS: Final = 300_000_000
"""Evidence may precede the trade by this much: another venue was there first."""
LONG_AGO: Final = int(np.iinfo(np.int64).min // 2)

_VENUES: Final = len(VENUES)


@dataclass(slots=True)
class Extremes:
    """Where the venues were in a stretch of event time, for n trades: n x 7 float64; +inf and -inf where not heard."""

    least: F64
    greatest: F64

    def farthest(self, forward: Bool) -> F64:
        """Return how far each venue came, up where `forward` (n bool) is true, else down; n x 7 float64."""
        return np.where(forward[:, None], self.greatest, self.least)


class Evidence:
    """What the ticks of a key group show. Memory: `2 * CELLS + 2` numbers a symbol and venue.

    Attributes:
        newest: symbols x 7 float64, value with the newest event time.
        newest_ns: symbols x 7 int64, that event time.
    """

    def __init__(self, symbols: int) -> None:
        self._symbols = symbols
        self._width = symbols * _VENUES
        self._least = np.full(CELLS * self._width, np.inf)
        self._greatest = np.full(CELLS * self._width, -np.inf)
        self._front = LONG_AGO // CELL_NS
        self.newest = np.full((symbols, _VENUES), np.nan)
        self.newest_ns = np.full((symbols, _VENUES), LONG_AGO, np.int64)

    def add(self, seen: Seen) -> None:
        """Take n ticks, received after all before."""
        if not seen.place.size:
            return
        place, value, event_ns = seen.place, seen.value, seen.event_ns
        self.advance(int(seen.receive_ns.max()))
        newest_ns = self.newest_ns.reshape(-1)
        np.maximum.at(newest_ns, place, event_ns)
        rows = (event_ns == newest_ns[place]).nonzero()[0]
        self.newest.reshape(-1)[place[rows]] = value[rows]  # of equal places the last stays
        cell = event_ns // CELL_NS
        if cell.min() <= self._front - CELLS:
            rows = (cell > self._front - CELLS).nonzero()[0]
            place, value, cell = place[rows], value[rows], cell[rows]
        at = cell % CELLS * self._width + place
        np.minimum.at(self._least, at, value)
        np.maximum.at(self._greatest, at, value)

    def advance(self, now_ns: int) -> None:
        """Make room for event times up to a time of receipt: nothing is received before it happens."""
        front = now_ns // CELL_NS
        behind = front - self._front
        if behind <= 0:
            return
        least, greatest = self._planes()
        if behind >= CELLS:
            least[:], greatest[:] = np.inf, -np.inf
        else:
            for cell in range(self._front + 1, front + 1):
                least[cell % CELLS], greatest[cell % CELLS] = np.inf, -np.inf
        self._front = front

    def _planes(self) -> tuple[F64, F64]:
        shape = (CELLS, self._symbols, _VENUES)
        return self._least.reshape(shape), self._greatest.reshape(shape)

    def reaches(self, event_ns: I64) -> Bool:
        """Return for n trades, by event time, whether all that counts for them is still remembered."""
        return np.asarray((event_ns - BACK_NS) // CELL_NS > self._front - CELLS)

    def between(self, symbol: I64, from_ns: I64, to_ns: I64 | None = None) -> Extremes:
        """Return where the venues were in stretches of event time, to CELL_NS.

        Args:
            symbol: n int64, local.
            from_ns: n int64.
            to_ns: n int64; None: until now.
        """
        first = np.clip(from_ns // CELL_NS, self._front - CELLS + 1, self._front)
        last = np.full(first.shape, self._front) if to_ns is None else np.clip(to_ns // CELL_NS, first, self._front)
        span = np.arange(int((last - first).max(initial=0)) + 1)
        cells = np.minimum(first[:, None] + span, last[:, None]) % CELLS  # short ones repeat their last
        rows = cells * self._symbols + symbol[:, None]
        least, greatest = (table.reshape(-1, _VENUES).take(rows, axis=0) for table in (self._least, self._greatest))
        return Extremes(least.min(axis=1), greatest.max(axis=1))

    def live(self, symbol: I64, event_ns: I64) -> Bool:
        """Return which venues were heard with an event time after each of n trades, n x 7 bool."""
        return np.asarray(self.newest_ns[symbol] > event_ns[:, None])

    def nearest(self, symbol: int, venue: int, event_ns: int, value: float) -> tuple[float, int] | None:
        """Return a venue's value nearest to a trade's and when that was, to CELL_NS; None if it was not heard."""
        first = np.clip((event_ns - BACK_NS) // CELL_NS, self._front - CELLS + 1, self._front)
        cells = np.arange(first, self._front + 1)
        least, greatest = (plane[cells % CELLS, symbol, venue] for plane in self._planes())
        heard = np.isfinite(least)
        if not heard.any():
            return None
        ends = np.concatenate((least[heard], greatest[heard]))
        best = int(np.abs(ends - value).argmin())
        return float(ends[best]), int(np.tile(cells[heard], 2)[best]) * CELL_NS + CELL_NS // 2

    def forget(self, symbols: I64) -> None:
        """Forget some symbols, local."""
        least, greatest = self._planes()
        least[:, symbols], greatest[:, symbols] = np.inf, -np.inf
        self.newest[symbols], self.newest_ns[symbols] = np.nan, LONG_AGO

    def __getstate__(self) -> dict[str, Any]:
        """Return the state; of the cells only those that hold something."""
        state = {name: value for name, value in vars(self).items() if name not in ("_least", "_greatest")}
        held = np.flatnonzero(np.isfinite(self._least))
        return {**state, "held": held.astype(np.int32), "least": self._least[held], "greatest": self._greatest[held]}

    def __setstate__(self, state: dict[str, Any]) -> None:
        """Take over what `__getstate__` returned."""
        held, least, greatest = (state.pop(name) for name in ("held", "least", "greatest"))
        vars(self).update(state)
        self._least, self._greatest = np.full(CELLS * self._width, np.inf), np.full(CELLS * self._width, -np.inf)
        self._least[held], self._greatest[held] = least, greatest
