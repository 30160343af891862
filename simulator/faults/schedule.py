"""When faults come by themselves: orders read from JSON or a file, or drawn from a seed. No clock here."""

from __future__ import annotations

import random
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, Final

import msgspec

from market.venues import VENUES
from simulator.faults import CATALOGUE
from simulator.faults.order import ALL, MOST_S, Choice, Number, Order, OrderError

MOST_ENTRIES: Final = 10_000
"""Lines a timeline may have."""
Entry = tuple[float, Order]
"""Seconds after the start, and what is ordered then."""
_NOT_RANDOM: Final = frozenset({"listed"})
"""What is no fault by itself."""
_DURATION: Final = Number(1.0, 0.0, MOST_S)


def read_order(fields: object, default_venue: str = "") -> Order:
    """Return an order from its JSON object, its parameters complete.

    Raises:
        OrderError: If a name or a value is not allowed.
    """
    if not isinstance(fields, dict):
        message = f"{fields!r}: an order is an object with fault, venue, symbol, for_s"
        raise OrderError(message)
    rest: dict[str, Any] = dict(fields)
    name, venue = rest.pop("fault", None), rest.pop("venue", default_venue)
    symbol, for_s = rest.pop("symbol", ""), rest.pop("for_s", None)
    kind = Choice(tuple(CATALOGUE)).check("fault", name)
    fault = CATALOGUE[kind]
    Choice((*(known for known in VENUES if known in fault.VENUES), ALL)).check("venue", venue)
    if not isinstance(symbol, str) or (fault.SYMBOL != "may" and bool(symbol) != (fault.SYMBOL == "must")):
        message = f"symbol={symbol!r}: {name} {'needs a' if fault.SYMBOL == 'must' else 'takes no'} symbol"
        raise OrderError(message)
    if for_s is not None and fault.LASTS_S is None:
        message = f"for_s={for_s!r}: {name} is over at once"
        raise OrderError(message)
    unknown = rest.keys() - fault.PARAMS.keys()
    if unknown:
        message = f"{min(unknown)}: {name} has {', '.join(fault.PARAMS) or 'no parameters'}"
        raise OrderError(message)
    lasts_s = fault.LASTS_S if for_s is None else _DURATION.check("for_s", for_s)
    params = {key: param.check(key, rest.get(key, param.default)) for key, param in fault.PARAMS.items()}
    return Order(kind, venue, symbol, lasts_s, params)


def read_timeline(path: Path) -> list[Entry]:
    """Return a file of JSON lines `{"at_s": 12.5, "fault": ...}` in the order of time.

    Raises:
        OrderError: If a line is not allowed; it names the line.
    """
    entries = []
    lines = [line for line in enumerate(path.read_text().splitlines(), 1) if line[1].strip()]
    for number, line in lines[: MOST_ENTRIES + 1]:
        try:
            fields = msgspec.json.decode(line)
            at_s = fields.pop("at_s", None) if isinstance(fields, dict) else None
            entries.append((float(Number(0, 0, 1e9).check("at_s", at_s)), read_order(fields)))
        except (msgspec.DecodeError, OrderError) as error:
            message = f"{path}:{number}: {error}"
            raise OrderError(message) from None
    if len(entries) > MOST_ENTRIES:
        message = f"{path}: more than {MOST_ENTRIES} lines"
        raise OrderError(message)
    return sorted(entries, key=lambda entry: entry[0])


def random_orders(seed: int, per_minute: float, symbols: Mapping[str, list[str]]) -> Iterator[Entry]:
    """Yield faults without end, at random times, venues and symbols, each with half to twice its usual duration.

    Args:
        seed: The same seed, rate and symbols give the same faults.
        per_minute: How many on average.
        symbols: Venue -> the symbols it lists.
    """
    rng, at_s, venues = random.Random(seed), 0.0, list(symbols)
    kinds = [name for name, fault in CATALOGUE.items() if name not in _NOT_RANDOM and set(fault.VENUES) & set(venues)]
    while True:
        at_s += rng.expovariate(per_minute / 60.0)
        name = rng.choice(kinds)
        fault = CATALOGUE[name]
        venue = rng.choice([known for known in venues if known in fault.VENUES])
        fields: dict[str, Any] = {"fault": name, "venue": venue}
        if fault.SYMBOL == "must" or (fault.SYMBOL == "may" and rng.random() < 0.5):
            fields["symbol"] = rng.choice(symbols[venue])
        if fault.LASTS_S is not None:
            fields["for_s"] = round(fault.LASTS_S * rng.uniform(0.5, 2.0), 3)
        fields |= {key: rng.choice(param.values) for key, param in fault.PARAMS.items() if isinstance(param, Choice)}
        yield round(at_s, 3), read_order(fields)
