"""A wick in words: what the API answers and what the tuning command writes. No I/O, no state."""

from __future__ import annotations

from decimal import Decimal
from typing import Protocol


class Told(Protocol):
    """A wick with names for codes."""

    venue: str
    symbol: str
    price: float
    reference: float
    deviation_bps: float
    dispersion_bps: float
    basis_bps: float
    witnesses: int


def why(wick: Told, evidence: object) -> str:
    """Return in words why a trade was called a wick; `evidence` as in `market.records.Wick`."""
    where = "above" if wick.price > wick.reference else "below"
    others = "1 other live venue" if wick.witnesses == 1 else f"{wick.witnesses} other live venues"
    names = _doubters(evidence)
    return (
        f"{wick.venue} alone traded {wick.symbol} at {plain(wick.price)}, {abs(wick.deviation_bps):.1f} bps {where} "
        f"the {plain(wick.reference, 8)} where {others} had it{f' ({names})' if names else ''}: they did not follow, "
        f"and venues usually differ by {wick.dispersion_bps:.1f} bps, {wick.venue}'s own premium of "
        f"{wick.basis_bps:.1f} bps allowed for."
    )


def _doubters(evidence: object) -> str:
    votes = evidence.items() if isinstance(evidence, dict) else ()
    return ", ".join(name for name, vote in votes if isinstance(vote, dict) and vote.get("vote") == "did not follow")


def plain(number: float, digits: int = 15) -> str:
    """Return a price in at most `digits` significant digits, without exponent."""
    return f"{Decimal(f'{number:.{digits}g}'):f}"
