"""What the market model does on purpose: scam wicks on one venue, crashes and rallies on all. Labelled.

A wick is 1 to 12 prints far off the market on one venue alone, within 400 ms, then back. A crash moves every venue,
each with its own delay, and stays: it looks like a wick on the first venue and is none. Both say what they did as a
record for the truth file.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from typing import Any, Final

import numpy as np

from market.schema import F64, I64, Bool, Rows
from simulator.universe import Universe

MS: Final = 1_000_000
SECOND: Final = 1_000_000_000

LEAST_WICK: Final = 0.015
MOST_WICK: Final = 0.12
DISPERSIONS: Final = 8.0
"""A wick is at least so many times the symbol's dispersion."""
CALM_NS: Final = 3 * SECOND
"""No two events on one symbol within this time."""

INJECTED: Final = np.dtype(
    [("ns", "i8"), ("listing", "i4"), ("trade", "?"), ("offset", "f8"), ("label", "i8")]
)  # offset: log price against the market; label: the wick's number, -1 = none
"""A row that an event adds to the natural ones."""

Record = dict[str, Any]


@dataclass(slots=True)
class Wick:
    """A wick in progress. Times are true time in ns; `offsets` are log, one a print."""

    number: int
    listing: int
    times: list[int]
    offsets: list[float]
    quotes_follow: bool
    prints: list[tuple[str, int]] = field(default_factory=list)
    """Trade id as sent and fills, in order."""

    def rows(self) -> list[tuple[int, int, bool, float, int]]:
        """Return the wick as INJECTED rows; quotes that follow move just before each print, and back after the last."""
        steps = list(zip(self.times, self.offsets, strict=True))
        rows = [(ns, self.listing, True, offset, self.number) for ns, offset in steps]
        if self.quotes_follow:
            before = [(ns - MS // 2, self.listing, False, offset, -1) for ns, offset in steps]
            back = (self.times[-1] + 5 * MS, self.listing, False, 0.0, -1)
            rows += [*before, back]
        return rows


@dataclass(slots=True)
class Crash:
    """A move of the whole market in one symbol: `size` (log) over `duration_ns`, venue v starting `delays[v]` late."""

    symbol: int
    start_ns: int
    duration_ns: int
    size: float
    delays: I64

    @property
    def end_ns(self) -> int:
        """When the last venue has finished moving."""
        return self.start_ns + self.duration_ns + int(self.delays.max())

    def offset(self, ns: I64, venue: I64) -> F64:
        """Return the log offset of rows at `ns` on `venue`, an S-curve from 0 to `size`."""
        done = np.clip((ns - self.start_ns - self.delays[venue]) / self.duration_ns, 0.0, 1.0)
        return self.size * done * done * (3.0 - 2.0 * done)


class Events:
    """Plans wicks and crashes from its own seed and hands out their rows block by block.

    Attributes:
        wicks: Wicks finished so far.
        crashes: Crashes begun so far.
        halted: Listings on which no wick begins.
    """

    def __init__(
        self,
        universe: Universe,
        dispersion: F64,
        *,
        seed: int,
        start_ns: int,
        wicks_per_minute: float,
        crash_every_s: float = 150.0,
        on_record: Callable[[Record], None] | None = None,
    ) -> None:
        """Build the plan; `dispersion` is S float64, log, and `on_record` gets each record once."""
        self._universe = universe
        self._dispersion = dispersion
        self._random = np.random.default_rng([seed, 2])
        self._on_record = on_record or (lambda record: None)
        self._wick_gap_ns = 60 * SECOND / wicks_per_minute if wicks_per_minute > 0 else math.inf
        self._crash_gap_ns = crash_every_s * SECOND if wicks_per_minute > 0 else math.inf
        counts = np.bincount(universe.symbol, minlength=len(universe.symbols))
        self._eligible: list[int] = np.flatnonzero(counts >= 3).tolist()
        if not self._eligible:
            self._wick_gap_ns = self._crash_gap_ns = math.inf
        self._next_wick = start_ns + SECOND + self._gap(self._wick_gap_ns)
        self._next_crash = start_ns + 10 * SECOND + self._gap(self._crash_gap_ns)
        self._open: dict[int, Wick] = {}
        self._pending: list[tuple[int, int, bool, float, int]] = []
        self._busy_until: dict[int, int] = {}
        self._number = 0
        self.moving: list[Crash] = []
        self.wicks = 0
        self.crashes = 0
        self.halted: set[int] = set()

    def inject(self, start_ns: int, end_ns: int) -> Rows:
        """Return the INJECTED rows of [start_ns, end_ns), planning what begins in it."""
        while self._next_wick < end_ns:
            self._begin_wick(int(self._next_wick))
            self._next_wick += self._gap(self._wick_gap_ns)
        while self._next_crash < end_ns:
            self._begin_crash(int(self._next_crash))
            self._next_crash += self._gap(self._crash_gap_ns)
        if not self._pending:
            return np.zeros(0, INJECTED)
        due = [row for row in self._pending if row[0] < end_ns]
        self._pending = [row for row in self._pending if row[0] >= end_ns]
        return np.array(due, INJECTED)

    def muted(self, ns: I64, listing: I64, trade: Bool) -> Bool:
        """Return which natural rows a wick silences: its venue's trades in it, and its quotes if they follow."""
        mute = np.zeros(len(ns), np.bool_)
        for wick in self._open.values():
            inside = (listing == wick.listing) & (ns >= wick.times[0] - MS) & (ns <= wick.times[-1] + 5 * MS)
            mute |= inside & (trade | wick.quotes_follow)
        return mute

    def offsets(self, ns: I64, venue: I64, symbol: I64) -> F64:
        """Return the log offset that crashes give each row."""
        total = np.zeros(len(ns))
        for crash in self.moving:
            rows = np.flatnonzero(symbol == crash.symbol)
            total[rows] += crash.offset(ns[rows], venue[rows])
        return total

    def settled(self, now_ns: int) -> Iterable[Crash]:
        """Return the crashes that every venue has finished by `now_ns`, and forget them."""
        done = [crash for crash in self.moving if crash.end_ns <= now_ns]
        self.moving = [crash for crash in self.moving if crash.end_ns > now_ns]
        return done

    def printed(self, number: int, trade_id: int, last_of_print: bool) -> None:
        """Note a trade id that a wick's print got; the wick is recorded once its last print has one."""
        wick = self._open[number]
        wick.prints.append((str(trade_id), last_of_print))
        if sum(last for _, last in wick.prints) == len(wick.times):
            del self._open[number]
            self.wicks += 1
            self._on_record(self._wick_record(wick))

    def _gap(self, mean_ns: float) -> float:
        return mean_ns if math.isinf(mean_ns) else float(self._random.exponential(mean_ns))

    def _pick(self, now_ns: int) -> int | None:
        free = [symbol for symbol in self._eligible if self._busy_until.get(symbol, 0) < now_ns]
        return int(self._random.choice(free)) if free else None

    def _begin_wick(self, start_ns: int) -> None:
        symbol = self._pick(start_ns)
        if symbol is None:
            return
        listing = int(self._random.choice(np.flatnonzero(self._universe.symbol == symbol)))
        if listing in self.halted:
            return
        least = max(LEAST_WICK, DISPERSIONS * float(self._dispersion[symbol]))
        size = float(self._random.uniform(least, MOST_WICK)) if least < MOST_WICK else least
        prints = int(self._random.integers(1, 13))
        span = int(self._random.integers(1, 401)) * MS
        later = np.sort(self._random.integers(0, span + 1, prints - 1)) if prints > 1 else np.zeros(0, np.int64)
        depth = self._random.uniform(max(0.7, least / size), 1.0, prints)
        depth[self._random.integers(prints)] = 1.0
        sign = 1.0 if self._random.random() < 0.5 else -1.0
        self._number += 1
        wick = Wick(
            number=self._number,
            listing=listing,
            times=[start_ns, *(start_ns + later).tolist()],
            offsets=np.log1p(sign * size * depth).tolist(),
            quotes_follow=bool(self._random.random() < 0.5),
        )
        self._open[wick.number] = wick
        self._pending += wick.rows()
        self._busy_until[symbol] = wick.times[-1] + CALM_NS

    def _begin_crash(self, start_ns: int) -> None:
        symbol = self._pick(start_ns)
        if symbol is None:
            return
        universe = self._universe
        crash = Crash(
            symbol=symbol,
            start_ns=start_ns,
            duration_ns=int(self._random.uniform(0.3, 2.0) * SECOND),
            size=float(np.log1p(self._random.uniform(0.03, 0.08) * self._random.choice([-1.0, 1.0]))),
            delays=self._random.integers(0, 100 * MS, len(universe.venues)),
        )
        for listing in np.flatnonzero(universe.symbol == symbol).tolist():
            self._pending += self._crowd(crash, listing)
        self.moving.append(crash)
        self._busy_until[symbol] = crash.end_ns + CALM_NS
        self.crashes += 1
        self._on_record(self._crash_record(crash))

    def _crowd(self, crash: Crash, listing: int) -> list[tuple[int, int, bool, float, int]]:
        """Return the extra rows of one venue in a crash: it is busy there, a trade and a quote every 40 ms or so."""
        begin = crash.start_ns + int(crash.delays[self._universe.venue[listing]])
        count = int((crash.duration_ns + 300 * MS) // (40 * MS))
        times = begin + np.cumsum(self._random.integers(10 * MS, 70 * MS, count))
        return [
            row for ns in times.tolist() for row in ((ns - MS, listing, False, 0.0, -1), (ns, listing, True, 0.0, -1))
        ]

    def _wick_record(self, wick: Wick) -> Record:
        universe = self._universe
        return {
            "kind": "wick",
            "venue": universe.venues[universe.venue[wick.listing]],
            "symbol": universe.symbols[universe.symbol[wick.listing]],
            "trade_ids": [trade_id for trade_id, _ in wick.prints],
            "start_ns": wick.times[0],
            "end_ns": wick.times[-1],
            "size_pct": round(100.0 * math.expm1(max(wick.offsets, key=abs)), 4),
            "prints": len(wick.times),
            "quotes_follow": wick.quotes_follow,
        }

    def _crash_record(self, crash: Crash) -> Record:
        universe = self._universe
        listed = universe.venue[universe.symbol == crash.symbol]
        return {
            "kind": "crash",
            "symbol": universe.symbols[crash.symbol],
            "start_ns": crash.start_ns,
            "end_ns": crash.end_ns,
            "size_pct": round(100.0 * math.expm1(crash.size), 4),
            "delays_ms": {universe.venues[v]: round(int(crash.delays[v]) / MS, 3) for v in listed.tolist()},
        }
