"""What is listed where: base coins with their prices, the venues' traits, and one row per (venue, symbol).

Fixed facts, the same for every seed: which venue lists what must not change when a test changes its seed.
"""

from __future__ import annotations

import math
import zlib
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np

from market.schema import F64, I64
from market.venues import VENUES

COINS: Final[tuple[tuple[str, float], ...]] = (
    ("BTC", 80694.0), ("ETH", 2500.0), ("SOL", 151.3), ("XRP", 2.214), ("DOGE", 0.1937), ("BNB", 655.2),
    ("ADA", 0.6481), ("PEPE", 1.047e-5), ("SUI", 3.312), ("TRX", 0.2714), ("LINK", 14.62), ("AVAX", 21.43),
    ("LTC", 96.7), ("SHIB", 1.283e-5), ("BCH", 412.6), ("DOT", 4.512), ("NEAR", 2.871), ("UNI", 6.344),
    ("APT", 5.021), ("ARB", 0.3417), ("OP", 0.6644), ("ATOM", 4.387), ("FIL", 2.682), ("ETC", 17.94),
    ("ICP", 5.203), ("HBAR", 0.1731), ("TON", 3.214), ("XLM", 0.2716), ("AAVE", 213.4), ("WIF", 0.8123),
    ("BONK", 1.762e-5), ("FLOKI", 8.41e-5), ("INJ", 12.36), ("SEI", 0.2134), ("TIA", 2.671), ("FET", 0.7145),
    ("RENDER", 3.982), ("ALGO", 0.2033), ("VET", 0.02441), ("GRT", 0.09613), ("SAND", 0.2874), ("MANA", 0.3012),
    ("AXS", 2.443), ("CRV", 0.6213), ("LDO", 0.8412), ("MKR", 1612.0), ("SNX", 0.6731), ("COMP", 46.31),
    ("EGLD", 15.21), ("KAVA", 0.4213), ("ZEC", 51.34), ("DASH", 22.87), ("XTZ", 0.5912), ("EOS", 0.7712),
    ("NEO", 6.123), ("IOTA", 0.1834), ("BSV", 33.12), ("CHZ", 0.03812), ("ENJ", 0.07214), ("GALA", 0.01634),
)  # fmt: skip
"""Base coin and its price in USDT at the start of history, most active first."""

QUOTE: Final = "USDT"
EVERYWHERE: Final = 10
"""The most active coins are listed on every venue."""
FINE_TICKS: Final = 2
RARE_EVERY: Final = 12
"""Every so manieth coin is listed on two or three venues only."""
SIZE_CHOICES: Final = 128
"""Distinct trade and quote sizes a symbol has; a venue holds their texts ready."""
DAY_TURNOVER: Final = 2.4e10
"""Quote currency a day over all venues and symbols."""


@dataclass(frozen=True, slots=True)
class Trait:
    """How a venue differs from the others.

    Attributes:
        share: Its part of the activity.
        lists: Chance that it lists a coin that is not listed everywhere.
        delay_ms: Least time from an event to its frame leaving the venue.
        jitter_ms: Mean of the exponential part of that time.
        skew_ms: What its clock is ahead of the true time.
        id_digits: Digits of its trade ids.
        id_step: Largest step between two trade ids; 1 = contiguous.
        joins_fills: Fills of one taker order leave as one trade that counts them.
        most_decimals: Price decimals it has at most.
    """

    share: float
    lists: float
    delay_ms: float
    jitter_ms: float
    skew_ms: float
    id_digits: int = 10
    id_step: int = 1
    joins_fills: bool = False
    most_decimals: int = 10


TRAITS: Final[dict[str, Trait]] = {
    "binance": Trait(0.28, 0.95, 6, 3, 120, most_decimals=8),
    "okx": Trait(0.15, 0.90, 24, 5, -80, joins_fills=True),
    "bybit": Trait(0.16, 0.90, 17, 4, 45, id_digits=19, id_step=4),
    "kraken": Trait(0.08, 0.60, 55, 8, -400, id_digits=9),
    "gateio": Trait(0.12, 0.95, 38, 6, 310, id_digits=9, joins_fills=True),
    "bitget": Trait(0.12, 0.90, 46, 7, 700, id_digits=19, id_step=1 << 20),
    "kucoin": Trait(0.09, 0.85, 95, 12, -210, id_digits=17, id_step=900),
}


