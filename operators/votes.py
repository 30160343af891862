"""The vote of the other venues on trades in doubt: followed, did not follow, or silent. Pure rules on columns.

n trades at a time; tables are n x 7 venues. Values are natural logarithms of price, each venue's basis removed.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

import numpy as np

from market.records import CONFIRMED, UNVERIFIED, WICK
from market.schema import F64, I8, I64, Bool

FOLLOWED: Final = 0.5
"""A venue followed if it came at least half of the way from where the price was to the trade's."""
FOLLOWED_LATE: Final = 0.75
"""After the trade's window it takes more: by then others have had time to come all the way, or to wander."""
FOLLOWED_PART: Final = 1 / 3
"""One that came a third of the way does not speak against it: a real move may be back before a slow venue is heard.
Amid noise it takes 4 dispersions here too, yet at most half of the way: that is following where noise is small."""
NOISE_SCALES: Final = 4.0
FOLLOWED_MOST: Final = 0.8
"""Half of a small move is within natural noise: then it takes 4 dispersions, yet never more than 0.8 of the way."""
OVERSHOT: Final = 0.15
"""One venue's move may go farther than the others' by this part of it."""
OVERSHOT_SCALES: Final = 2.5
"""Or by so many dispersions: both ends are known only so well."""
SAME_SCALES: Final = 1.0
SAME_LEAST: Final = 0.0015
"""Prices of two venues this close are the same."""


@dataclass(slots=True)
class Way:
    """The way that n trades went, and how far from its end a venue may have stayed that followed.

    Attributes:
        up: n bool, whether it goes up.
        end: n float64, where to.
        short: n float64, distance from `end` that still is following.
        short_late: The same, for what was seen after the trade's release.
        short_part: Within this distance a venue went along in part: it neither followed nor stayed.
    """

    up: Bool
    end: F64
    short: F64
    short_late: F64
    short_part: F64


def way(end: F64, anchor: F64, level: F64, scale: F64) -> Way:
    """Return the way to `end`.

    It began at the anchor; where the consensus has come a part of it already, it must also be followed from there, or a
    wick on top of a real move would pass as that move.

    Args:
        end: n float64, value of the trade, or the extreme of its excursion.
        anchor: n float64, the consensus before; NaN where there was none, then the level stands for it.
        level: n float64, the consensus now.
        scale: n float64, dispersion.
    """
    anchor = np.where(np.isfinite(anchor), anchor, level)
    whole = np.abs(end - anchor)
    rest = np.where((level - anchor) * (end - level) > 0, np.abs(end - level), whole)
    shares = ((FOLLOWED, FOLLOWED_MOST), (FOLLOWED_LATE, FOLLOWED_MOST), (FOLLOWED_PART, FOLLOWED))
    return Way(end > anchor, end, *(_short(whole, rest, scale, share, most) for share, most in shares))


def _short(whole: F64, rest: F64, scale: F64, share: float, most: float) -> F64:
    def open_part(length: F64) -> F64:
        return length - np.maximum(share * length, np.minimum(NOISE_SCALES * scale, most * length))

    return np.minimum(
        open_part(whole), np.maximum(np.maximum(OVERSHOT * whole, OVERSHOT_SCALES * scale), open_part(rest))
    )


def rule(support: I64, against: I64, least: int) -> I8:
    """Return the verdicts on n trades.

    Args:
        support: n int64, venues that followed.
        against: n int64, venues that did not.
        least: How many must be against a wick.
    """
    alone = (against >= least) & ((support == 0) | (against > support + 1))
    return np.where(alone, WICK, np.where(support > 0, CONFIRMED, UNVERIFIED)).astype(np.int8)


def left_to_go(reached: F64, up: Bool, end: F64) -> F64:
    """Return how far the venues stayed from the end of the way, n x 7 float64; below 0 if they went beyond it.

    Args:
        reached: n x 7 float64, the farthest each came in the way's direction; infinitely far back if not heard.
        up: n bool.
        end: n float64.
    """
    left = end[:, None] - reached
    return np.where(up[:, None], left, -left)


def same_price(least: F64, greatest: F64, price: F64, own: F64, scale: F64) -> Bool:
    """Return which venues showed the very price of n trades, premium or not, n x 7 bool.

    A basis is wrong where it was learned from a venue that was frozen and now is not. If the venue itself stands at the
    trade's price, and that price is on another venue's screen, it is no wick.

    Args:
        least: n x 7 float64, log, basis not removed; inf if not heard.
        greatest: The same; -inf if not heard.
        price: n float64, log, basis not removed.
        own: n float64, where the trade's venue stood lately, the same.
        scale: n float64, dispersion.
    """
    room = np.maximum(SAME_SCALES * scale, SAME_LEAST)
    stands = np.abs(own - price) <= 3 * room
    return stands[:, None] & (least <= (price + room)[:, None]) & (greatest >= (price - room)[:, None])
