"""Reading the REST lists of venues: pairs and 24 h statistics."""

from __future__ import annotations

from collections.abc import Iterable
from math import isfinite
from typing import TypeVar

import msgspec

from connectors.rows import UNREADABLE
from connectors.venue import Instrument, paired_symbol

L = TypeVar("L")


def read_list(decoder: msgspec.json.Decoder[L], body: bytes, venue: str, what: str) -> L:
    """Return the body as what the venue documents.

    Raises:
        ValueError: It is something else; names venue, list and the difference.
    """
    try:
        return decoder.decode(body)
    except UNREADABLE as error:
        message = f"{venue}: the {what} is not what the venue documents: {error}"
        raise ValueError(message) from error


def check_code(code: object, good: object, text: str, venue: str, what: str) -> None:
    """Raise ValueError unless the venue's result code is the good one."""
    if code != good:
        message = f"{venue}: the {what} was refused with code {code!r}: {text[:200]!r}"
        raise ValueError(message)


def instruments(rows: Iterable[tuple[str, str, str, bool]]) -> list[Instrument]:
    """Return instruments for rows of native symbol, base, quote and whether it trades.

    Pairs whose currencies do not make a symbol of ours (separators in a name) are left out.
    """
    named = ((paired_symbol(base, quote), native, trading) for native, base, quote, trading in rows)
    return [Instrument(symbol, native, trading) for symbol, native, trading in named if symbol is not None]


def turnovers(rows: Iterable[tuple[str, float | str | None]]) -> dict[str, float]:
    """Return native symbol -> turnover; what is empty, or no number, counts 0."""
    return {native: _turnover(value) for native, value in rows}


def _turnover(value: float | str | None) -> float:
    try:
        turnover = float(value or 0.0)
    except ValueError:
        return 0.0
    return turnover if isfinite(turnover) else 0.0
