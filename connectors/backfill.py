"""Refill of holes in one venue's trades, from its REST history.

Holes are asked for one after the other, within the venue's budget; what comes back goes the way of all ticks, flagged
BACKFILL and stamped as received now. Each hole ends as one `Gap`, filled or not.
"""

from __future__ import annotations

import asyncio
import logging
import random
import ssl as tls
from collections.abc import Collection
from contextlib import suppress
from typing import Final

import numpy as np

from connectors import rest
from connectors.bucket import Bucket
from connectors.clock import Clock
from connectors.retry import backoff, least_wait_s
from connectors.route import rebase
from connectors.venue import Catalog, Decoded, Hole, Refill, Venue
from market.schema import I64, TRADE_ID_BYTES, Bool, Gap, Rows, join
from market.venues import VENUE_CODES

MOST_HOLES: Final = 2_048
"""Holes that wait; one more is given up at once. After a restart each symbol has one."""
MOST_TRADES: Final = 20_000
"""A larger hole is given up: its candles are long closed before it could be filled."""
ATTEMPTS: Final = 5
"""Times a hole is read: REST may be a few seconds behind the WebSocket."""
OUTAGE_NS: Final = 600_000_000_000
"""A hole is given up if REST still does not answer so long after it was asked for."""
FIRST_WAIT_S: Final = 2.0
CAP_S: Final = 30.0
REFUSED: Final = frozenset({400, 401, 404, 451})
"""HTTP statuses that asking again does not change."""

log = logging.getLogger("mie.backfill")


