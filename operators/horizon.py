"""Second thoughts: wicks are looked at again for a while, and re-admitted if the others came to their price after all.

A wick whose witnesses were heard after it is settled at the end of the late horizon. One for which venues were only
presumed to stand where they stood is on probation: it stays a wick once they were heard, and is re-admitted if they are
not heard in time. Silence condemns nobody for good.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Final

import numpy as np

from market.records import CONFIRMED, WICK, Wick
from market.schema import I64, Bool, Rows, join
from market.venues import VENUES
from operators.consensus import Consensus
from operators.evidence import BACK_NS, Evidence
from operators.votes import left_to_go, rule, same_price

LATE_NS: Final = 2_000_000_000
"""The late horizon: how long after a wick other venues may still confirm it."""
PROBATION_NS: Final = 6_000_000_000
"""How long a wick may wait for its witnesses to be heard."""
ACTIVE_NS: Final = 10_000_000_000
"""Where some venues followed, all that were heard so shortly before may yet be found against."""
MOST: Final = 4_096
"""Wicks under re-examination in a key group; beyond it the oldest stay wicks."""

_VENUES: Final = len(VENUES)


SUSPECT: Final = np.dtype(
    [
        ("symbol", "i8"),  # local
        ("venue", "i8"),
        ("event_ns", "i8"),
        ("released_ns", "i8"),  # end of the quantum
        ("price", "f8"),  # log
        ("up", "?"),  # these five as in `votes.Way`
        ("end", "f8"),
        ("short", "f8"),
        ("short_late", "f8"),
        ("short_part", "f8"),
        ("followed", "?", (_VENUES,)),  # so far
        ("part", "?", (_VENUES,)),  # went along in part
    ]
)
"""A trade that was judged a wick."""


@dataclass(slots=True)
class Back:
    """A re-admitted wick.

    Attributes:
        wick: Its record, `readmitted_ns` set.
        tick: One TICK row.
    """

    wick: Wick
    tick: Rows


@dataclass(slots=True)
class Settled:
    """A trade that was judged a wick, once that is final.

    Attributes:
        wick: Its record; `readmitted_ns` is set if it is none.
        tick: One TICK row.
        released_ns: End of its quantum.
    """

    wick: Wick
    tick: Rows
    released_ns: int


class Horizon:
    """The wicks of a key group that are looked at again. At most MOST."""

    def __init__(self) -> None:
        self._suspects = np.zeros(0, SUSPECT)
        self._records: list[tuple[Wick, Rows]] = []
        self._settled: list[Settled] = []

    def __len__(self) -> int:
        """Return how many there are."""
        return len(self._records)

    def add(self, suspects: Rows, records: list[tuple[Wick, Rows]]) -> None:
        """Take n wicks, SUSPECT rows, with their records and TICK rows."""
        self._suspects = join((self._suspects, suspects)).copy()
        self._records += records
        if len(self._records) > MOST:
            self._keep(np.arange(len(self._records)) >= len(self._records) - MOST)

    def look(
        self, boundary_ns: int, window_ns: int, least: int, evidence: Evidence, consensus: Consensus
    ) -> list[Back]:
        """Vote again on all, at a boundary of the grid; return those that are re-admitted, and let go of the settled.

        Args:
            boundary_ns: The time of release that is reached; evidence received up to `window_ns` later is in.
            window_ns: W.
            least: Venues that must be against a wick.
            evidence: Of the key group.
            consensus: Of the key group.
        """
        on = self._suspects
        symbol, event_ns, up, end = on["symbol"], on["event_ns"], on["up"], on["end"]
        own = np.arange(on.size), on["venue"]
        others = np.ones((on.size, _VENUES), bool)
        others[own] = False
        basis, value, scale = consensus.basis[symbol], consensus.value[symbol], consensus.scale[symbol]
        seen = evidence.between(symbol, event_ns - BACK_NS, event_ns + BACK_NS)
        left = left_to_go(seen.farthest(up) - basis, up, end)
        after = consensus.heard_ns[symbol] > event_ns[:, None]
        left_late = np.where(after, left_to_go(value - basis, up, end), np.inf)
        came = (left <= on["short"][:, None]) | (left_late <= on["short_late"][:, None])
        came |= same_price(seen.least, seen.greatest, on["price"], value[own], scale)
        came |= same_price(value, value, on["price"], value[own], scale) & after
        on["followed"] |= came & others
        on["part"] |= np.minimum(left, left_late) <= on["short_part"][:, None]
        newest_ns = evidence.newest_ns[symbol]
        age_ns, now_ns = boundary_ns - on["released_ns"], boundary_ns + window_ns
        live = (newest_ns > event_ns[:, None]) & after  # what it said must have been released to be known here
        waiting = now_ns - newest_ns <= consensus.patience_ns(symbol)
        active = newest_ns > event_ns[:, None] - ACTIVE_NS
        support = np.count_nonzero(on["followed"], axis=1)
        waiting = np.where((support > 0)[:, None], active, waiting)
        against = others & ~on["part"] & ~on["followed"]
        proven = rule(support, np.count_nonzero(against & live, axis=1), least) == WICK
        stands = rule(support, np.count_nonzero(against & (live | waiting), axis=1), least)
        over = age_ns >= LATE_NS
        back = (stands == CONFIRMED) | (over & ~proven & ((stands != WICK) | (age_ns >= PROBATION_NS)))
        stay = ~back & ~(over & proven)
        if stay.all():
            return []
        for row in back.nonzero()[0].tolist():
            wick, tick = self._records[row]
            self._records[row] = replace(wick, readmitted_ns=boundary_ns + window_ns), tick
        found = [Back(*self._records[row]) for row in back.nonzero()[0].tolist()]
        self._keep(stay)
        return found

    def _keep(self, stay: Bool) -> None:
        """Let go of those for which `stay`, n bool, is false: they are settled."""
        for row in (~stay).nonzero()[0].tolist():
            self._settled.append(Settled(*self._records[row], int(self._suspects["released_ns"][row])))
        rows = stay.nonzero()[0]
        self._suspects = self._suspects.take(rows)
        self._records = [self._records[row] for row in rows.tolist()]

    def take_settled(self) -> list[Settled]:
        """Return what was settled since the last time."""
        settled, self._settled = self._settled, []
        return settled

    def forget(self, symbols: I64) -> None:
        """Let go of the wicks of some symbols, local."""
        self._keep(~np.isin(self._suspects["symbol"], symbols))
