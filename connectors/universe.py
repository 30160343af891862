"""Which symbols a run is about, and what each venue calls them: from the venues' REST lists.

A venue whose list cannot be had takes part with the last list cached on disk; without one it is left out with a
warning.
"""

from __future__ import annotations

import logging
import os
import ssl as tls
from collections import Counter, defaultdict
from collections.abc import Collection, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

import msgspec

from connectors import rest
from connectors.pipe import Endpoint
from connectors.route import rebase
from connectors.venue import Instrument
from connectors.venues import VENUES

VENUES_NEEDED: Final = 2
"""`top:N` counts only symbols that at least this many venues list: one venue alone cannot be validated."""
DEFAULT_TOP: Final = 50
DOLLARS: Final = frozenset({"USD", "USDT", "USDC", "FDUSD", "TUSD", "USDE", "DAI", "USD1"})
"""Quote currencies whose turnover is added up one to one; pairs in others rank after all of these."""

log = logging.getLogger("mie.universe")


class UniverseError(ValueError):
    """No symbols to run on. Its text is one line for the user."""


@dataclass(frozen=True, slots=True)
class Universe:
    """The symbols of a run and their native names.

    Attributes:
        symbols: Sorted names.
        natives: venue -> symbol -> native symbol.
        turnover: venue -> symbol -> 24 h turnover in the quote currency.
    """

    symbols: tuple[str, ...]
    natives: dict[str, dict[str, str]]
    turnover: dict[str, dict[str, float]] = field(default_factory=dict)


class _Listed(msgspec.Struct):
    symbol: str
    native: str
    quote_volume: float


def find(
    venues: tuple[str, ...],
    wanted: str | None,
    endpoints: dict[str, Endpoint],
    cache_dir: Path,
    context: tls.SSLContext | None = None,
    kept: Collection[str] = (),
) -> Universe:
    """Return the universe of a run.

    Args:
        venues: Venue names.
        wanted: `top:N`, a comma list of symbols, or None for `top:50`.
        endpoints: Replacements for the venues' own hosts.
        cache_dir: Where lists are kept for a start without REST.
        context: TLS settings for private authorities.
        kept: Symbols of an earlier run whose native names are wanted too, where they are listed.

    Raises:
        UniverseError: No venue lists anything wanted, or a symbol is listed nowhere.
    """
    with ThreadPoolExecutor(len(venues)) as pool:
        lists = pool.map(lambda name: _listed(name, endpoints.get(name), cache_dir, context), venues)
        listed = {name: found for name, found in zip(venues, lists, strict=True) if found}
    if not listed:
        text = f"no list of instruments from any of {', '.join(venues)}, and none in {cache_dir}"
        raise UniverseError(text)
    symbols = choose(listed, wanted or f"top:{DEFAULT_TOP}")
    named = symbols.union(kept)
    wanted_of = {name: [pair for pair in found if pair.symbol in named] for name, found in listed.items()}
    natives = {name: {pair.symbol: pair.native for pair in found} for name, found in wanted_of.items()}
    turnover = {name: {pair.symbol: pair.quote_volume for pair in found} for name, found in wanted_of.items()}
    return Universe(tuple(sorted(symbols)), natives, turnover)


def pairs(name: str, endpoint: Endpoint | None, context: tls.SSLContext | None) -> list[Instrument]:
    """Return what a venue lists now, trading or not. Blocking.

    Raises:
        RestError: No list.
        ValueError: It is not what the venue documents.
    """
    venue = VENUES[name]
    url = rebase(venue.REST_URL, endpoint.rest if endpoint else None, venue.instruments_path())
    return venue.instruments(rest.call(url, context=context))


def turnovers(
    name: str, listed: Sequence[Instrument], endpoint: Endpoint | None, context: tls.SSLContext | None
) -> dict[str, float]:
    """Return symbol -> 24 h turnover now of what a venue lists; of two pairs for one symbol the larger. Blocking.

    Raises:
        RestError: No statistics.
        ValueError: They are not what the venue documents.
    """
    venue = VENUES[name]
    url = rebase(venue.REST_URL, endpoint.rest if endpoint else None, venue.volumes_path())
    volumes = venue.volumes(rest.call(url, context=context))
    found: dict[str, float] = {}
    for pair in listed:
        found[pair.symbol] = max(found.get(pair.symbol, 0.0), _volume(pair, volumes))
    return found


