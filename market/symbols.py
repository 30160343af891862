"""Symbols are ours, `BASE-QUOTE`: names, aliases, codes and key groups.

A venue's own string is its *native symbol*; only the venue's module and the catalog know it.
"""

from __future__ import annotations

import re
import zlib
from collections import defaultdict, deque
from collections.abc import Iterable, Sequence
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
    """Symbols and their codes: who has which may change while a run goes on, how many codes there are may not.

    A run's first symbols have the codes 0..n-1, in sorted order. Spare codes follow, as many for each key group, for
    symbols that come later. A code that is free again waits until all others of its group have been used. Threads
    of a process share a table; who changes it has a lock of its own.

    Attributes:
        names: The owner of each code, "" without one.
        codes: symbol -> code.
        groups: n int64, the key group of each code, fixed.
        salts: n int64, a checksum of each owner's name: tells the owners of a code apart.
    """

    def __init__(self, names: Iterable[str], groups: int = KEY_GROUPS, *, spare: int = 0) -> None:
        """Give the names codes; `spare` more are kept free in each key group."""
        owners = sorted(set(names))
        of_owners = [key_group(name, groups) for name in owners]
        self._fill(owners + [""] * (spare * groups), of_owners + [*range(groups)] * spare)

    @classmethod
    def of(cls, names: Sequence[str], groups: Sequence[int]) -> SymbolTable:
        """Return a table as it was: the owner and the key group of each code.

        Raises:
            ValueError: A name is not of the group of its code, or has two.
        """
        wrong = [name for name, group in zip(names, groups, strict=True) if name and key_group(name) != group]
        owners = [name for name in names if name]
        if wrong or len(set(owners)) < len(owners):
            message = f"not a table of symbols: {', '.join(wrong) or 'a name has two codes'}"
            raise ValueError(message)
        table = cls(())
        table._fill(list(names), list(groups))
        return table

    def _fill(self, names: list[str], groups: list[int]) -> None:
        self.names = names
        self.codes = {name: code for code, name in enumerate(names) if name}
        self.groups: I64 = np.array(groups, np.int64)
        self.salts: I64 = np.array([zlib.crc32(name.encode()) for name in names], np.int64)
        self._free: defaultdict[int, deque[int]] = defaultdict(deque)
        for code, (name, group) in enumerate(zip(names, groups, strict=True)):
            if not name:
                self._free[group].append(code)

    def __len__(self) -> int:
        """Return how many codes there are, free ones too."""
        return len(self.names)

    def of_group(self, group: int) -> I64:
        """Return the codes of a key group, ascending int64, free ones too."""
        return np.flatnonzero(self.groups == group)

    def has_room(self, name: str) -> bool:
        """Return whether a symbol would get a code."""
        return bool(self._free[key_group(name)])

    def take(self, name: str) -> int:
        """Give a symbol that has none a code of its key group, the one that has been free for longest.

        Raises:
            ValueError: It has a code, or its group has none left.
        """
        if name in self.codes or not self.has_room(name):
            message = f"{name}: {'has a code' if name in self.codes else 'no code is free in its key group'}"
            raise ValueError(message)
        code = self._free[key_group(name)].popleft()
        self._own(code, name)
        self.codes[name] = code
        return code

    def free(self, code: int) -> None:
        """Take a code back from its owner, once nothing is left of what was known under it."""
        del self.codes[self.names[code]]
        self._own(code, "")
        self._free[int(self.groups[code])].append(code)

    def _own(self, code: int, name: str) -> None:
        self.names[code] = name
        self.salts[code] = zlib.crc32(name.encode())
