"""Which faults come when in a soak: drawn from a seed, for all venues, heavier than any real day.

Beside the simulator's own random faults come what a day would bring once: forced closes with and without a long notice,
and expired tokens. A fault of the door (refused or erroneous connections) is followed by a lost link, since an open
link does not notice it.
"""

from __future__ import annotations

import random
from collections.abc import Iterator, Mapping
from heapq import merge
from itertools import tee
from typing import Any, Final

from connectors.venues import VENUES
from simulator.faults.schedule import Entry, random_orders, read_order

KILL_S: Final = 240.0
"""Mean time between kills of a process."""
FORCED_S: Final = 60.0
"""Mean time between forced closes, of which a venue makes one a day; and between ends of all KuCoin tokens."""
NOTICES_MS: Final = (1_000, 20_000)
"""How long before a forced close a venue announces it, where it does: too short for a handover, and long enough."""
DOOR: Final = frozenset({"refuse", "http_error"})
KNOCK_S: Final = 0.2
"""How long after a fault of the door a link is lost."""


def draw(seed: int, per_minute: float, symbols: Mapping[str, list[str]]) -> Iterator[Entry]:
    """Yield faults without end, in the order of time.

    An `id_gap` is drawn only where trades are numbered without a break: elsewhere nothing in the stream shows it.

    Args:
        seed: The same seed, rate and symbols give the same faults.
        per_minute: How many random ones on average; the forced ones come on top.
        symbols: Venue -> the symbols it lists.
    """
    rng = random.Random(f"{seed}-soak")
    random_ones, again = tee(_provable(random_orders(seed, per_minute, symbols)))
    schedules = [random_ones, _knocks(again), _forced(rng, "close", tuple(symbols))]
    if "kucoin" in symbols:
        schedules.append(_forced(rng, "token_expiry", ("kucoin",)))
    return merge(*schedules, key=lambda entry: entry[0])


def _provable(entries: Iterator[Entry]) -> Iterator[Entry]:
    return (entry for entry in entries if entry[1].fault != "id_gap" or VENUES[entry[1].venue].REFILL.numbered)


def _knocks(entries: Iterator[Entry]) -> Iterator[Entry]:
    for at_s, order in entries:
        if order.fault in DOOR:
            yield at_s + KNOCK_S, read_order({"fault": "drop", "venue": order.venue})


def _forced(rng: random.Random, fault: str, venues: tuple[str, ...]) -> Iterator[Entry]:
    at_s = 0.0
    while True:
        at_s += rng.uniform(0.5, 1.5) * FORCED_S
        fields: dict[str, Any] = {"fault": fault, "venue": rng.choice(venues)}
        if fault == "close":
            fields["notice_ms"] = rng.choice(NOTICES_MS)
        yield at_s, read_order(fields)


def kills(seed: int, until_s: float) -> list[tuple[float, str]]:
    """Return when the collector or the flow is killed, in turn; none in the last half, which is for memory's slope."""
    rng = random.Random(f"{seed}-kills")
    count = max(2, round(until_s / 2 / KILL_S))
    times = sorted(rng.uniform(0.0, until_s / 2) for _ in range(count))
    return [(at_s, ("kill_collector", "kill_flow")[place % 2]) for place, at_s in enumerate(times)]
