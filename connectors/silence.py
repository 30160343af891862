"""Which symbols of a venue have fallen silent: acknowledged and never heard, or quiet for long by their own measure.

Heartbeats are no life, and neither is the data of other symbols. Plain columns by symbol code; time is an argument.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

import numpy as np

from market.schema import F64, I64, Bool

FIRST_DATA_S: Final = 30.0
"""A symbol not heard of for this long after it was asked for is silent; longer if it was known to be quiet."""
LEAST_S: Final = 60.0
MOST_S: Final = 3600.0
GAPS: Final = 30.0
"""A symbol once heard may be quiet for so many of its mean gaps, within LEAST_S and MOST_S."""
MEMORY_S: Final = 600.0
"""How far back the mean gap looks."""
FIRST_WAIT_S: Final = 300.0
MOST_WAIT_S: Final = 21_600.0
"""A silent symbol is asked for again at once, then after FIRST_WAIT_S, then after twice as long each time."""
UNSEEN_S: Final = 5.0
"""Looks further apart than this: nothing was read meanwhile, and the time counts for nobody."""

_S: Final = 1e9


@dataclass(frozen=True, slots=True)
class Look:
    """What changed since the last look: symbol codes, int64.

    Attributes:
        fell: Silent now.
        rose: Heard again.
        due: Silent, and to be asked for again.
    """

    fell: I64
    rose: I64
    due: I64


class SilenceTable:
    """Symbols of one venue. Memory: nine columns of as many rows as the run has symbols.

    Attributes:
        silent: n bools by symbol code.
        rate: n float64, ticks a second over the last MEMORY_S.
    """

    def __init__(self, symbols: int) -> None:
        self.silent: Bool = np.zeros(symbols, bool)
        self.rate: F64 = np.zeros(symbols)
        self._heard_ns: I64 = np.zeros(symbols, np.int64)
        self._fell_ns: I64 = np.zeros(symbols, np.int64)
        self._rows: I64 = np.zeros(symbols, np.int64)
        self._observed_s: F64 = np.zeros(symbols)
        self._pending_s: F64 = np.zeros(symbols)
        self._due_s: F64 = np.zeros(symbols)
        self._wait_s: F64 = np.full(symbols, FIRST_WAIT_S)
        self._looked_ns = 0
        self._unseen_ns = 0

    def saw(self, symbols: I64, receive_ns: I64) -> None:
        """Note ticks: n symbol codes and their receive times, ascending."""
        self._heard_ns[symbols] = receive_ns
        self._rows += np.bincount(symbols, minlength=self._rows.size)

    def look(self, now_ns: int, asked_ns: I64) -> Look:
        """Judge every symbol, about once a second.

        Args:
            now_ns: Receive clock.
            asked_ns: When each symbol was asked for on its present link, int64; 0 = it is not, and is not judged.
        """
        passed_ns = now_ns - self._looked_ns
        self._looked_ns = now_ns
        asked = asked_ns > 0
        if passed_ns > UNSEEN_S * _S:
            self._unseen_ns = now_ns  # the silence of a symbol begins here, at the earliest
        else:
            self._learn(passed_ns / _S, asked)
        self._rows[:] = 0
        heard = self._heard_ns >= np.maximum(asked_ns, 1)
        since_ns = np.maximum(np.maximum(self._heard_ns, asked_ns), self._unseen_ns)
        quiet_s = (now_ns - since_ns) / _S
        rose = self.silent & (self._heard_ns > self._fell_ns)
        fell = asked & ~self.silent & (quiet_s > self._patience_s(heard))
        self._fell_ns[fell] = now_ns
        self.silent = (self.silent | fell) & ~rose
        return Look(*(np.flatnonzero(rows) for rows in (fell, rose, self._due(now_ns / _S, fell, asked))))

    def _learn(self, passed_s: float, asked: Bool) -> None:
        """Take what came into the rates, with the time it took: a mean at first, then with a memory of MEMORY_S.

        While nothing comes a rate stays: patience that grew with the silence would never end.
        """
        self._pending_s[asked] += passed_s
        came = (self._rows > 0) & (self._pending_s > 0)
        pending_s = self._pending_s[came]
        self._observed_s[came] += pending_s
        weight = np.minimum(pending_s / np.minimum(self._observed_s[came], MEMORY_S), 1.0)
        self.rate[came] += weight * (self._rows[came] / pending_s - self.rate[came])
        self._pending_s[came] = 0.0

    def _patience_s(self, heard: Bool) -> F64:
        by_rate = np.full_like(self.rate, 0.0)
        np.divide(GAPS, self.rate, out=by_rate, where=self.rate > 0)
        return np.clip(by_rate, np.where(heard, LEAST_S, FIRST_DATA_S), MOST_S)

    def _due(self, now_s: float, fell: Bool, asked: Bool) -> Bool:
        due = fell | (self.silent & asked & (now_s >= self._due_s))
        self._wait_s[fell] = FIRST_WAIT_S
        self._due_s[due] = now_s + self._wait_s[due]
        self._wait_s[due] = np.minimum(2.0 * self._wait_s[due], MOST_WAIT_S)
        return due

    def forget(self, symbols: I64) -> None:
        """Free the state of symbols that are not asked for any more."""
        self.silent[symbols] = False
        for column in (
            self.rate,
            self._heard_ns,
            self._fell_ns,
            self._rows,
            self._observed_s,
            self._pending_s,
            self._due_s,
        ):
            column[symbols] = 0
        self._wait_s[symbols] = FIRST_WAIT_S

    def link_patience_s(self, symbols: I64) -> float:
        """Return how long a link with these symbols may go without any tick: by all their rates together."""
        rate = float(self.rate[symbols].sum())
        return min(max(LEAST_S, GAPS / rate), MOST_S) if rate > 0 else LEAST_S
