"""Faults of the market itself: a symbol halted, taken off or put on the list; a venue's clock that jumps."""

from __future__ import annotations

from simulator.faults.order import Fault, Number


class Halted(Fault):
    """The symbol stays listed and says that it does not trade; no rows are made, so ids go on without a hole."""

    SAYS = "halt a symbol: REST says so, its streams are silent"
    LASTS_S = 10.0
    SYMBOL = "must"
    PACED = True

    def begin(self) -> None:
        """Halt."""
        assert self.symbol is not None
        self.venue.halt(self.symbol, on=True)

    def end(self) -> None:
        """Trade again."""
        assert self.symbol is not None
        self.venue.halt(self.symbol, on=False)


class Delisted(Fault):
    """The symbol is gone from REST, unknown to new subscribers, silent to old ones."""

    SAYS = "take a symbol off the list; at the end it is listed again, as a new one"
    LASTS_S = 30.0
    SYMBOL = "must"
    PACED = True

    def begin(self) -> None:
        """Take it off."""
        assert self.symbol is not None
        self.venue.delist(self.symbol)

    def end(self) -> None:
        """Put it on."""
        assert self.symbol is not None
        self.venue.relist(self.symbol)


class Listed(Fault):
    """A new listing: the end of a `delisted`, which from 0 s of a timeline makes the symbol one that never was."""

    SAYS = "list a symbol that was taken off"
    SYMBOL = "must"
    PACED = True

    def begin(self) -> None:
        """Put it on."""
        assert self.symbol is not None
        self.venue.relist(self.symbol)


class ClockStep(Fault):
    """Stamps made from now on are off by a step; the true times in the simulator's own files are not."""

    SAYS = "step the venue's clock; at the end it steps back"
    PARAMS = {"step_ms": Number(500, -60_000, 60_000)}  # noqa: RUF012
    LASTS_S = 10.0
    PACED = True

    def begin(self) -> None:
        """Step."""
        self.venue.step_clock(self._step_ns())

    def end(self) -> None:
        """Step back."""
        self.venue.step_clock(-self._step_ns())

    def _step_ns(self) -> int:
        return round(float(self.params["step_ms"]) * 1_000_000)
