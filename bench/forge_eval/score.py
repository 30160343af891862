"""Verdicts against the truth: counts a family, the pooled figures and the targets."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field
from typing import Final

import numpy as np

from bench.forge_eval.families import Family
from bench.forge_eval.judge import NEVER, Judged
from bench.forge_eval.ticks import EXCLUDED, GENUINE, REASONS, REJECT, SCAM, Market
from market.records import UNVERIFIED, WICK
from market.schema import F64

RECALL: Final = 0.995
PRECISION: Final = 0.995
SUPPRESSED_PER_MILLION: Final = 20.0


@dataclass(slots=True)
class Score:
    """Counts of trades.

    Attributes:
        trades: All that were released.
        genuine: Ordinary trades; `suppressed` of them are wicks in the end, `for_a_moment` were and came back.
        scored: Prints of wicks that must be caught; `caught` were.
        events: Wicks of which at least one print is scored; `events_split` were caught in part only.
        excluded: Trades by the reason why no verdict on them is wrong.
        unverified: Trades that pass unverified.
        lost: Trades that were never released, or twice, or impossible ones that were.
        added_ms: n float64, time from receipt to release beyond W.
    """

    trades: int = 0
    genuine: int = 0
    suppressed: int = 0
    for_a_moment: int = 0
    scored: int = 0
    caught: int = 0
    events: int = 0
    events_split: int = 0
    excluded: Counter[str] = field(default_factory=Counter)
    unverified: int = 0
    lost: int = 0
    added_ms: F64 = field(default_factory=lambda: np.zeros(0))

    @property
    def recall(self) -> float:
        """Share of scored prints that were caught; NaN without any."""
        return self.caught / self.scored if self.scored else float("nan")

    @property
    def precision(self) -> float:
        """Share of filtered trades, excluded ones apart, that are of wicks; NaN without any."""
        filtered = self.caught + self.suppressed
        return self.caught / filtered if filtered else float("nan")

    @property
    def suppressed_per_million(self) -> float:
        """Genuine trades filtered in a million."""
        return 1e6 * self.suppressed / max(self.genuine, 1)

    @property
    def unverified_share(self) -> float:
        """Share of all trades that pass unverified."""
        return self.unverified / max(self.trades, 1)


def score(market: Market, judged: Judged, window_ms: float) -> Score:
    """Compare what became of a market's trades with their labels."""
    truth, label = market.truth, market.truth["label"]
    genuine, scam, filtered = label == GENUINE, label == SCAM, judged.final == WICK
    released = judged.first != NEVER
    events, split = _events(market, filtered)
    reasons = Counter(truth["reason"][label == EXCLUDED].tolist())
    return Score(
        trades=int(released.sum()),
        genuine=int(genuine.sum()),
        suppressed=int((genuine & filtered).sum()),
        for_a_moment=int((genuine & (judged.first == WICK) & ~filtered).sum()),
        scored=int(scam.sum()),
        caught=int((scam & filtered).sum()),
        events=events,
        events_split=split,
        excluded=Counter({REASONS[reason]: count for reason, count in reasons.items()}),
        unverified=int((judged.final == UNVERIFIED).sum()),
        lost=int((released == (label == REJECT)).sum()) + judged.duplicates,
        added_ms=judged.held_ms[released] - window_ms,
    )


def _events(market: Market, filtered: np.ndarray) -> tuple[int, int]:
    """Return how many wicks have scored prints, and of how many the scored prints had more than one verdict."""
    truth = market.truth
    scored = np.flatnonzero((truth["label"] == SCAM) & (truth["event"] >= 0))
    key = truth["symbol"][scored].astype(np.int64) * 1_000_000 + truth["event"][scored]
    _, place, count = np.unique(key, return_inverse=True, return_counts=True)
    caught = np.bincount(place, filtered[scored], count.size)
    return count.size, int(((caught > 0) & (caught < count)).sum())


def pool(scores: list[Score]) -> Score:
    """Return the sum of some scores."""
    excluded: Counter[str] = Counter()
    for one in scores:
        excluded += one.excluded
    names = [name for name in Score.__dataclass_fields__ if name not in ("excluded", "added_ms")]
    sums = {name: sum(getattr(one, name) for one in scores) for name in names}
    return Score(**sums, excluded=excluded, added_ms=np.concatenate([one.added_ms for one in scores]))


def missed(families: dict[str, Family], scores: dict[str, Score]) -> list[str]:
    """Return the targets that are not met, in words."""
    found = [
        f"{name}: {one.suppressed} genuine trades suppressed, none may be"
        for name, one in scores.items()
        if families[name].exact and one.suppressed
    ]
    found += [f"{name}: {one.lost} trades lost or doubled" for name, one in scores.items() if one.lost]
    pooled = pool([one for name, one in scores.items() if families[name].pooled] or [Score()])
    if pooled.suppressed_per_million > SUPPRESSED_PER_MILLION:
        found.append(
            f"all: {pooled.suppressed_per_million:.1f} of a million suppressed, at most {SUPPRESSED_PER_MILLION:.0f}"
        )
    with_wicks = pool([one for name, one in scores.items() if families[name].wicks] or [Score()])
    for name, value, least in (("recall", with_wicks.recall, RECALL), ("precision", with_wicks.precision, PRECISION)):
        if value < least:
            found.append(f"families with wicks: {name} {value:.4f}, at least {least}")
    return found
