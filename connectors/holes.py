"""What one venue's feed does about holes in its trades: look, ask for them, hand over what comes."""

from __future__ import annotations

import random
from collections.abc import Coroutine

from connectors.backfill import Backfill
from connectors.gaps import GapKernel
from connectors.route import Route
from connectors.venue import Catalog
from market.schema import END_OF_INPUT, I64, Gap, Rows, VenueCounters


class Holes:
    """The holes of one venue, from the first missing trade to the row in `gaps`."""

    def __init__(
        self, route: Route, catalog: Catalog, symbols: int, counters: VenueCounters, rng: random.Random
    ) -> None:
        """Build for a number of symbol codes; `counters.gaps` counts the holes found."""
        self._counters = counters
        self._kernel = GapKernel(symbols, numbered=route.venue.REFILL.numbered)
        base = route.endpoint.rest if route.endpoint else None
        self._backfill = Backfill(route.venue, catalog, clock=route.clock, rng=rng, base=base, context=route.context)
        self._lost = (counters.reconnects, False)

    def run(self) -> Coroutine[None, None, None]:
        """Refill until cancelled."""
        return self._backfill.run()

    def follow(self, catalog: Catalog) -> None:
        """Go over to the symbols that trade now, as `Backfill.follow`."""
        self._backfill.follow(catalog)

    def saw(self, ticks: Rows, spans: I64 | None) -> None:
        """Take decoded ticks, as `GapKernel.add`."""
        self._kernel.add(ticks, spans)

    def take(self, now_ns: int) -> tuple[list[Rows], list[Gap]]:
        """Ask for the holes that are due; return what came of earlier ones, as `Backfill.take`.

        Called after all that was received before has been seen, so that a link's last trades end no hole of time.
        """
        before, self._lost = self._lost, (self._counters.reconnects, self._counters.state == "stale")
        if self._lost != before:
            self._kernel.mark()
        self._ask(now_ns)
        return self._backfill.take()

    def give_up(self) -> None:
        """Make gaps of the holes that are still open, for an end; the next `take` has them."""
        self._ask(END_OF_INPUT)
        self._backfill.abandon()

    def _ask(self, now_ns: int) -> None:
        for hole in self._kernel.due(now_ns):
            self._counters.gaps += 1
            self._backfill.ask(hole)