class Backfill:
    """The refill of one venue: holes in, ticks and gaps out.

    Memory: MOST_HOLES holes and what was read of them, MOST_TRADES trades each at most.

    Attributes:
        changed: Whether `open` is another than when this was last set to False.
    """

    def __init__(
        self,
        venue: Venue,
        catalog: Catalog,
        *,
        clock: Clock,
        rng: random.Random,
        base: str | None = None,
        context: tls.SSLContext | None = None,
    ) -> None:
        """Describe it; `base` replaces scheme and host of the venue's REST."""
        self._venue = venue
        self._catalog = Catalog({}, {})
        self._natives: dict[int, str] = {}
        self.follow(catalog)
        self._clock = clock
        self._rng = rng
        self._base = base
        self._context = context
        self._budget = Bucket(venue.REFILL.requests, venue.REFILL.per_s)
        self._waiting: list[Found] = []
        self._asked = asyncio.Event()
        self._ticks: list[Rows] = []
        self._gaps: list[Gap] = []
        self._answers = True
        self._waits = backoff(rng, FIRST_WAIT_S, CAP_S)
        self.changed = False

    @property
    def open(self) -> list[Hole]:
        """Holes that wait or are being read."""
        return [found.hole for found in self._waiting]

    def follow(self, catalog: Catalog) -> None:
        """Go over to the symbols that trade now; holes of those let go are still refilled."""
        self._natives |= {code: native for native, code in catalog.codes.items()}
        self._catalog.codes |= catalog.codes

    def ask(self, hole: Hole) -> None:
        """Have a hole refilled when its turn comes."""
        found = Found(hole, self._venue.REFILL, self._rng, self._clock())
        self.changed = True
        if len(self._waiting) == MOST_HOLES or hole.size > MOST_TRADES:
            self._give(found)
            return
        self._waiting.append(found)
        self._asked.set()

    def came(self, symbol: int, first: int, last: int) -> None:
        """Know that numbers came over the WebSocket after all: joined perhaps, where the history has single fills."""
        for found in self._waiting:
            if found.hole.symbol == symbol and first < found.hole.before and last > found.hole.after:
                found.came(first, last)

    def forget(self, symbols: Collection[int]) -> None:
        """Give up the holes of symbols that are let go, and their native names."""
        for found in [found for found in self._waiting if found.hole.symbol in symbols]:
            self._waiting.remove(found)
            self._give(found)
        self._natives = {code: native for code, native in self._natives.items() if code not in symbols}
        self._catalog.codes = {native: code for native, code in self._catalog.codes.items() if code not in symbols}

    def take(self) -> tuple[list[Rows], list[Gap]]:
        """Return the ticks, parts in receive order, and the gaps that came since the last time."""
        taken = self._ticks, self._gaps
        self._ticks, self._gaps = [], []
        return taken

    def abandon(self) -> None:
        """Give up the holes that are left, for an end; what was read of them is not lost."""
        for found in self._waiting:
            self._give(found)
        self._waiting.clear()

    async def run(self) -> None:
        """Refill until cancelled. A hole that has to wait holds no other up."""
        while True:
            found = await self._next()
            if await self._try(found) and found in self._waiting:  # its symbol may have been let go meanwhile
                self._waiting.remove(found)
                self._give(found)

    async def _next(self) -> Found:
        """Return the hole whose turn it is, once there is one."""
        loop = asyncio.get_running_loop()
        while True:
            self._asked.clear()
            wait_s = None
            if self._waiting:
                found = min(self._waiting, key=lambda found: found.not_before_s)
                wait_s = found.not_before_s - loop.time()
                if wait_s <= 0.0:
                    return found
            with suppress(TimeoutError):
                await asyncio.wait_for(self._asked.wait(), wait_s)

    async def _try(self, found: Found) -> bool:
        """Read what can be read now; return whether that was all that can be done for a hole."""
        name = self._venue.NAME
        try:
            await self._read(found)
        except rest.RestError as error:
            if self._answers:
                log.warning("%s: its trade history cannot be read: %s", name, error)
            self._answers = False
            if error.status in REFUSED:
                return True
            self._budget.hold(max(error.retry_after_s or least_wait_s(error.status), next(self._waits)))
            return self._clock() - found.since_ns > OUTAGE_NS
        except ValueError as error:
            log.warning("%s", error)
            return True
        if not self._answers:
            log.info("%s: its trade history can be read again", name)
            self._waits = backoff(self._rng, FIRST_WAIT_S, CAP_S)
        self._answers = True
        if found.is_complete or found.is_out_of_reach:
            return True
        found.attempts += 1
        found.not_before_s = asyncio.get_running_loop().time() + next(found.waits)
        return found.attempts == ATTEMPTS

    async def _read(self, found: Found) -> None:
        """Read pages until the hole is full, or there is no more."""
        hole, venue = found.hole, self._venue
        native = self._natives[hole.symbol]
        got: Decoded | None = None
        reached = False
        for page in range(venue.REFILL.pages):
            await self._budget.take()
            url = rebase(venue.REST_URL, self._base, venue.trades_path(native, hole, page, got))
            body = await asyncio.to_thread(rest.call, url, context=self._context)
            before, got = got, venue.trades(body, native, self._clock(), self._catalog)
            inside = found.add(got)
            if found.is_complete or not got.ticks.size or _same(before, got) or (reached and not inside):
                return
            reached = reached or inside

    def _give(self, found: Found) -> None:
        """Hand over what was found, and what became of the hole."""
        self.changed = True
        hole, ticks = found.hole, found.ticks()
        if ticks is not None:
            ticks["receive_ns"] = self._clock()  # later than all that has been sent, before what will be
            self._ticks.append(ticks)
        from_ns, to_ns, missing = found.unfilled()
        venue = VENUE_CODES[self._venue.NAME]
        self._gaps.append(Gap(venue, hole.symbol, from_ns, to_ns, missing, found.is_complete))


