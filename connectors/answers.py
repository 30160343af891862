"""Which subscribe requests still await answers, and whose an answer is. Pure: no clock of its own, no socket."""

from __future__ import annotations

from dataclasses import dataclass

from connectors.venue import Control, Request


@dataclass(slots=True)
class Open:
    """A request on its way.

    Attributes:
        request: What was sent.
        natives: The native symbols it is about.
        subscribes: Whether it subscribes; else it unsubscribes.
        sent_s: Loop time.
        left: Answers to come.
    """

    request: Request
    natives: frozenset[str]
    subscribes: bool
    sent_s: float
    left: int


class Answers:
    """Requests of one connection without their answers, oldest first. Bounded by the requests that were sent."""

    def __init__(self) -> None:
        self._open: list[Open] = []

    def sent(self, request: Request, natives: frozenset[str], now_s: float, *, subscribes: bool) -> None:
        """Expect the answers to a request."""
        self._open.append(Open(request, natives, subscribes, now_s, request.acks))

    def match(self, control: Control) -> Open | None:
        """Count an answer off its request and return that; None if nothing was asked.

        By the id it repeats; else by the symbol it names; else off the oldest, since venues answer in order.
        """
        found = self._whose(control)
        if found is not None:
            found.left -= 1
            if found.left <= 0:
                self._open.remove(found)
        return found

    def _whose(self, control: Control) -> Open | None:
        if control.key:
            return next((one for one in self._open if one.request.key == control.key), None)
        named = (one for one in self._open if control.native and control.native in one.natives)
        return next(named, self._open[0] if self._open else None)

    @property
    def missing(self) -> int:
        """Answers to come."""
        return sum(one.left for one in self._open)

    def overdue(self, before_s: float) -> int:
        """Return how many answers to requests sent before then are missing, and give these up."""
        late = [one for one in self._open if one.sent_s < before_s]
        self._open = [one for one in self._open if one.sent_s >= before_s]
        return sum(one.left for one in late)
