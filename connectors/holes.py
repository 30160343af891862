"""What one venue's feed does about holes in its trades: look, ask for them, hand over what comes, remember the rest."""

from __future__ import annotations

import random
from collections.abc import Collection, Coroutine, Iterable

from connectors.backfill import Backfill
from connectors.gaps import GapKernel
from connectors.position import Known, encode_step
from connectors.route import Route
from connectors.venue import Catalog
from market.schema import END_OF_INPUT, I64, Gap, Rows, VenueCounters


class Holes:
    """The holes of one venue, from the first missing trade to the row in `gaps`."""

    def __init__(
        self,
        route: Route,
        catalog: Catalog,
        symbols: int,
        counters: VenueCounters,
        rng: random.Random,
        known: Known | None = None,
    ) -> None:
        """Build for a number of symbol codes.

        Args:
            route: The way to the venue.
            catalog: The symbols that trade now.
            symbols: How many symbols the run has.
            counters: Of the venue; `gaps` counts the holes found.
            rng: For the waits between attempts.
            known: What an earlier run, or collector, has handed out: what came after it is asked for.
        """
        self._counters = counters
        self._kernel = GapKernel(symbols, numbered=route.venue.REFILL.numbered)
        base = route.endpoint.rest if route.endpoint else None
        self._backfill = Backfill(route.venue, catalog, clock=route.clock, rng=rng, base=base, context=route.context)
        self._clock = route.clock
        self._lost = (counters.reconnects, False)
        self._given_up = False
        if known is not None:
            self._kernel.resume(known)
        self._kernel.follow(catalog.codes.values(), self._clock())

    def run(self) -> Coroutine[None, None, None]:
        """Refill until cancelled."""
        return self._backfill.run()

    def follow(self, catalog: Catalog, symbols: Iterable[int]) -> None:
        """Go over to the symbols that trade now; `symbols` are the codes of those that are taken up."""
        self._backfill.follow(catalog)
        self._kernel.follow(symbols, self._clock())

    def forget(self, symbols: Collection[int]) -> None:
        """Free what is known of symbols that are let go; the next `take` has what became of their holes."""
        for hole in self._kernel.forget(symbols, self._clock()):
            self._counters.gaps += 1
            self._backfill.ask(hole)
        self._backfill.forget(symbols)

    def saw(self, ticks: Rows, spans: I64 | None) -> Rows:
        """Take decoded ticks, as `GapKernel.add`; return what is to be handed on, as `GapKernel.news`."""
        news = self._kernel.news(ticks)
        self._kernel.add(ticks, spans)
        return news

    def look(self) -> None:
        """See whether a link was lost, or silent.

        Called when all that came over it has been seen and nothing that came after: else a lost link's last trades
        would end a hole of time, or its successor's first ones hide it.
        """
        before, self._lost = self._lost, (self._counters.reconnects, self._counters.state == "stale")
        if self._lost != before:
            self._kernel.mark()

    def take(self, now_ns: int) -> tuple[list[Rows], list[Gap]]:
        """Look, ask for the holes that are due; return what came of earlier ones, as `Backfill.take`."""
        self.look()
        for late in self._kernel.late:
            self._backfill.came(*late)
        self._kernel.late.clear()
        self._ask(now_ns)
        return self._backfill.take()

    def stamps(self) -> list[int]:
        """Return how far the trades of each symbol have come, for `reopen`."""
        return self._kernel.stamps()

    def reopen(self, symbols: Iterable[int], before: list[int]) -> None:
        """Say that trades may be missing since `stamps` returned `before`, though later ones have come."""
        self._kernel.reopen(symbols, before)

    def step(self) -> bytes:
        """Return what has changed of the position since the last call, see `connectors.position`.

        It belongs to the batch with all that `saw` was given and `take` has returned meanwhile.
        """
        holes = None
        if (self._kernel.changed or self._backfill.changed) and not self._given_up:
            self._kernel.changed = self._backfill.changed = False
            holes = [*self._kernel.open, *self._backfill.open]
        return encode_step(self._kernel.moved(), holes)

    def give_up(self) -> None:
        """Make gaps of the holes that are still open, or may be, for an end; the next `take` has them.

        They stay open in the position: the run that goes on from there asks for them again.
        """
        self._given_up = True
        self._ask(END_OF_INPUT)
        for hole in self._kernel.unsure(self._clock()):
            self._counters.gaps += 1
            self._backfill.ask(hole)
        self._backfill.abandon()

    def _ask(self, now_ns: int) -> None:
        for hole in self._kernel.due(now_ns):
            self._counters.gaps += 1
            self._backfill.ask(hole)
