"""Which symbols a `top:N` run takes up and which it lets go, from the venues' lists. No I/O, no clock of its own.

The two borders lie apart, so that a symbol at the edge does not come and go: it enters among the first N, and leaves
when it has long been behind 1.5 N. One that no venue lists any more leaves at once.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass
from typing import Final

from connectors.universe import ranked

ENTER_ROUNDS: Final = 2
"""A symbol enters if it is among the first N in so many rounds in a row."""
LEAVE_RANK: Final = 1.5
LEAVE_S: Final = 6 * 3600.0
"""A symbol leaves if it has been behind LEAVE_RANK x N, or listed by too few venues to be ranked, for this long."""


@dataclass(frozen=True, slots=True)
class Change:
    """What a round has found.

    Attributes:
        enter: Symbols to take up, the most traded first.
        leave: Symbols to let go.
        behind: Symbols of the run that are not among the first N, the last ones first: who makes room if there is none.
    """

    enter: list[str]
    leave: list[str]
    behind: list[str]


class Standings:
    """Memory: an entry for each symbol of the run at most, and one for each that may enter."""

    def __init__(self, top: int) -> None:
        """Build for `top:N`."""
        self._top = top
        self._within: dict[str, int] = {}
        self._outside_s: dict[str, float] = {}

    def judge(self, listed: Mapping[str, Mapping[str, float]], held: Collection[str], now_s: float) -> Change:
        """Judge a round of lists.

        Args:
            listed: venue -> symbol -> 24 h turnover, of every venue that ever gave a list.
            held: The symbols of the run.
            now_s: Monotonic seconds.
        """
        order = ranked(listed)
        place = {symbol: number for number, symbol in enumerate(order)}
        last = len(order)
        somewhere = set().union(*listed.values())
        self._within = {s: self._within.get(s, 0) + 1 for s in order[: self._top] if s not in held}
        far = [symbol for symbol in held if place.get(symbol, last) >= min(LEAVE_RANK * self._top, last)]
        self._outside_s = {symbol: self._outside_s.get(symbol, now_s) for symbol in far}
        gone = [symbol for symbol in held if symbol not in somewhere]
        long = [s for s in far if s in somewhere and now_s - self._outside_s[s] >= LEAVE_S]
        behind = [symbol for symbol in held if place.get(symbol, last) >= self._top]
        return Change(
            enter=[symbol for symbol, rounds in self._within.items() if rounds >= ENTER_ROUNDS],
            leave=sorted(gone + long),
            behind=sorted(behind, key=lambda symbol: (-place.get(symbol, last), symbol)),
        )
