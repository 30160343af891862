"""How many REST requests a venue allows: weights, windows, counts. Knows no venue and no clock."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Final

MOST_COUNTS: Final = 1024
"""Windows counted at a time; all are forgotten beyond it."""


@dataclass(frozen=True, slots=True)
class Limit:
    """At most `most` units in a window of `per_s` seconds.

    Attributes:
        most: Units in a window.
        per_s: Its length.
        weights: Path -> units a request costs.
        other: Units on any other path; 0 = not counted.
        by_path: Whether each path has its own count.
        by: Query key that splits the count further, "" for none.
    """

    most: int
    per_s: float
    weights: Mapping[str, int] = field(default_factory=dict)
    other: int = 1
    by_path: bool = False
    by: str = ""


@dataclass(frozen=True, slots=True)
class Spent:
    """Where a window stands after a request: units used, and when the next begins: epoch, and seconds from now."""

    limit: Limit
    used: int
    until_s: float
    left_s: float

    @property
    def over(self) -> bool:
        """Whether the request is one too many."""
        return self.used > self.limit.most


class Budget:
    """What clients have used of a venue's limits. Windows are aligned to the clock, as venues' are."""

    def __init__(self, limits: tuple[Limit, ...]) -> None:
        self._limits = limits
        self._used: dict[tuple[int, str, str], tuple[int, int]] = {}

    def spend(self, path: str, query: Mapping[str, str], now_s: float) -> list[Spent]:
        """Count a request; return every window it counts in, in the order of the limits."""
        if len(self._used) > MOST_COUNTS:
            self._used.clear()
        spent = []
        for place, limit in enumerate(self._limits):
            units = limit.weights.get(path, limit.other)
            if not units:
                continue
            key = (place, path if limit.by_path else "", query.get(limit.by, "") if limit.by else "")
            window = int(now_s // limit.per_s)
            begun, used = self._used.get(key, (window, 0))
            used = units + (used if begun == window else 0)
            self._used[key] = window, used
            until_s = (window + 1) * limit.per_s
            spent.append(Spent(limit, used, until_s, until_s - now_s))
        return spent
