"""The simulated venues. A new one is a file here and a line in `VENUE_TYPES`."""

from __future__ import annotations

from typing import Final

from simulator.venues.base import Venue
from simulator.venues.binance import Binance
from simulator.venues.bitget import Bitget
from simulator.venues.bybit import Bybit
from simulator.venues.gateio import Gateio
from simulator.venues.kraken import Kraken
from simulator.venues.kucoin import Kucoin
from simulator.venues.okx import Okx

VENUE_TYPES: Final[dict[str, type[Venue]]] = {
    "binance": Binance,
    "okx": Okx,
    "bybit": Bybit,
    "kraken": Kraken,
    "gateio": Gateio,
    "bitget": Bitget,
    "kucoin": Kucoin,
}
"""Venue name -> its class, in the order of `market.venues.VENUES`."""
