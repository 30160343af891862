"""Random ingredients of the markets: venues' links, instruments, moves and wicks, in the stated ranges.

Nothing here is fitted to the forge: ranges are the ones of the evaluation's specification, and where it leaves room,
what a sceptical reader would pick.
"""

from __future__ import annotations

from typing import Final

import numpy as np

from bench.forge_eval.plan import BPS, WALK_STEP_MS, Feed, Instrument, Listing, Move, Plan, Ramp, Spike
from market.schema import F64
from market.venues import VENUE_CODES, VENUES

WARM_MS: Final = 8_000.0
"""No wick and no move before: less than this has been seen of nothing."""
SCORED_DISPERSIONS: Final = 6.0
"""A wick is scored from so many dispersions on."""
WICK_SIZES: Final = (0.015, 0.12)
NATURAL_CUT: Final = 4.0
"""Ordinary trades end here, in dispersions: a lone print farther out is a wick by any measure."""

Rng = np.random.Generator


def log_uniform(rng: Rng, low: float, high: float) -> float:
    """Return a number between two positive ones, uniform in its logarithm."""
    return float(np.exp(rng.uniform(np.log(low), np.log(high))))


def sign(rng: Rng) -> int:
    """Return -1 or 1."""
    return int(rng.choice((-1, 1)))


def feeds(rng: Rng, *, skew_ms: float = 20.0, drift_ppm: float = 1.0) -> dict[int, Feed]:
    """Return links of all venues, 3 to 150 ms away, clocks off by at most the skew and drift given."""
    found = {}
    for venue in range(len(VENUES)):
        latency_ms = log_uniform(rng, 3, 150)
        found[venue] = Feed(
            latency_ms=latency_ms,
            jitter_ms=rng.uniform(0.5, 2.0) + rng.uniform(0.0, 0.08) * latency_ms,
            skew_ms=rng.uniform(-skew_ms, skew_ms),
            drift_ppm=rng.uniform(-drift_ppm, drift_ppm),
            quotes_stamped=venue != VENUE_CODES["binance"] and bool(rng.random() > 0.15),
        )
    return found


def walk(rng: Rng, seconds: float, volatility: float) -> F64:
    """Return a random walk of log price with `volatility` a root second, five times as much in two short bursts."""
    steps = int(seconds * 1000 / WALK_STEP_MS) + 100
    scale = np.full(steps, volatility * np.sqrt(WALK_STEP_MS / 1000))
    for start in rng.integers(0, steps, 2):
        scale[start : start + int(rng.uniform(1, 4) * 1000 / WALK_STEP_MS)] *= 5
    return np.asarray(np.cumsum(rng.normal(0.0, 1.0, steps) * scale))


def instrument(
    rng: Rng,
    seconds: float,
    *,
    major: bool,
    venues: tuple[int, int] = (3, 7),
    dispersion_bps: tuple[float, float] | None = None,
    rates: tuple[float, float] | None = None,
) -> Instrument:
    """Return a quiet instrument of its class; `venues` is the least and largest number that list it."""
    low, high = dispersion_bps or ((1, 3) if major else (20, 150))
    dispersion = log_uniform(rng, low, high) * BPS
    least, most = rates or ((20, 100) if major else (1, 20))
    listed = rng.choice(len(VENUES), int(rng.integers(venues[0], venues[1] + 1)), replace=False)
    leader = int(rng.choice(listed))
    listings = {
        int(venue): Listing(
            rate=most if venue == leader else log_uniform(rng, least, most),
            premium=float(np.clip(rng.normal(), -2, 2)) * dispersion,
            lag_ms=0.0 if venue == leader else rng.uniform(0, 60),
        )
        for venue in sorted(listed)
    }
    volatility = rng.uniform(0.3, 1.5) if major else rng.uniform(2, 8)
    return Instrument(
        major=major,
        log_price=rng.uniform(np.log(1e-5), np.log(1e5)),
        dispersion=dispersion,
        tick=dispersion * log_uniform(rng, 0.02, 1.0),
        degrees=float(rng.choice((4, 5, np.inf, np.inf))),
        cut=NATURAL_CUT,
        walk=walk(rng, seconds, volatility * BPS),
        listings=listings,
    )


def spike(rng: Rng, one: Instrument, start_ms: float, *, sizes: tuple[float, float] = WICK_SIZES) -> Spike:
    """Return a wick on one venue of an instrument; one in eight is too small to be scored, if the dispersion is wide.

    One in three is on the busiest venue. Its prints go 60 to 100 % of the way, the deepest anywhere among them.
    """
    listed = list(one.listings)
    busiest = max(listed, key=lambda venue: one.listings[venue].rate)
    venue = busiest if rng.random() < 1 / 3 else int(rng.choice(listed))
    floor = SCORED_DISPERSIONS * one.dispersion * 1.0001
    low, high = sizes[0], sizes[1] if floor < 0.9 * sizes[1] else 1.3 * floor
    scored = rng.random() > 1 / 8
    size = log_uniform(rng, max(low, floor), high) if scored else log_uniform(rng, low, high)
    prints = int(rng.integers(1, 13))
    shape = rng.uniform(0.6, 1.0, prints)
    shape[rng.integers(prints)] = 1.0
    quoted = bool(rng.random() < 0.5)
    return Spike(
        venues=(venue,),
        start_ms=start_ms,
        length_ms=log_uniform(rng, 1, 400),
        shape=shape,
        size=sign(rng) * size,
        quoted=quoted,
        alone=quoted or bool(rng.random() < 0.3),
    )


def moments(
    rng: Rng, seconds: float, gap_s: tuple[float, float] = (3.0, 6.0), before_end_s: float = 3.0
) -> list[float]:
    """Return times in ms, a random gap apart, after the warm-up and well before the end."""
    at, found = WARM_MS + rng.uniform(0, 1000), []
    while at < (seconds - before_end_s) * 1000:
        found.append(at)
        at += rng.uniform(*gap_s) * 1000
    return found


def add_spikes(rng: Rng, plan: Plan) -> Plan:
    """Put wicks on all instruments of a plan, some seconds apart."""
    for one in plan.instruments:
        one.spikes += [spike(rng, one, at) for at in moments(rng, plan.seconds)]
    return plan


def move(
    rng: Rng,
    one: Instrument,
    start_ms: float,
    *,
    sizes: tuple[float, float] = (0.03, 0.15),
    lengths_ms: tuple[float, float] = (30, 2000),
    delay_ms: float = 120.0,
) -> Move:
    """Return a market-wide move: every venue within `delay_ms` of the first, overshooting by up to 6 %."""
    delays = {venue: rng.uniform(0, delay_ms) for venue in one.listings}
    delays[int(rng.choice(list(delays)))] = 0.0
    return Move(
        Ramp(start_ms, log_uniform(rng, *lengths_ms), sign(rng) * float(-np.log1p(-rng.uniform(*sizes)))),
        delays,
        {venue: 1 + rng.uniform(-0.06, 0.06) for venue in one.listings},
        settle_ms=rng.uniform(300, 1500),
    )


def market(rng: Rng, symbols: int, seconds: float, *, links: dict[int, Feed] | None = None, **more: object) -> Plan:
    """Return a quiet market: majors and alts in turn; `more` goes to `instrument`."""
    instruments = [instrument(rng, seconds, major=number % 2 == 0, **more) for number in range(symbols)]  # type: ignore[arg-type]
    return Plan(seconds, links or feeds(rng), instruments)
