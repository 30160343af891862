"""Who has which symbol code while symbols come and go in a run.

A code is free, then owned, then leaving, then free again. A symbol that is let go leaves in this order: the collectors
let go of it; each venue says in its stream that nothing more of it comes; the flow is told, with the next batch of
whichever venue is far enough, and frees its state; a good while later its code may have another owner. So nothing
under way can be taken for the new owner's. What is decided is saved before it is done: a run that goes on elsewhere
tells the flow again of all that was leaving.
"""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Final

from connectors.standings import Change, Standings
from market.symbols import SymbolTable, key_group

REUSE_S: Final = 600.0
"""A code is free this long after the flow was told: many epochs, so that the flow and its recovery are past it."""
NAMED_SYMBOLS: Final = 5
"""Most symbols that a line of the log names."""

log = logging.getLogger("mie.roster")


@dataclass(slots=True)
class _Leaving:
    """A code whose owner is let go.

    Attributes:
        version: Who follows this one, or a later, has no tick of it any more.
        told_s: When the flow was told, monotonic; None if it was not.
    """

    version: int
    told_s: float | None = None


class Roster:
    """The owners of a table's codes. Any thread may use it.

    Memory: the newest list of each venue; the table.

    Attributes:
        version: How often the symbols that collectors follow have changed.
    """

    def __init__(
        self,
        table: SymbolTable,
        venues: Iterable[str],
        *,
        top: int | None = None,
        listed: Mapping[str, Mapping[str, float]] | None = None,
        leaving: Iterable[int] = (),
        save: Callable[[SymbolTable, list[int]], None] | None = None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        """Begin with a table; nobody else may change it.

        Args:
            table: The symbols.
            venues: Names of the venues that have to follow.
            top: N of `top:N`; None: the symbols stay as they are.
            listed: venue -> symbol -> turnover, what is known of the venues' lists before the first.
            leaving: Codes that an earlier run was about to free.
            save: Called with the table and the codes that are leaving whenever they change; if it raises OSError, the
                change waits for the next round.
            clock: Monotonic seconds.
        """
        self.version = 0
        self._table = table
        self._venues = frozenset(venues)
        self._standings = None if top is None else Standings(top)
        self._lists: dict[str, Mapping[str, float]] = dict(listed or {})
        self._heard: set[str] = set()
        self._leaving = {code: _Leaving(0) for code in leaving}
        self._followed: dict[str, tuple[int, int]] = {}  # venue -> version, watermark by which it was followed
        self._ready: list[tuple[int, int]] = []  # watermark from which the flow may be told, code
        self._save = save
        self._clock = clock
        self._crowded: set[str] = set()
        self._unsaved = False
        self._lock = threading.Lock()
        self._is_saved()

    def names(self) -> tuple[int, list[str]]:
        """Return the version and the symbols that collectors follow by code, "" where there is none."""
        with self._lock:
            names = ["" if code in self._leaving else name for code, name in enumerate(self._table.names)]
            return self.version, names

    def followed(self, venue: str, version: int, watermark_ns: int) -> None:
        """Note that a venue's stream follows a version: all ticks of symbols it lacks came up to the watermark."""
        with self._lock:
            self._followed[venue] = (version, watermark_ns)
            if not self._followed.keys() >= self._venues:
                return
            least = min(version for version, _ in self._followed.values())
            newest_ns = max(watermark_ns for _, watermark_ns in self._followed.values())
            waiting = self._leaving.keys() - {code for _, code in self._ready}
            self._ready += [
                (newest_ns, code)
                for code in sorted(waiting)
                if self._leaving[code].told_s is None and self._leaving[code].version <= least
            ]

    def let_go(self, watermark_ns: int) -> list[int]:
        """Return the codes that the flow is to be told of with a batch of this watermark, each once."""
        if not self._ready:
            return []
        with self._lock:
            codes = [code for at_ns, code in self._ready if at_ns <= watermark_ns]
            self._ready = [entry for entry in self._ready if entry[0] > watermark_ns]
            for code in codes:
                self._leaving[code].told_s = self._clock()
            return codes

    def listed(self, venue: str, turnover: Mapping[str, float]) -> None:
        """Take a venue's list, symbol -> 24 h turnover; a round ends when all have given one, or one the next."""
        if self._standings is None:
            return
        with self._lock:
            self._lists[venue] = turnover
            round_is_over = venue in self._heard or self._heard | {venue} >= self._venues
            self._heard.add(venue)
            if round_is_over:
                self._heard.clear()
                held = [name for name, code in self._table.codes.items() if code not in self._leaving]
                self._change(self._standings.judge(self._lists, held, self._clock()))

    def _change(self, change: Change) -> None:
        freed = [
            code
            for code, leaving in self._leaving.items()
            if leaving.told_s is not None and self._clock() - leaving.told_s >= REUSE_S
        ]
        for code in freed:
            self._table.free(code)
            del self._leaving[code]
        entered, waiting = [], []
        for symbol in change.enter:
            if symbol in self._table.codes:  # of an earlier stay, not free yet
                continue
            if self._table.has_room(symbol):
                self._table.take(symbol)
                entered.append(symbol)
            else:
                waiting.append(symbol)
        left = change.leave + self._displaced(waiting, change)
        if not (freed or entered or left or self._unsaved):
            return
        for symbol in left:
            self._leaving[self._table.codes[symbol]] = _Leaving(self.version + 1)
        self._unsaved = not self._is_saved()
        if not self._unsaved:
            self.version += 1
        for what, symbols in (("are taken up", entered), ("are let go", left)):
            if symbols:
                log.info("%d symbols %s: %s", len(symbols), what, _some(symbols))

    def _displaced(self, waiting: list[str], change: Change) -> list[str]:
        """Return who leaves because a symbol among the first N finds no free code in its key group."""
        groups = {key_group(symbol) for symbol in waiting}
        groups -= {int(self._table.groups[code]) for code in self._leaving}  # one is coming free
        found: dict[int, str] = {}
        for symbol in change.behind:
            if key_group(symbol) in groups and symbol not in change.leave:
                found.setdefault(key_group(symbol), symbol)
        crowded = {symbol for symbol in waiting if key_group(symbol) in groups - found.keys()}
        if crowded - self._crowded:
            log.warning("no code is free in the key group of %s: it waits", _some(crowded))
        self._crowded = crowded
        return list(found.values())

    def _is_saved(self) -> bool:
        """Save; return whether that could be done. Collectors are told nothing that is not on disk."""
        try:
            if self._save is not None:
                self._save(self._table, sorted(self._leaving))
        except OSError as error:
            log.error("the symbols' codes cannot be saved: %s", error)
            return False
        return True


def _some(symbols: Iterable[str]) -> str:
    names = sorted(symbols)
    return ", ".join(names[:NAMED_SYMBOLS]) + (", ..." if len(names) > NAMED_SYMBOLS else "")