def natives_now(listed: Sequence[Instrument], before: Mapping[str, str]) -> dict[str, str]:
    """Return symbol -> native symbol; of two pairs for one symbol that of `before`, if it is one of them."""
    found: dict[str, str] = {}
    for pair in listed:
        if pair.symbol not in found or before.get(pair.symbol) == pair.native:
            found[pair.symbol] = pair.native
    return found


def top_of(wanted: str | None) -> int | None:
    """Return N of `top:N`, which is the default; None for a list of symbols."""
    wanted = wanted or f"top:{DEFAULT_TOP}"
    return int(wanted.removeprefix("top:")) if wanted.startswith("top:") else None


def ranked(listed: Mapping[str, Mapping[str, float]]) -> list[str]:
    """Return the symbols that two venues list, or the only venue there is, by their turnover in dollars, most first.

    Args:
        listed: venue -> symbol -> turnover in the quote currency.
    """
    volume: defaultdict[str, float] = defaultdict(float)
    count: Counter[str] = Counter()
    for found in listed.values():
        count.update(found.keys())
        for symbol, turnover in found.items():
            volume[symbol] += turnover if symbol.split("-")[1] in DOLLARS else 0.0
    needed = min(VENUES_NEEDED, len(listed))
    shared = [symbol for symbol in volume if count[symbol] >= needed]
    return sorted(shared, key=lambda symbol: (-volume[symbol], symbol))


def choose(listed: dict[str, list[_Listed]], wanted: str) -> set[str]:
    """Return the wanted symbols among those listed; raises UniverseError where one is listed nowhere."""
    top = top_of(wanted)
    turnover = {name: {pair.symbol: pair.quote_volume for pair in found} for name, found in listed.items()}
    if top is not None:
        best = ranked(turnover)[:top]
        if not best:
            text = f"no symbol is listed by {VENUES_NEEDED} of {', '.join(listed)}"
            raise UniverseError(text)
        return set(best)
    symbols = set(wanted.split(","))
    unknown = sorted(symbols - set().union(*turnover.values()))
    if unknown:
        text = f"MIE_SYMBOLS: {', '.join(unknown)} listed by none of {', '.join(listed)}"
        raise UniverseError(text)
    return symbols


def _listed(name: str, endpoint: Endpoint | None, cache_dir: Path, context: tls.SSLContext | None) -> list[_Listed]:
    """Return a venue's trading pairs with their turnover, fresh or cached; empty if neither can be had."""
    venue = VENUES[name]
    base = endpoint.rest if endpoint else None
    cache = cache_dir / f"{name}.json"
    try:
        pairs = venue.instruments(rest.call(rebase(venue.REST_URL, base, venue.instruments_path()), context=context))
        volumes = venue.volumes(rest.call(rebase(venue.REST_URL, base, venue.volumes_path()), context=context))
    except (rest.RestError, ValueError) as error:
        log.warning("%s: no list of instruments (%s); %s", name, error, _cache_words(cache))
        return _cached(cache)
    found = _one_a_symbol([_Listed(p.symbol, p.native, _volume(p, volumes)) for p in pairs if p.trading])
    cache_dir.mkdir(parents=True, exist_ok=True)
    fresh = cache.with_suffix(f".{os.getpid()}.tmp")  # the processes of a cluster share the folder
    fresh.write_bytes(msgspec.json.encode(found))
    fresh.replace(cache)
    return found


def _one_a_symbol(found: list[_Listed]) -> list[_Listed]:
    """Return the most traded pair of each symbol: two codes of a venue can mean one currency of ours."""
    return list({pair.symbol: pair for pair in sorted(found, key=lambda p: (p.quote_volume, p.native))}.values())


def _cached(cache: Path) -> list[_Listed]:
    try:
        return msgspec.json.decode(cache.read_bytes(), type=list[_Listed]) if cache.exists() else []
    except msgspec.MsgspecError as error:
        log.warning("%s is not readable: %s", cache, error)
        return []


def _volume(pair: Instrument, volumes: dict[str, float]) -> float:
    return volumes.get(pair.native, pair.quote_volume)


def _cache_words(cache: Path) -> str:
    return f"using the cached list {cache}" if cache.exists() else "left out"
