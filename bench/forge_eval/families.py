"""The families of markets, by name: what each adds to a quiet market, and what is promised of it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Final

import numpy as np

from bench.forge_eval.draw import (
    Rng,
    add_spikes,
    feeds,
    instrument,
    log_uniform,
    market,
    moments,
    move,
    sign,
    spike,
)
from bench.forge_eval.plan import Fault, Instrument, Move, Plan, Ramp

SECONDS: Final = 30.0
WINDOW_MS: Final = 150.0
REGIME_STATED_MS: Final = 10_000.0
"""After so long a new level of one venue must be accepted; before, either verdict is right."""
IMPOSSIBLE: Final = ((0.0, 1.0), (-1.0, 1.0), (np.nan, 1.0), (1.0, 0.0), (1e12, 1.0))
"""Factors of price and size; 1e12 is the price itself, the one that no decoder can know to be wrong."""


@dataclass(frozen=True, slots=True)
class Family:
    """One kind of market.

    Attributes:
        build: Draws a plan with some number of symbols.
        wicks: Whether it contains wicks, and so counts in recall and precision.
        exact: Whether not one genuine trade may be suppressed.
        pooled: Whether it counts in the pooled figures at all.
        symbols: How many at scale 1.
    """

    build: Callable[[Rng, int], Plan]
    wicks: bool = False
    exact: bool = False
    pooled: bool = True
    symbols: int = 16


def calm(rng: Rng, symbols: int) -> Plan:
    """Nothing happens but bursts of volatility."""
    return market(rng, symbols, SECONDS, venues=(2, 7))


def wicks(rng: Rng, symbols: int) -> Plan:
    """Wicks of 1.5 to 12 % on one venue; in one symbol of three while the market makes small moves of its own."""
    plan = add_spikes(rng, market(rng, symbols, SECONDS))
    for one in plan.instruments[::3]:
        for wick in one.spikes[::2]:
            size = sign(rng) * rng.uniform(0.003, 0.01)
            start = wick.start_ms - rng.uniform(0, 800)
            one.moves.append(Move(Ramp(start, log_uniform(rng, 500, 3000), size), {}))
    return plan


def crash(rng: Rng, symbols: int) -> Plan:
    """Crashes and rallies of 3 to 15 % in 30 ms to 2 s, every venue in its own time."""
    plan = market(rng, symbols, SECONDS)
    return _with_moves(rng, plan)


def lead(rng: Rng, symbols: int) -> Plan:
    """One venue moves 1.5 to 8 % first, the others up to 140 ms later."""
    plan = market(rng, symbols, SECONDS, venues=(2, 7))
    for one in plan.instruments:
        for at in moments(rng, SECONDS, (6, 12)):
            made = move(rng, one, at, sizes=(0.015, 0.08), lengths_ms=(1, 400))
            made.delay_ms = dict.fromkeys(one.listings, 140.0 if rng.random() < 0.5 else rng.uniform(40, 140))
            made.delay_ms[int(rng.choice(list(one.listings)))] = 0.0
            one.moves.append(made)
    return plan


def two_venues(rng: Rng, symbols: int) -> Plan:
    """Wicks where only two venues list the symbol."""
    return add_spikes(rng, market(rng, symbols, SECONDS, venues=(2, 2)))


def two_venue_crash(rng: Rng, symbols: int) -> Plan:
    """Crashes where only two venues list the symbol."""
    return _with_moves(rng, market(rng, symbols, SECONDS, venues=(2, 2)))


def stale(rng: Rng, symbols: int) -> Plan:
    """Venues are muted, disconnected or send old quotes while the rest moves, or one of the rest has a wick."""
    plan = market(rng, symbols, SECONDS, venues=(2, 6))
    for number, one in enumerate(plan.instruments):
        for at in moments(rng, SECONDS, (10, 14), before_end_s=9):
            listed = [int(venue) for venue in rng.permutation(list(one.listings))]
            for venue in listed[: int(rng.integers(1, len(listed)))]:
                _kill(rng, plan, one, venue, (at, at + rng.uniform(4000, 7000)))
            when = at + (rng.uniform(100, 1000) if rng.random() < 0.4 else rng.uniform(1000, 3000))
            if number % 4 < 2:
                one.moves.append(move(rng, one, when, sizes=(0.015, 0.10), lengths_ms=(10, 2000)))
            else:
                wick = spike(rng, one, when)
                wick.venues = (listed[-1],)
                one.spikes.append(wick)
    return plan


def _kill(rng: Rng, plan: Plan, one: Instrument, venue: int, span: tuple[float, float]) -> None:
    """Mute a listing, disconnect it, or let it send old quotes, where a stamp shows that they are old."""
    listing = one.listings[venue]
    if plan.feeds[venue].quotes_stamped and rng.random() < 1 / 3:
        listing.frozen.append(span)
    else:
        listing.mutes.append(span)
        listing.replays |= bool(rng.random() < 0.5)


def premium(rng: Rng, symbols: int) -> Plan:
    """One venue's premium drifts by up to 3.5 % in one to two minutes, with wicks on top."""
    seconds = 130.0
    plan = market(rng, symbols, seconds, venues=(3, 6), rates=(2, 30))
    for one in plan.instruments:
        venue = int(rng.choice(list(one.listings)))
        size = sign(rng) * rng.uniform(0.02, 0.035)
        one.listings[venue].own.append(Ramp(8000, rng.uniform(60, 120) * 1000, size))
        one.spikes += [spike(rng, one, at) for at in moments(rng, seconds, (15, 25))]
    return plan


