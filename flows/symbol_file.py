"""Which code each symbol of a run has, kept beside the recovery store, so that a resumed run finds its state again.

State is kept by code. A run that goes on with other symbols must give the old ones the codes they had; one that cannot
is refused, in one line.
"""

from __future__ import annotations

import argparse
import math
import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Final

import msgspec

from connectors.universe import UniverseError
from market.symbols import SymbolTable

FILE: Final = "symbols.json"
NAMED_SYMBOLS: Final = 5
"""Most symbols that a message names."""


class Kept(msgspec.Struct, frozen=True):
    """A symbol table as it was."""

    names: list[str] = []
    groups: list[int] = []
    leaving: list[int] = []
    """Codes whose owners were being let go."""

    @property
    def symbols(self) -> list[str]:
        """The symbols that have a code."""
        return [name for name in self.names if name]


class SymbolFile:
    """The symbols in a recovery directory; without one, or before its first run, nothing is kept."""

    def __init__(self, directory: Path | None) -> None:
        """Read what is there.

        Raises:
            UniverseError: It is not readable.
        """
        self._path = None if directory is None else directory / FILE
        self.kept = Kept()
        if self._path is not None and self._path.exists():
            try:
                self.kept = msgspec.json.decode(self._path.read_bytes(), type=Kept)
                SymbolTable.of(self.kept.names, self.kept.groups)
            except ValueError as error:
                text = f"{self._path} is not readable: {error}"
                raise UniverseError(text) from None

    def fixed(self, symbols: Sequence[str]) -> SymbolTable:
        """Return the table of a run whose symbols stay as they are.

        Raises:
            UniverseError: The state that is kept is of other symbols.
        """
        kept = self.kept.symbols
        if kept and set(kept) != set(symbols):
            self._refuse(kept, symbols)
        table = SymbolTable.of(self.kept.names, self.kept.groups) if kept else SymbolTable(symbols)
        self.write(table, [])
        return table

    def changing(self, symbols: Sequence[str], top: int) -> SymbolTable:
        """Return the table of a `top:N` run: the symbols kept, and these, as far as there is room in their key groups.

        Raises:
            UniverseError: The state that is kept is of far fewer symbols.
        """
        if not self.kept.names:
            return SymbolTable(symbols, spare=spare_codes(top))
        table = SymbolTable.of(self.kept.names, self.kept.groups)
        if len(symbols) > len(table):
            self._refuse(self.kept.symbols, symbols)
        for symbol in symbols:
            if symbol not in table.codes and table.has_room(symbol):
                table.take(symbol)
        return table

    def write(self, table: SymbolTable, leaving: list[int]) -> None:
        """Keep a table, whole or not at all. A directory that does not exist is Bytewax's to complain about."""
        if self._path is None or not self._path.parent.is_dir():
            return
        fresh = self._path.with_suffix(f".{os.getpid()}.tmp")  # the processes of a cluster may share the folder
        fresh.write_bytes(msgspec.json.encode(Kept(table.names, table.groups.tolist(), leaving)))
        fresh.replace(self._path)

    def _refuse(self, kept: Sequence[str], wanted: Sequence[str]) -> None:
        assert self._path is not None
        text = (
            f"MIE_SYMBOLS: the state in {self._path.parent} is of {_some(kept)}, not of {_some(wanted)}:"
            " go on with those, or begin with an empty recovery directory"
        )
        raise UniverseError(text)


def spare_codes(top: int) -> int:
    """Return how many codes a `top:N` run keeps free in each key group: in all at least half of N, 32 or more."""
    return max(4, math.ceil(top / 16))


def recovery_dir(arguments: Sequence[str], environment: Mapping[str, str]) -> Path | None:
    """Return where Bytewax is told to keep state: by its option `-r`, or its variable."""
    parser = argparse.ArgumentParser(add_help=False, exit_on_error=False)
    parser.add_argument("-r", "--recovery-directory", default=environment.get("BYTEWAX_RECOVERY_DIRECTORY"))
    found = parser.parse_known_args(arguments[1:])[0].recovery_directory
    return Path(found) if found else None


def _some(symbols: Sequence[str]) -> str:
    names = sorted(symbols)
    if len(names) <= NAMED_SYMBOLS:
        return ", ".join(names)
    return f"{', '.join(names[:NAMED_SYMBOLS])} and {len(names) - NAMED_SYMBOLS} more"
