"""The evidence for and against one trade: what the other venues showed around it.

Holds the ticks of the last `HORIZON_NS` of one key group and lets the venues vote. Silence never counts as "did not
move": a venue votes against only if it was heard with an event time after the trade. One whose next tick is not even
due yet may be presumed to stand where it was, until the late horizon; then it must have been heard.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Final

import numpy as np

from market.schema import F64, I64, LAGGING, Rows, join
from market.venues import VENUES
from operators.consensus import log_value

BACK_NS: Final = 300_000_000
"""Evidence may precede the trade by this much: another venue was there first."""
HORIZON_NS: Final = 2_500_000_000
"""How long received ticks stay evidence; covers a late trade's past and the late horizon of wicks."""
FOLLOWED: Final = 0.5
"""A venue followed if it came at least half of the way from the anchor to the trade's price."""
NOISE_SCALES: Final = 4.0
FOLLOWED_MOST: Final = 0.8
"""Half of a small move is within natural noise: then it takes 4 dispersions, yet never more than 0.8 of the way."""
FEW_CHUNKS: Final = 16
WAITING_ROWS: Final = 4_096

EVIDENCE: Final = np.dtype(
    [("symbol", "i4"), ("venue", "i1"), ("value", "f8"), ("event_ns", "i8"), ("receive_ns", "i8")]
)


@dataclass(frozen=True, slots=True)
class Suspect:
    """A trade that the others vote on.

    Attributes:
        symbol: Symbol code.
        venue: The trade's own, which has no vote.
        price: Log price, basis removed.
        event_ns: Its event time.
        anchor: Log consensus before the excursion.
    """

    symbol: int
    venue: int
    price: float
    event_ns: int
    anchor: float


@dataclass(slots=True)
class Witness:
    """One other venue's part in a vote; `nearest` is its value (log, basis removed) closest to the trade's.

    Attributes:
        age_ns: How long before the trade that value was; negative if after it.
        live: Heard after the trade.
        presumed: Not heard after it, but not overdue either.
    """

    venue: int
    nearest: float
    age_ns: int
    followed: bool
    live: bool
    presumed: bool

    @property
    def vote(self) -> str:
        """What it said, in words."""
        if self.followed:
            return "followed"
        return "did not follow" if self.live else "not overdue" if self.presumed else "silent"


@dataclass(slots=True)
class Vote:
    """What the other venues said.

    Attributes:
        support: Venues that were at the trade's price or followed it.
        against: Venues heard after the trade that did not.
        presumed: Venues not heard after it, whose next tick is not overdue and whose last was elsewhere.
        reference: Median of the witnesses' values at the trade's time, log, basis removed; NaN without any.
        witnesses: One entry a venue with evidence.
    """

    support: int
    against: int
    presumed: int
    reference: float
    witnesses: list[Witness]

    def describe(self, price: float) -> dict[str, Any]:
        """Return the vote as a JSON object: per venue its nearest price in bps from the trade, age and vote."""
        return {
            VENUES[w.venue]: {
                "nearest_bps": round((w.nearest - price) * 1e4, 2),
                "age_ms": round(w.age_ns / 1e6, 1),
                "vote": w.vote,
            }
            for w in self.witnesses
        }