def wide_alt(rng: Rng, symbols: int) -> Plan:
    """Alts that are naturally 1.5 to 4 % wide, sparse, with wicks beyond six of that."""
    plan = market(rng, 0, SECONDS)
    for _ in range(symbols):
        one = instrument(rng, SECONDS, major=False, dispersion_bps=(150, 400), rates=(1, 8), venues=(2, 7))
        one.spikes = [spike(rng, one, at) for at in moments(rng, SECONDS)]
        plan.instruments.append(one)
    return plan


def halt(rng: Rng, symbols: int) -> Plan:
    """One venue halts for 3 to 15 s and resumes where the others have gone."""
    plan = market(rng, symbols, SECONDS, venues=(2, 7))
    for one in plan.instruments:
        venue, start = int(rng.choice(list(one.listings))), rng.uniform(8000, 16000)
        length = rng.uniform(3000, 15000)
        one.listings[venue].mutes.append((start, start + length))
        one.moves.append(move(rng, one, start + rng.uniform(0.1, 0.8) * length, lengths_ms=(200, 8000)))
    return plan


def clocks(rng: Rng, symbols: int) -> Plan:
    """Venue clocks up to 2 s and 50 ppm off; wicks in half of the symbols, crashes in the others."""
    plan = market(rng, symbols, SECONDS, links=feeds(rng, skew_ms=2000, drift_ppm=50))
    return _half_and_half(rng, plan)


def stalls(rng: Rng, symbols: int) -> Plan:
    """Links stall for 300 to 900 ms, then deliver all at once; wicks."""
    return add_spikes(rng, _with_stalls(rng, market(rng, symbols, SECONDS)))


def stall_crash(rng: Rng, symbols: int) -> Plan:
    """The same links, crashes."""
    return _with_moves(rng, _with_stalls(rng, market(rng, symbols, SECONDS, venues=(2, 7))))


def wick_pairs(rng: Rng, symbols: int) -> Plan:
    """Two venues have the same wick at the same time; three to five others do not."""
    plan = add_spikes(rng, market(rng, symbols, SECONDS, venues=(5, 7)))
    for one in plan.instruments:
        for wick in one.spikes:
            other = int(rng.choice([venue for venue in one.listings if venue not in wick.venues]))
            wick.venues = (*wick.venues, other)
    return plan


def regime(rng: Rng, symbols: int) -> Plan:
    """One venue moves to a level of its own, 2 to 5 % away, and stays there with its quotes."""
    plan = market(rng, symbols, SECONDS, venues=(2, 7))
    for one in plan.instruments:
        listing, at = one.listings[int(rng.choice(list(one.listings)))], rng.uniform(8000, 15000)
        listing.own.append(Ramp(at, log_uniform(rng, 1, 500), sign(rng) * rng.uniform(0.02, 0.05)))
        listing.unsettled.append((at, at + REGIME_STATED_MS))
    return plan


