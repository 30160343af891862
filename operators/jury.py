"""The jury: trades in doubt, judged by what the other venues showed around them. One quantum of release at a time."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, Final

import numpy as np
import numpy.typing as npt

from market.records import UNVERIFIED, WICK, Wick
from market.schema import F64, I8, I64, Bool
from market.venues import VENUES
from operators.consensus import BAND_LEAST, BAND_SCALES, Consensus
from operators.evidence import BACK_NS, LONG_AGO, Evidence
from operators.hold import Due
from operators.horizon import SUSPECT, Horizon
from operators.votes import left_to_go, rule, same_price, way

EXCURSION_NS: Final = 150_000_000
"""Prints of a venue this close before or after one beyond the band, and on the same side, are of one excursion."""
EXCURSION_SCALES: Final = 4.0
"""And farther off than this: an ordinary print beside a wick is none."""
BURST_SCALES: Final = 4.5
"""The band of a print with another one beyond the edge beside it: chance lets one stray, hardly two at once."""
CROWD: Final = 4
CROWD_SCALES: Final = 4.0
"""And of so many."""
ANCHOR_SHARE: Final = 0.75
"""A wick is beyond the band of the consensus, and beyond this part of it from the anchor."""

_VENUES: Final = len(VENUES)


@dataclass(slots=True)
class Judged:
    """Due ticks with what was found about them, column by column.

    Attributes:
        due: n ticks in release order.
        verdict: n int8; -1 on quotes.
        reference: n float64, price.
        deviation: n float64, log units.
    """

    due: Due
    verdict: I8
    reference: F64
    deviation: F64


@dataclass(slots=True)
class Jury:
    """Judges trades that are beyond the edge of their band; wicks go on to the horizon.

    Attributes:
        consensus: Of the key group.
        evidence: Of the key group.
        horizon: Takes the wicks.
        window_ns: W.
        least: Venues that must be against a wick.
    """

    consensus: Consensus
    evidence: Evidence
    horizon: Horizon
    window_ns: int
    least: int
    _strayed_ns: I64 = field(init=False)  # by place and side, the newest trade beyond the edge
    _strayed: I64 = field(init=False)  # and how many there were in a row

    def __post_init__(self) -> None:
        """Begin with no trade beyond the edge."""
        self._strayed_ns = np.full((2, self.consensus.centre.size), LONG_AGO, np.int64)
        self._strayed = np.zeros((2, self.consensus.centre.size), np.int64)

    def forget(self, symbols: I64) -> None:
        """Forget some symbols, local."""
        self._strayed_ns.reshape(2, _VENUES, -1)[:, :, symbols] = LONG_AGO

    def judge(self, judged: Judged, rows: I64) -> list[Wick]:
        """Fill in the verdicts of some trades of one quantum, int64 rows; return the records of wicks.

        What was received until the quantum's end plus W must be evidence already, and nothing later.
        """
        due, evidence, consensus = judged.due, self.evidence, self.consensus
        rows = self._excursions(judged, rows)
        known = evidence.reaches(due.event_ns[rows])
        judged.verdict[rows[~known]] = UNVERIFIED  # so late that what the others did then is forgotten
        rows = rows[known]
        if not rows.size:
            return []
        place, event_ns, value = due.place[rows], due.event_ns[rows], due.value[rows]
        venue, symbol = np.divmod(place, consensus.level.size)
        basis, scale = consensus.basis[symbol], consensus.scale[symbol]
        own = np.arange(rows.size), venue
        others = np.ones(basis.shape, bool)
        others[own] = False
        end = value - basis[own]
        gone = way(end, consensus.anchor[symbol], consensus.level[symbol], scale)
        seen = evidence.between(symbol, event_ns - BACK_NS)
        left = left_to_go(seen.farthest(gone.up) - basis, gone.up, end)
        followed = left <= gone.short[:, None]
        followed |= same_price(seen.least, seen.greatest, value, consensus.value[symbol, venue], scale)
        followed &= others
        part = left <= gone.short_part[:, None]
        live = evidence.live(symbol, event_ns) & others
        age_ns = int(due.quantum_ns[rows[0]]) + self.window_ns - evidence.newest_ns[symbol]
        waiting = (age_ns <= consensus.patience_ns(symbol)) & others
        support = np.count_nonzero(followed, axis=1)
        against = np.count_nonzero((live | waiting) & ~followed & ~part, axis=1)
        verdict = rule(support, against, self.least)
        judged.verdict[rows] = verdict
        caught = (verdict == WICK).nonzero()[0]
        if not caught.size:
            return []
        suspects = np.zeros(rows.size, SUSPECT)
        columns: dict[str, npt.NDArray[Any]] = {"symbol": symbol, "venue": venue, "event_ns": event_ns}
        columns |= {"released_ns": due.quantum_ns[rows], "part": part}
        columns |= {"price": value, "up": gone.up, "end": end, "short": gone.short, "short_late": gone.short_late}
        columns |= {"short_part": gone.short_part, "followed": followed}
        for name, column in columns.items():
            suspects[name] = column
        wicks = [
            self._record(judged, int(rows[i]), followed[i], live[i], waiting[i], int(against[i]))
            for i in caught.tolist()
        ]
        ticks = [due.ticks[row : row + 1].copy() for row in rows[caught].tolist()]
        self.horizon.add(suspects.take(caught), list(zip(wicks, ticks, strict=True)))
        return wicks

    def _excursions(self, judged: Judged, rows: I64) -> I64:
        """Return those of some trades beyond the edge that are beyond the band, or of an excursion that went there."""
        due, consensus = judged.due, self.consensus
        place, value, deviation = due.place[rows], due.value[rows], judged.deviation[rows]
        venue, symbol = np.divmod(place, consensus.level.size)
        own = np.arange(rows.size), venue
        band, edge = consensus.band.T.take(place), consensus.edge.T.take(place)
        many = self._strays(place, deviation > 0, due.event_ns[rows])
        scales = np.where(many > 1, np.where(many < CROWD, BURST_SCALES, CROWD_SCALES), BAND_SCALES)
        band = np.maximum(band - (BAND_SCALES - scales) * consensus.scale[symbol], np.minimum(band, BAND_LEAST))
        anchored = value - (consensus.anchor[symbol] + consensus.basis[symbol, venue])
        anchored = np.abs(np.where(np.isfinite(anchored), anchored, deviation))
        extent = self.evidence.between(symbol, due.event_ns[rows] - EXCURSION_NS)
        centre = value - deviation
        farthest = np.where(deviation > 0, extent.greatest[own] - centre, centre - extent.least[own])
        off = np.abs(deviation)
        far = (off > band) & (anchored > ANCHOR_SHARE * band)
        least = np.maximum(edge, EXCURSION_SCALES * consensus.scale[symbol])
        far |= (np.maximum(farthest, off) > band) & (off > least) & (anchored > edge)
        return np.asarray(rows[far])

    def _strays(self, place: I64, up: Bool, event_ns: I64) -> I64:
        """Return how many there are of each of n trades beyond the edge, on its side, in its quantum and before it.

        Those before it count if each came within EXCURSION_NS of the next.
        """
        side = up * np.int64(self.consensus.centre.size) + place
        _, which, here = np.unique(side, return_inverse=True, return_counts=True)
        strayed_ns, strayed = self._strayed_ns.reshape(-1), self._strayed.reshape(-1)
        many = here[which] + np.where(strayed_ns[side] >= event_ns - EXCURSION_NS, strayed[side], 0)
        strayed[side] = many
        np.maximum.at(strayed_ns, side, event_ns)
        return np.asarray(many)

    def _record(self, judged: Judged, row: int, followed: Bool, live: Bool, waiting: Bool, witnesses: int) -> Wick:
        """Return the record of a wick with its reasons; `followed`, `live` and `waiting` by venue, 7 bool."""
        due, consensus = judged.due, self.consensus
        tick, event_ns = due.ticks[row], int(due.event_ns[row])
        venue, symbol = divmod(int(due.place[row]), consensus.level.size)
        basis = consensus.basis[symbol]
        end = float(due.value[row] - basis[venue])
        said: dict[str, object] = {}
        for other in range(_VENUES):
            found = self.evidence.nearest(symbol, other, event_ns, end + float(basis[other]))
            if other == venue or found is None:
                continue
            nearest, at_ns = found
            said[VENUES[other]] = {
                "nearest_bps": round((nearest - float(basis[other]) - end) * 1e4, 2),
                "age_ms": round((event_ns - at_ns) / 1e6, 1),
                "vote": _in_words(bool(followed[other]), bool(live[other]), bool(waiting[other])),
            }
        return Wick(
            symbol=int(tick["symbol"]),
            venue=venue,
            trade_id=tick["trade_id"].decode(),
            event_ns=event_ns,
            receive_ns=int(tick["receive_ns"]),
            price=float(tick["price"]),
            size=float(tick["size"]),
            side=int(tick["side"]),
            reference=float(judged.reference[row]),
            deviation_bps=float(judged.deviation[row]) * 1e4,
            dispersion_bps=float(consensus.scale[symbol]) * 1e4,
            basis_bps=float(basis[venue]) * 1e4,
            witnesses=witnesses,
            evidence=said,
        )


def _in_words(followed: bool, live: bool, waiting: bool) -> str:
    if followed:
        return "followed"
    return "did not follow" if live else "not overdue" if waiting else "silent"
