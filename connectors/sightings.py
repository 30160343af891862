"""What a venue lists, told from its REST lists one after the other: a list can be cut short, and one is no proof.

A pair is gone once two lists in a row lack it; a list that lacks half of the pairs is a fault and not counted. That a
pair is halted, its own row says, and is believed at once.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Final

from connectors.venue import Instrument

MISSES: Final = 2
"""So many lists in a row must lack a pair."""
LEAST_PART: Final = 0.5
"""A list with a smaller part of the pairs known is no list."""


class Sightings:
    """The pairs of one venue. Memory: two entries a pair that the venue lists."""

    def __init__(self, known: Iterable[Instrument]) -> None:
        """Begin with the pairs that were listed before."""
        self._pairs = {pair.native: pair for pair in known}
        self._missed: dict[str, int] = {}

    def see(self, listed: Sequence[Instrument]) -> list[Instrument]:
        """Take a list; return the pairs that the venue has.

        Raises:
            ValueError: The list is too short; nothing is learned from it.
        """
        if len(listed) < max(1.0, LEAST_PART * len(self._pairs)):
            message = f"{len(listed)} pairs where {len(self._pairs)} were listed before"
            raise ValueError(message)
        pairs = {pair.native: pair for pair in listed}
        missed = {native: self._missed.get(native, 0) + 1 for native in self._pairs.keys() - pairs.keys()}
        self._missed = {native: count for native, count in missed.items() if count < MISSES}
        self._pairs = pairs | {native: self._pairs[native] for native in self._missed}
        return list(self._pairs.values())
