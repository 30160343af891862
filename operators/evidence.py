"""The evidence for and against one trade: what the other venues showed around it.

Holds the ticks of the last `HORIZON_NS` of one key group and lets the venues vote. Silence never counts as "did not
move": a venue votes against only if it was heard with an event time after the trade.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Final

import numpy as np

from market.schema import F64, I64, Rows, join
from market.venues import VENUES
from operators.consensus import log_value

BACK_NS: Final = 300_000_000
"""Evidence may precede the trade by this much: another venue was there first."""
HORIZON_NS: Final = 2_500_000_000
"""How long received ticks stay evidence; covers a late trade's past and the late horizon of wicks."""
COPY_ROWS: Final = 4_096
"""Smaller chunks wait until all of their rows are old."""
FOLLOWED: Final = 0.5
"""A venue followed if it came at least half of the way from the anchor to the trade's price."""


@dataclass(slots=True)
class Witness:
    """One other venue's part in a vote; `nearest` is its value (log, basis removed) closest to the trade's."""

    venue: int
    nearest: float
    age_ns: int
    followed: bool
    live: bool


@dataclass(slots=True)
class Vote:
    """What the other venues said.

    Attributes:
        support: Venues that were at the trade's price or followed it.
        against: Live venues that did not.
        reference: Median of the witnesses' values at the trade's time, log, basis removed; NaN without any.
        witnesses: One entry a venue with evidence.
    """

    support: int
    against: int
    reference: float
    witnesses: list[Witness]

    def describe(self, price: float) -> dict[str, Any]:
        """Return the vote as a JSON object: per venue its nearest price in bps from the trade, age and vote."""
        votes = {True: "followed", False: "did not follow"}
        return {
            VENUES[w.venue]: {
                "nearest_bps": round((w.nearest - price) * 1e4, 2),
                "age_ms": round(w.age_ns / 1e6, 1),
                "vote": votes[w.followed] if w.followed or w.live else "silent",
            }
            for w in self.witnesses
        }


class Evidence:
    """Ticks of a key group, by receive time. Bounded by HORIZON_NS."""

    def __init__(self) -> None:
        self._chunks: list[Rows] = []

    def add(self, ticks: Rows) -> None:
        """Add n TICK rows in receive order, later than all before."""
        self._chunks.append(ticks)

    def forget(self, released_ns: int) -> None:
        """Drop rows older than the horizon before `released_ns`."""
        oldest_ns = released_ns - HORIZON_NS
        while self._chunks and self._chunks[0]["receive_ns"][-1] < oldest_ns:
            self._chunks.pop(0)
        if self._chunks and len(self._chunks[0]) > COPY_ROWS:
            first = self._chunks[0]
            old = int(np.searchsorted(first["receive_ns"], oldest_ns))
            if 2 * old > len(first):  # copied at most once a half, so that memory goes down too
                self._chunks[0] = first[old:].copy()

    def vote(
        self,
        symbol: int,
        venue: int,
        price: float,
        event_ns: int,
        cutoff_ns: int,
        basis: F64,
        anchor: float,
    ) -> Vote:
        """Let the other venues vote on a trade.

        Args:
            symbol: Symbol code.
            venue: The trade's own, which has no vote.
            price: Log price, basis removed.
            event_ns: Its event time.
            cutoff_ns: Evidence received after this does not count.
            basis: Log basis of each venue, 7 float64.
            anchor: Log consensus before the excursion; NaN if unknown.
        """
        if len(self._chunks) > 1:
            self._chunks = [join(self._chunks)]
        rows = self._chunks[0]
        rows = rows[: int(np.searchsorted(rows["receive_ns"], cutoff_ns, side="right"))]
        heard = (rows["symbol"] == symbol) & (rows["venue"] != venue) & (rows["event_ns"] >= event_ns - BACK_NS)
        rows = rows.take(np.flatnonzero(heard))
        value = log_value(rows)
        witnesses, values = [], []
        for code in np.unique(rows["venue"]).tolist():
            theirs = (rows["venue"] == code) & np.isfinite(value)
            if not theirs.any():
                continue
            level, at_ns = value[theirs] - basis[code], rows["event_ns"][theirs]
            witnesses.append(_witness(code, level, at_ns, price, event_ns, anchor))
            values.append(_value_at(level, at_ns, event_ns))
        return Vote(
            support=sum(w.followed for w in witnesses),
            against=sum(w.live and not w.followed for w in witnesses),
            reference=float(np.median(values)) if values else float("nan"),
            witnesses=witnesses,
        )


def _witness(venue: int, level: F64, at_ns: I64, price: float, event_ns: int, anchor: float) -> Witness:
    distance = np.abs(level - price)
    best = int(np.argmin(distance))
    way = price - anchor
    followed = bool(((level - anchor) / way >= FOLLOWED).any()) if np.isfinite(way) and way else False
    return Witness(venue, float(level[best]), event_ns - int(at_ns[best]), followed, bool((at_ns > event_ns).any()))


def _value_at(level: F64, at_ns: I64, event_ns: int) -> float:
    """Their last value at or before the trade, else their first after it."""
    before = np.flatnonzero(at_ns <= event_ns)
    if before.size:
        return float(level[before[np.argmax(at_ns[before])]])
    return float(level[np.argmin(at_ns)])
