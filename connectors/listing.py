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


def turnovers(rows: Iterable[tuple[str, float | None]]) -> dict[str, float]:
    """Return native symbol -> turnover; those the venue leaves empty, or that are no number, count 0."""
    return {native: value if value is not None and isfinite(value) else 0.0 for native, value in rows}