class Found:
    """What has been read for one hole.

    Attributes:
        hole: The hole.
        since_ns: When it was asked for.
        is_complete: Whether all of it has been read.
        attempts: How often it has been tried in vain.
        waits: Seconds to wait after each.
        not_before_s: Loop time of the next.
    """

    def __init__(self, hole: Hole, refill: Refill, rng: random.Random, since_ns: int) -> None:
        self.hole = hole
        self.since_ns = since_ns
        self.is_complete = False
        self.attempts = 0
        self.waits = backoff(rng, FIRST_WAIT_S, CAP_S)
        self.not_before_s = 0.0
        self._refill = refill
        self._counted = hole.size > 0
        self._parts: list[Rows] = []
        self._numbers: list[I64] = []  # beside _parts
        self._came: list[tuple[int, int]] = []
        self._seen: set[int | bytes] = set()
        self._least_ns = hole.to_ns
        self._most_ns = hole.from_ns
        self._most_number = 0

    @property
    def is_out_of_reach(self) -> bool:
        """Whether the venue's history, which ends where we read it to, does not go back to the hole's begin."""
        return not self._counted and self._least_ns > self.hole.from_ns and bool(self._parts)

    def add(self, got: Decoded) -> bool:
        """Take a page; return whether any of it is of the hole."""
        ticks = got.ticks
        numbers = numbers_of(got)
        if self._counted:
            if numbers is None:
                text = "a page of trades without numbers"
                raise ValueError(text)
            keys = numbers.tolist()
            inside = (numbers > self.hole.after) & (numbers < self.hole.before)
        else:
            keys = ticks["trade_id"].tolist()
            inside = self._within(ticks["exchange_ns"], numbers)
            if self._refill.by_time or ticks.size < self._refill.page_rows:  # all there is: there is nothing older
                self._least_ns = self.hole.from_ns
        rows = [row for row in np.flatnonzero(inside).tolist() if self._is_new(keys[row])]
        self._parts.append(ticks.take(rows))
        self._numbers.append(np.zeros(len(rows), np.int64) if numbers is None else numbers.take(rows))
        self.is_complete = self._has_all()
        return bool(inside.any())

    def _within(self, stamps: I64, numbers: I64 | None) -> Bool:
        """Return which trades are of a hole of time, and note how far the page reaches."""
        hole, unit = self.hole, self._refill.coarse_ns
        inside: Bool = (stamps >= hole.from_ns // unit * unit) & (stamps <= hole.to_ns)
        if numbers is not None:
            # Not what came before or with the last trade before it: that may be longer ago than ids are remembered.
            inside &= (stamps > hole.from_ns) | (numbers > hole.after)
            if hole.before:
                inside &= numbers < hole.before
            self._most_number = int(numbers.max(initial=self._most_number))
        self._least_ns = int(stamps.min(initial=self._least_ns))
        self._most_ns = int(stamps.max(initial=self._most_ns))
        return inside

    def _has_all(self) -> bool:
        hole, unit = self.hole, self._refill.coarse_ns
        if self._counted:
            return len(self._seen) == hole.size
        # The history may be behind the WebSocket: it is not while it holds the trade before or at the hole's end.
        reached = self._most_number >= hole.before - 1 if hole.before else self._most_ns >= hole.to_ns // unit * unit
        return reached and self._least_ns <= hole.from_ns

    def came(self, first: int, last: int) -> None:
        """Leave out numbers from now on, and of what was read."""
        self._came.append((first, last))
        if self._counted:
            self._seen.update(range(max(first, self.hole.after + 1), min(last, self.hole.before - 1) + 1))

    def _is_new(self, key: int | bytes) -> bool:
        known = key in self._seen
        self._seen.add(key)
        return not known

    def ticks(self) -> Rows | None:
        """Return what was found in event order, n TICK rows; None if nothing was."""
        if not self._parts:
            return None
        numbers = np.concatenate(self._numbers)
        wanted = np.ones(numbers.size, bool)
        for first, last in self._came:
            wanted &= (numbers < first) | (numbers > last)
        ticks = join(self._parts).take(np.flatnonzero(wanted))
        if not ticks.size:
            return None
        digits = np.char.zfill(ticks["trade_id"], TRADE_ID_BYTES)
        return ticks.take(np.lexsort((digits, ticks["exchange_ns"])))

    def unfilled(self) -> tuple[int, int, int]:
        """Return from and to when trades are missing, in the venue's stamps, and how many, where numbers tell."""
        hole = self.hole
        if self._counted or self.is_complete:
            return hole.from_ns, hole.to_ns, hole.size - len(self._seen) if self._counted else 0
        return hole.from_ns, max(hole.from_ns, self._least_ns), 0


def numbers_of(got: Decoded) -> I64 | None:
    """Return the numbers of single fills read from a history, n int64; None where ids are no numbers."""
    spans = got.spans
    if spans is not None:
        return spans[:, 1]
    try:
        return got.ticks["trade_id"].astype(np.int64)
    except (ValueError, OverflowError):
        return None


def _same(before: Decoded | None, got: Decoded) -> bool:
    """Return whether a page repeats the one before: the venue has no further one."""
    return before is not None and before.ticks["trade_id"].tobytes() == got.ticks["trade_id"].tobytes()
