"""A venue's list, read again and again while it is followed: what trades now, and with what turnover."""

from __future__ import annotations

import asyncio
import logging
import ssl as tls
from collections.abc import Mapping

from connectors.pipe import Endpoint
from connectors.rest import RestError
from connectors.retry import least_wait_s
from connectors.sightings import Sightings
from connectors.universe import natives_now, pairs, turnovers
from connectors.venue import Instrument

log = logging.getLogger("mie.collector")


class Relisting:
    """The list of one venue. A list that cannot be had, or believed, changes nothing.

    Attributes:
        trading: symbol -> native symbol of what trades, all of the venue.
        turnover: symbol -> 24 h turnover of what is listed, if it was read and not taken since.
        hold_s: How long the venue wants not to be asked.
    """

    def __init__(
        self,
        name: str,
        natives: Mapping[str, str],
        *,
        ranks: bool = False,
        endpoint: Endpoint | None = None,
        context: tls.SSLContext | None = None,
    ) -> None:
        """Begin with the native symbols known; `ranks`: also read turnovers."""
        self.trading = dict(natives)
        self.turnover: dict[str, float] | None = None
        self.hold_s = 0.0
        self._name = name
        self._ranks = ranks
        self._where = (endpoint, context)
        self._sightings = Sightings(Instrument(symbol, native, True) for symbol, native in natives.items())
        self._failed = False

    async def read(self) -> dict[str, str] | None:
        """Read the list; return what trades by it, as `trading`, or None if there is none."""
        found: list[Instrument] | None = None
        try:
            found = self._sightings.see(await asyncio.to_thread(pairs, self._name, *self._where))
            if self._ranks:
                self.turnover = await asyncio.to_thread(turnovers, self._name, found, *self._where)
            self.hold_s, self._failed = 0.0, False
        except (RestError, ValueError) as error:
            if isinstance(error, RestError):
                self.hold_s = error.retry_after_s or least_wait_s(error.status)
            if not self._failed:
                log.warning("%s: its list cannot be read (%s): symbols stay as they are", self._name, error)
            self._failed = True
        if found is None:
            return None
        self.trading = natives_now([pair for pair in found if pair.trading], self.trading)
        return self.trading