class Evidence:
    """Ticks of a key group, by receive time. Bounded by HORIZON_NS."""

    def __init__(self) -> None:
        self._chunks: list[Rows] = []  # EVIDENCE
        self._new: list[Rows] = []  # TICK, not looked at yet
        self._new_rows = 0
        self._of_symbol: dict[int, Rows] = {}  # found since the last change

    def add(self, ticks: Rows) -> None:
        """Add n TICK rows in receive order, later than all before."""
        self._new.append(ticks)
        self._new_rows += ticks.size
        if self._new_rows >= WAITING_ROWS:
            self.settle()

    def forget(self, released_ns: int) -> None:
        """Drop rows older than the horizon before `released_ns`, sooner or later; no vote counts them."""
        self._of_symbol.clear()
        oldest_ns = released_ns - HORIZON_NS
        while self._chunks and self._chunks[0]["receive_ns"][-1] < oldest_ns:
            self._chunks.pop(0)
        if not self._chunks:
            while self._new and self._new[0]["receive_ns"][-1] < oldest_ns:
                self._new_rows -= self._new.pop(0).size
            return
        first = self._chunks[0]
        old = int(np.searchsorted(first["receive_ns"], oldest_ns))
        if 2 * old > first.size:  # copied at most once a half, so that memory goes down too
            self._chunks[0] = first[old:].copy()

    def settle(self) -> None:
        """Bring what was added into the small form that is searched and kept."""
        if not self._new:
            return
        ticks = join(self._new)
        self._new, self._new_rows = [], 0
        rows = np.empty(ticks.size, EVIDENCE)
        for column in ("symbol", "venue", "event_ns", "receive_ns"):
            rows[column] = ticks[column]
        rows["value"] = np.where(ticks["flags"] & LAGGING, np.nan, log_value(ticks))
        self._chunks.append(rows)
        if len(self._chunks) > FEW_CHUNKS:
            self._chunks = [join(self._chunks)]

    def _find(self, symbol: int) -> Rows:
        """Return the EVIDENCE rows of a symbol that have a value, in receive order."""
        if symbol not in self._of_symbol:
            self.settle()
            parts = [
                rows.take(np.flatnonzero((rows["symbol"] == symbol) & np.isfinite(rows["value"])))
                for rows in self._chunks
            ]
            self._of_symbol[symbol] = join(parts)
        return self._of_symbol[symbol]

    def vote(
        self, suspect: Suspect, released_ns: int, cutoff_ns: int, basis: F64, scale: float, overdue_ns: I64 | None
    ) -> Vote:
        """Let the other venues vote on a trade.

        Args:
            suspect: The trade.
            released_ns: End of the quantum that is being released; evidence reaches HORIZON_NS back from it.
            cutoff_ns: Evidence received after this does not count.
            basis: Log basis of each venue, 7 float64.
            scale: Dispersion of the symbol, log.
            overdue_ns: The age from which a venue's next tick is overdue, 7 int64; None: presume nothing.
        """
        rows = self._find(suspect.symbol)
        first = np.searchsorted(rows["receive_ns"], released_ns - HORIZON_NS)
        last = np.searchsorted(rows["receive_ns"], cutoff_ns, side="right")
        rows = rows[first:last]
        way = suspect.price - suspect.anchor
        needed = max(FOLLOWED * abs(way), min(NOISE_SCALES * scale, FOLLOWED_MOST * abs(way)))
        witnesses, values = [], []
        for venue in np.unique(rows["venue"]).tolist():
            if venue == suspect.venue:
                continue
            theirs = rows.take(np.flatnonzero(rows["venue"] == venue))
            due_from_ns = cutoff_ns - int(overdue_ns[venue]) if overdue_ns is not None else cutoff_ns
            said, presumed = _said(theirs, suspect.event_ns, due_from_ns)
            if not said.size:
                continue
            level = said["value"] - basis[venue]
            witnesses.append(_witness(venue, level, said["event_ns"], suspect, needed, presumed))
            values.append(_value_at(level, said["event_ns"], suspect.event_ns))
        return Vote(
            support=sum(w.followed for w in witnesses),
            against=sum(w.live and not w.followed for w in witnesses),
            presumed=sum(w.presumed and not w.followed for w in witnesses),
            reference=float(np.median(values)) if values else float("nan"),
            witnesses=witnesses,
        )


def _said(theirs: Rows, event_ns: int, due_from_ns: int) -> tuple[Rows, bool]:
    """Return one venue's rows that count, and whether only a presumption speaks for their being current."""
    at_ns = theirs["event_ns"]
    around = theirs.take(np.flatnonzero(at_ns >= event_ns - BACK_NS))
    if (around["event_ns"] > event_ns).any():
        return around, False
    newest = theirs.take([int(np.argmax(at_ns))])
    presumed = bool(newest["receive_ns"][0] > due_from_ns)
    return newest if presumed and not around.size else around, presumed


def _witness(venue: int, level: F64, at_ns: I64, suspect: Suspect, needed: float, presumed: bool) -> Witness:
    best = int(np.argmin(np.abs(level - suspect.price)))
    way = suspect.price - suspect.anchor
    followed = bool(((level - suspect.anchor) * np.sign(way) >= needed).any()) if way else False
    live = bool((at_ns > suspect.event_ns).any())
    presumed &= bool((np.abs(level - suspect.anchor) < needed).all())  # it stands where all stood before
    return Witness(venue, float(level[best]), suspect.event_ns - int(at_ns[best]), followed, live, presumed)


def _value_at(level: F64, at_ns: I64, event_ns: int) -> float:
    """Their last value at or before the trade, else their first after it."""
    before = np.flatnonzero(at_ns <= event_ns)
    if before.size:
        return float(level[before[np.argmax(at_ns[before])]])
    return float(level[np.argmin(at_ns)])
