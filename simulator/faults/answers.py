"""Faults of what the venue answers: HTTP refusals, pongs that come late or not at all, other ping times."""

from __future__ import annotations

import math

from simulator.faults.order import Choice, Fault, Number
from simulator.venues.kucoin import PING_TIMES_MS, Kucoin


class HttpError(Fault):
    """Too many requests, a ban, an outage: with the venue's own body and `Retry-After: 1`."""

    SAYS = "answer upgrades, REST or both with an HTTP error and the venue's own body"
    PARAMS = {"status": Choice((429, 418, 403, 451, 500, 502, 503)), "on": Choice(("both", "upgrade", "rest"))}  # noqa: RUF012
    LASTS_S = 5.0

    def begin(self) -> None:
        """Refuse."""
        on = self.params["on"]
        self._refusal = (int(self.params["status"]), on != "rest", on != "upgrade")
        self.port.refusals.append(self._refusal)

    def end(self) -> None:
        """Answer again."""
        self.port.refusals.remove(self._refusal)


class LatePong(Fault):
    """Client pings, the venue's own kind and the protocol's, are answered late. The last such fault counts."""

    SAYS = "answer client pings late"
    PARAMS = {"delay_ms": Number(5000, 0, 60_000)}  # noqa: RUF012
    LASTS_S = 30.0

    def begin(self) -> None:
        """Delay."""
        self.port.pong_delay_s = self._delay_s()

    def end(self) -> None:
        """Answer at once again."""
        self.port.pong_delay_s = None

    def _delay_s(self) -> float:
        return float(self.params["delay_ms"]) / 1000


class NoPong(LatePong):
    """Client pings are not answered at all."""

    SAYS = "do not answer client pings"
    PARAMS = {}  # noqa: RUF012

    def _delay_s(self) -> float:
        return math.inf


class PingTimes(Fault):
    """Tokens name other ping times; who connects with one and does not keep to them is sent away."""

    SAYS = "hand out tokens with other ping times, and close connections made with them that are silent for longer"
    PARAMS = {"interval_ms": Number(2000, 1000, 60_000), "timeout_ms": Number(1000, 500, 60_000)}  # noqa: RUF012
    LASTS_S = 30.0
    VENUES = ("kucoin",)

    def begin(self) -> None:
        """Change what tokens say."""
        assert isinstance(self.venue, Kucoin)
        self.venue.ping_times_ms = (int(self.params["interval_ms"]), int(self.params["timeout_ms"]))

    def end(self) -> None:
        """Say what is usual; connections made meanwhile keep their times."""
        assert isinstance(self.venue, Kucoin)
        self.venue.ping_times_ms = PING_TIMES_MS
