"""The venues and their codes. A code is part of recordings in flight and of tie-breaks: never renumber."""

from __future__ import annotations

from typing import Final

VENUES: Final = ("binance", "okx", "bybit", "kraken", "gateio", "bitget", "kucoin")
"""Venue names in code order: `VENUES[code]`."""

VENUE_CODES: Final = {name: code for code, name in enumerate(VENUES)}
