"""A market before any tick of it exists: venues' links, symbols' listings, price paths, moves and wicks.

Everything here is truth that the forge never sees. Times are float64 milliseconds after START_NS on the true clock,
prices natural logarithms, sizes of moves and noise log units (1e-4 is one bps).
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Final

import numpy as np

from market.schema import F64, Bool

START_NS: Final = 1_790_000_000_000_000_000
BPS: Final = 1e-4
WALK_STEP_MS: Final = 20.0

Span = tuple[float, float]
"""A stretch of true time, [from, to) in ms."""


@dataclass(slots=True)
class Feed:
    """The way from a venue to us.

    Attributes:
        latency_ms: Least one-way delay.
        jitter_ms: Mean of the exponential delay on top.
        skew_ms: The venue's clock less ours at the start.
        drift_ppm: How fast its clock gains.
        quotes_stamped: Whether its quotes carry a time (Binance spot's do not); trades always do.
        stalls: What would arrive within is received all at once at the end.
    """

    latency_ms: float
    jitter_ms: float
    skew_ms: float = 0.0
    drift_ppm: float = 0.0
    quotes_stamped: bool = True
    stalls: list[Span] = field(default_factory=list)

    def receive_ms(self, at_ms: F64, rng: np.random.Generator) -> F64:
        """Return when n ticks, sent at ascending times, are received; a link keeps order."""
        at = at_ms + self.latency_ms + rng.exponential(self.jitter_ms, at_ms.size)
        for start, end in self.stalls:
            at[(at >= start) & (at < end)] = end
        return np.asarray(np.maximum.accumulate(at)) if at.size else at

    def stamp_ms(self, at_ms: F64) -> F64:
        """Return the venue's own stamps of n true times, in its whole milliseconds."""
        return np.asarray(np.floor(at_ms * (1 + self.drift_ppm * 1e-6) + self.skew_ms))


@dataclass(slots=True)
class Ramp:
    """A straight change of the log price by `size`, from `start_ms` on, over `length_ms`."""

    start_ms: float
    length_ms: float
    size: float

    def at(self, at_ms: F64) -> F64:
        """Return its part of the log price at n times."""
        return np.asarray(self.size * np.clip((at_ms - self.start_ms) / max(self.length_ms, 1e-3), 0.0, 1.0))


@dataclass(slots=True)
class Move:
    """A ramp that all venues make, each in its own time.

    Attributes:
        ramp: The move of the first venue.
        delay_ms: Venue code -> how much later it moves.
        gain: Venue code -> how much farther it goes at first; the excess is gone `settle_ms` later.
        settle_ms: See `gain`.
    """

    ramp: Ramp
    delay_ms: dict[int, float]
    gain: dict[int, float] = field(default_factory=dict)
    settle_ms: float = 800.0

    def at(self, venue: int, at_ms: F64) -> F64:
        """Return its part of a venue's log price at n times."""
        own_ms = at_ms - self.delay_ms.get(venue, 0.0)
        excess = self.gain.get(venue, 1.0) - 1.0
        since = own_ms - self.ramp.start_ms - self.ramp.length_ms
        return np.asarray(self.ramp.at(own_ms) * (1 + excess * np.clip(1 - since / self.settle_ms, 0.0, 1.0)))


@dataclass(slots=True)
class Spike:
    """A wick: prints of some venues, far from the market, that the others do not make.

    Attributes:
        venues: Codes; mostly one.
        start_ms: Time of the first print.
        length_ms: The last print comes at most this much later.
        shape: k float64, the prints in order as fractions of `size`.
        size: Signed log distance from the venue's fair price.
        quoted: Whether the venue's quotes go along.
        alone: Whether the venue's ordinary trades stop meanwhile.
    """

    venues: tuple[int, ...]
    start_ms: float
    length_ms: float
    shape: F64
    size: float
    quoted: bool
    alone: bool


@dataclass(slots=True)
class Fault:
    """An ordinary trade that carries an impossible price or size.

    Attributes:
        venue: Code.
        at_ms: The trade nearest to this time is spoilt.
        price: Factor of its price; above 1, the price itself.
        size: Factor of its size.
    """

    venue: int
    at_ms: float
    price: float
    size: float


@dataclass(slots=True)
class Listing:
    """A symbol on a venue.

    Attributes:
        rate: Ticks a second.
        premium: Log premium over the symbol's path.
        lag_ms: How far it trails the path at all times.
        own: Changes of this venue alone: drifting premium, change of regime.
        mutes: No tick is sent.
        frozen: Only old quotes are sent again, under their old stamp.
        replays: Whether its last trades are sent again after a mute, as after a reconnect.
        unsettled: Trades in these stretches are not scored: the stated time of a new regime.
    """

    rate: float
    premium: float
    lag_ms: float
    own: list[Ramp] = field(default_factory=list)
    mutes: list[Span] = field(default_factory=list)
    frozen: list[Span] = field(default_factory=list)
    replays: bool = False
    unsettled: list[Span] = field(default_factory=list)

    def dead_at(self, at_ms: F64) -> Bool:
        """Return for n times whether the listing is muted or frozen, n bool."""
        return within(at_ms, [*self.mutes, *self.frozen])


@dataclass(slots=True)
class Instrument:
    """A symbol with its truth.

    Attributes:
        major: Else an alt.
        log_price: Of the start.
        dispersion: Standard deviation of a venue's trades around its fair price, log units.
        tick: Smallest price step, log units at the start price.
        degrees: Of Student's t for a trade's own noise; infinite for a normal one.
        cut: Ordinary trades stay within so many dispersions of the fair price.
        walk: Log price path on a grid of WALK_STEP_MS, from 0.
        listings: Venue code -> listing.
    """

    major: bool
    log_price: float
    dispersion: float
    tick: float
    degrees: float
    cut: float
    walk: F64
    listings: dict[int, Listing]
    moves: list[Move] = field(default_factory=list)
    spikes: list[Spike] = field(default_factory=list)
    faults: list[Fault] = field(default_factory=list)

    def fair(self, venue: int, at_ms: F64) -> F64:
        """Return a venue's fair log price at n times: what it would trade at without noise."""
        listing = self.listings[venue]
        grid_ms = np.arange(self.walk.size) * WALK_STEP_MS
        value = self.log_price + listing.premium + np.interp(at_ms - listing.lag_ms, grid_ms, self.walk)
        for ramp in listing.own:
            value = value + ramp.at(at_ms)
        for move in self.moves:
            value = value + move.at(venue, at_ms)
        return np.asarray(value)


@dataclass(slots=True)
class Plan:
    """A market of several symbols on one set of venues; the code of an instrument is its place."""

    seconds: float
    feeds: dict[int, Feed]
    instruments: list[Instrument]


def within(at_ms: F64, spans: list[Span]) -> Bool:
    """Return for n times whether they lie in any of some spans, n bool."""
    inside = np.zeros(np.shape(at_ms), bool)
    for start, end in spans:
        inside |= (at_ms >= start) & (at_ms < end)
    return inside