@dataclass(frozen=True, slots=True)
class Universe:
    """Symbols, venues and the table of listings.

    Attributes:
        symbols: S symbols of ours, most active first.
        bases: S base coins.
        venues: Venue names in use, V of them, in the order of `market.venues.VENUES`.
        prices: S float64, prices at the start of history.
        sizes: S x SIZE_CHOICES int64, sizes in units of 10**-size_decimals.
        size_decimals: S int64.
        venue: L int64, place in `venues` of each listing; a listing is one (venue, symbol).
        symbol: L int64, place in `symbols`.
        decimals: L int64, price decimals.
        weight: L float64, expected share of all activity; sums to 1.
    """

    symbols: tuple[str, ...]
    bases: tuple[str, ...]
    venues: tuple[str, ...]
    prices: F64
    sizes: I64
    size_decimals: I64
    venue: I64
    symbol: I64
    decimals: I64
    weight: F64

    def of_venue(self, name: str) -> I64:
        """Return the listings of a venue, ascending int64."""
        return np.flatnonzero(self.venue == self.venues.index(name))

    def turnover(self) -> F64:
        """Return L float64: 24 h turnover of each listing in the quote currency."""
        return self.weight * DAY_TURNOVER


def build_universe(count: int, venues: Sequence[str] = VENUES) -> Universe:
    """Return the universe of the `count` most active coins on some venues.

    Coins beyond the table are made up (`SIM061`, ...). A coin that none of the venues lists is left out.
    """
    coins = [coin for coin in _coins(count) if any(_lists(name, coin[0]) for name in venues)]
    pairs = [(v, s) for v, name in enumerate(venues) for s, coin in enumerate(coins) if _lists(name, coin[0])]
    prices = np.array([coin[2] for coin in coins])
    size_decimals = np.array([_size_decimals(price) for price in prices], np.int64)
    activity = 1.0 / np.arange(1, len(coins) + 1) ** 0.9
    weight = np.array([activity[s] * TRAITS[venues[v]].share for v, s in pairs])
    return Universe(
        symbols=tuple(f"{coin[1]}-{QUOTE}" for coin in coins),
        bases=tuple(coin[1] for coin in coins),
        venues=tuple(venues),
        prices=prices,
        sizes=_sizes(prices, size_decimals),
        size_decimals=size_decimals,
        venue=np.array([v for v, _ in pairs], np.int64),
        symbol=np.array([s for _, s in pairs], np.int64),
        decimals=np.array([_price_decimals(s, prices[s], TRAITS[venues[v]]) for v, s in pairs], np.int64),
        weight=weight / weight.sum(),
    )


def _coins(count: int) -> Iterable[tuple[int, str, float]]:
    for place in range(count):
        if place < len(COINS):
            yield place, *COINS[place]
        else:
            name = f"SIM{place + 1:03d}"
            yield place, name, round(10.0 ** (3 * _chance(name, "price") - 1), 4)


def _lists(venue: str, place: int) -> bool:
    if place < EVERYWHERE:
        return True
    if place % RARE_EVERY == RARE_EVERY - 1:
        first = place // RARE_EVERY * 3
        return VENUES.index(venue) in {(first + step * 2) % len(VENUES) for step in range(2 + place % 2)}
    return _chance(venue, str(place)) < TRAITS[venue].lists


def _chance(*words: str) -> float:
    return zlib.crc32("/".join(words).encode()) / 2**32


def _price_decimals(place: int, price: float, trait: Trait) -> int:
    """Return decimals such that a tick is 0.1 to 1 bps of the price, finer on the two most active coins."""
    least = price * (1.2e-5 if place < FINE_TICKS else 1e-4)
    return min(max(0, math.ceil(-math.log10(least))), trait.most_decimals)


def _size_decimals(price: float) -> int:
    return min(max(0, math.ceil(math.log10(price))) + 1, 6)


def _sizes(prices: F64, decimals: I64) -> I64:
    """Return S x SIZE_CHOICES sizes worth 1 to some 100,000 in the quote currency, log-normal around 300."""
    worth = np.random.default_rng(2026).lognormal(math.log(300.0), 1.5, (len(prices), SIZE_CHOICES))
    ticks = np.rint(np.maximum(worth, 1.0) / prices[:, None] * 10.0 ** decimals[:, None])
    return np.maximum(ticks.astype(np.int64), 1)
