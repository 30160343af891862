"""Symbols are ours, `BASE-QUOTE`: names, aliases, codes and key groups.

A venue's own string is its *native symbol*; only the venue's module and the catalog know it.
"""

from __future__ import annotations

import re
import zlib
from collections.abc import Iterable
from typing import Final

import numpy as np

from market.schema import I64

KEY_GROUPS: Final = 8
"""How many key groups there are. Every group gets every watermark, so few are cheap. Fixed: state is keyed by it."""

ALIASES: Final = {
    "XBT": "BTC",
    "XDG": "DOGE",
    "BCHSV": "BSV",
    "BCHABC": "BCH",
}
"""Currency codes that some venue writes differently, to the common one. The one such table."""

QUOTES: Final = (
    "FDUSD", "USDT", "USDC", "TUSD", "BUSD", "USDD", "USD1", "USDE", "DAI",
    "USD", "EUR", "GBP", "TRY", "BRL", "JPY", "AUD", "CAD", "CHF", "KRW",
    "BTC", "ETH", "BNB", "SOL", "KCS", "XRP", "TRX", "DOGE",
)  # fmt: skip
"""Quote currencies, longest match first, for venues whose native symbols have no separator and no list at hand."""

_SYMBOL: Final = re.compile(r"^[^\s\-_/]{1,24}-[^\s\-_/]{1,12}(-PERP)?$")


def symbol_of(base: str, quote: str, *, perpetual: bool = False) -> str:
    """Return our symbol for two currency codes as a venue writes them."""
    base, quote = base.upper(), quote.upper()
    name = f"{ALIASES.get(base, base)}-{ALIASES.get(quote, quote)}"
    return f"{name}-PERP" if perpetual else name


def split_native(native: str) -> tuple[str, str] | None:
    """Split a native symbol without separator, `BTCUSDT`, into base and quote; None if no quote currency ends it."""
    text = native.upper()
    for quote in sorted(QUOTES, key=len, reverse=True):
        if text.endswith(quote) and len(text) > len(quote):
            return text[: -len(quote)], quote
    return None


def check_symbol(text: str) -> str:
    """Return `text` upper-cased if it is a symbol of ours.

    Raises:
        ValueError: It is not of the form `BASE-QUOTE`.
    """
    name = text.strip().upper()
    if not _SYMBOL.match(name):
        message = f"{text!r} is not a symbol of the form BASE-QUOTE"
        raise ValueError(message)
    return name


def key_group(symbol: str, groups: int = KEY_GROUPS) -> int:
    """Return the key group of a symbol, `crc32(symbol) % groups`, the same in every process."""
    return zlib.crc32(symbol.encode()) % groups


class SymbolTable:
    """Symbols and their codes, fixed at the start of a run: code = place in sorted order.

    Attributes:
        names: All symbols, sorted; `names[code]`.
        codes: symbol -> code.
        groups: n int64, the key group of each code.
    """

    def __init__(self, names: Iterable[str], groups: int = KEY_GROUPS) -> None:
        self.names: tuple[str, ...] = tuple(sorted(set(names)))
        self.codes: dict[str, int] = {name: code for code, name in enumerate(self.names)}
        self.groups: I64 = np.array([key_group(name, groups) for name in self.names], np.int64)

    def __len__(self) -> int:
        return len(self.names)

    def of_group(self, group: int) -> I64:
        """Return the codes of a key group, ascending int64."""
        return np.flatnonzero(self.groups == group)