def late_followers(rng: Rng, symbols: int) -> Plan:
    """The others follow one venue, but only after its window: its trades are re-admitted."""
    plan = market(rng, symbols, SECONDS, venues=(2, 7))
    for one in plan.instruments:
        for at in moments(rng, SECONDS, (6, 10)):
            made = move(rng, one, at, sizes=(0.015, 0.08), lengths_ms=(1, 100))
            behind = rng.uniform(WINDOW_MS + 20, 800)
            made.delay_ms = {venue: behind + rng.uniform(0, 200) for venue in one.listings}
            made.delay_ms[int(rng.choice(list(one.listings)))] = 0.0
            one.moves.append(made)
    return plan


def sweep(rng: Rng, symbols: int) -> Plan:
    """Ten to thirty small prints step 5 % away within 50 ms, on one venue, which is back at once or some time later."""
    plan = market(rng, symbols, SECONDS, dispersion_bps=(1, 60))
    for one in plan.instruments:
        for at in moments(rng, SECONDS):
            wick = spike(rng, one, at, sizes=(0.0499, 0.0501))
            wick.shape, wick.length_ms = np.linspace(0.1, 1.0, int(rng.integers(10, 31))), 50.0
            one.spikes.append(wick)
    return plan


def impossible(rng: Rng, symbols: int) -> Plan:
    """Prices of zero, below zero, NaN and 1e12, and sizes of zero, among ordinary trades."""
    plan = market(rng, symbols, SECONDS)
    for one in plan.instruments:
        for at in moments(rng, SECONDS):
            price, size = IMPOSSIBLE[int(rng.integers(len(IMPOSSIBLE)))]
            one.faults.append(Fault(int(rng.choice(list(one.listings))), at, price, size))
    return plan


def heavy_tails(rng: Rng, symbols: int) -> Plan:
    """Trades of Student's t with 4 degrees, not cut anywhere: beyond four dispersions nobody can tell."""
    plan = market(rng, symbols, SECONDS)
    for one in plan.instruments:
        one.degrees, one.cut = 4.0, np.inf
    return plan


def _with_moves(rng: Rng, plan: Plan) -> Plan:
    for one in plan.instruments:
        one.moves += [move(rng, one, at) for at in moments(rng, plan.seconds, (6, 12))]
    return plan


def _half_and_half(rng: Rng, plan: Plan) -> Plan:
    for number, one in enumerate(plan.instruments):
        if number % 4 < 2:
            one.spikes += [spike(rng, one, at) for at in moments(rng, plan.seconds)]
        else:
            one.moves += [move(rng, one, at) for at in moments(rng, plan.seconds, (6, 12))]
    return plan


def _with_stalls(rng: Rng, plan: Plan) -> Plan:
    for feed in plan.feeds.values():
        at = rng.uniform(3000, 9000)
        while at < plan.seconds * 1000 - 2000:
            feed.stalls.append((at, at + rng.uniform(300, 900)))
            at += rng.uniform(2500, 8000)
    return plan


FAMILIES: Final = {
    "calm": Family(calm, exact=True),
    "wicks": Family(wicks, wicks=True),
    "crash": Family(crash, exact=True),
    "lead": Family(lead, exact=True),
    "two venues": Family(two_venues, wicks=True),
    "two-venue crash": Family(two_venue_crash, exact=True),
    "stale": Family(stale, wicks=True, exact=True),
    "premium": Family(premium, wicks=True, symbols=8),
    "wide alt": Family(wide_alt, wicks=True),
    "halt": Family(halt, exact=True),
    "clocks": Family(clocks, wicks=True),
    "stalls": Family(stalls, wicks=True),
    "stall crash": Family(stall_crash, exact=True),
    "wick pairs": Family(wick_pairs, wicks=True),
    "regime": Family(regime),
    "late followers": Family(late_followers),
    "sweep": Family(sweep, wicks=True),
    "impossible": Family(impossible, wicks=True),
    "heavy tails": Family(heavy_tails, pooled=False),
}
