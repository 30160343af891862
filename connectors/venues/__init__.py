"""The venues: one pure module each, checked against the `Venue` protocol where it enters the table."""

from __future__ import annotations

from connectors.venue import Venue
from connectors.venues import binance, bitget, bybit, gateio, kraken, kucoin, okx

VENUES: dict[str, Venue] = {
    "binance": binance,
    "okx": okx,
    "bybit": bybit,
    "kraken": kraken,
    "gateio": gateio,
    "bitget": bitget,
    "kucoin": kucoin,
}
"""Venue name -> module, in code order."""
