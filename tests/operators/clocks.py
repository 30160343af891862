"""Simulated links with known clocks: seeded ticks of one venue, and how far corrected event times are from the truth.

The truth is when a tick happened, told by the clock at our socket (one that never goes back). The least one-way delay
is part of every offset and cannot be told from it, so errors are against truth + least delay unless asked otherwise.
"""

from dataclasses import dataclass
from itertools import pairwise

import numpy as np

from operators.clock import ClockKernel

MS = 1_000_000
SECOND_NS = 1_000_000_000
START_NS = 1_790_000_000 * SECOND_NS
LEAST_NS = 3 * MS
STALL_NS = 900 * MS


@dataclass(frozen=True)
class Link:
    """A venue's ticks: when they happened, the venue's stamps, ours at the socket; n int64 each."""

    true_ns: np.ndarray
    exchange_ns: np.ndarray
    receive_ns: np.ndarray

    def slow(self, from_s, to_s, by_ms):
        """Return the link with the ticks received in `[from_s, to_s)` later by `by_ms`, a number or one a tick."""
        at_s = (self.receive_ns - START_NS) / SECOND_NS
        late_ns = np.where((at_s >= from_s) & (at_s < to_s), np.asarray(by_ms) * MS, 0).astype(np.int64)
        return Link(self.true_ns, self.exchange_ns, np.maximum.accumulate(self.receive_ns + late_ns))


def link(
    rate=50.0,
    seconds=120.0,
    skew_ms=0.0,
    ppm=0.0,
    venue_step_ms=0.0,
    our_step_ms=0.0,
    step_s=60.0,
    stall_every_s=0.0,
    jitter_ms=3.0,
    spikes_ms=0.0,
    seed=1,
):
    """Make a link.

    Args:
        rate: Ticks a second.
        seconds: How long.
        skew_ms: What the venue's clock is ahead at the start.
        ppm: How much faster than ours it runs.
        venue_step_ms: What it is set forward by at `step_s`.
        our_step_ms: What ours is set forward by at `step_s`.
        step_s: When a clock is set.
        stall_every_s: How often the link stands still for `STALL_NS` and then delivers all at once; 0 for never.
        jitter_ms: Mean of the exponential delay of each tick above the least.
        spikes_ms: Mean of the exponential delay that two moments of each second have besides; ticks after it wait.
        seed: Of all that is random.
    """
    rng = np.random.default_rng(seed)
    length_ns = int(seconds * SECOND_NS)
    at_ns = np.sort(rng.integers(0, length_ns, int(rate * seconds)))
    arrive_ns = at_ns + LEAST_NS + rng.exponential(jitter_ms * MS, at_ns.size).astype(np.int64)
    if spikes_ms:
        spike_ns = np.sort(rng.integers(0, length_ns, int(2 * seconds)))
        over_ns = np.maximum.accumulate(spike_ns + rng.exponential(spikes_ms * MS, spike_ns.size).astype(np.int64))
        spike = np.searchsorted(spike_ns, at_ns, "right") - 1
        arrive_ns = np.where(spike >= 0, np.maximum(arrive_ns, over_ns[spike] + LEAST_NS), arrive_ns)
    if stall_every_s:
        into_ns = (arrive_ns - length_ns // 7) % int(stall_every_s * SECOND_NS)
        arrive_ns += np.where(into_ns < STALL_NS, STALL_NS - into_ns, 0)
    order = np.argsort(arrive_ns, kind="stable")  # a venue's ticks come over several connections
    at_ns, arrive_ns = at_ns[order], arrive_ns[order]
    ahead_ms = skew_ms + venue_step_ms * (at_ns >= step_s * SECOND_NS)
    venue_ns = at_ns + (at_ns * (ppm * 1e-6) + ahead_ms * MS).astype(np.int64)
    ours = [_served(t, our_step_ms, step_s) + START_NS for t in (at_ns, arrive_ns)]
    return Link(ours[0], venue_ns + START_NS, ours[1])


def _served(at_ns, step_ms, step_s):
    """Return what our clock shows: set forward it jumps, set back it stands still until it has caught up."""
    shown_ns = at_ns + np.where(at_ns >= step_s * SECOND_NS, int(step_ms * MS), 0)
    return np.maximum(shown_ns, np.minimum(at_ns, int(step_s * SECOND_NS)))


def correct(exchange_ns, receive_ns, kernel=None, cuts=(), stamped=None, old=None):
    """Return the event times of rows given in batches cut at `cuts`."""
    kernel = kernel or ClockKernel()
    rows = len(receive_ns)
    stamped = np.ones(rows, bool) if stamped is None else stamped
    old = np.zeros(rows, bool) if old is None else old
    parts = [slice(a, b) for a, b in pairwise([0, *sorted(cuts), rows])]
    return np.concatenate([kernel.correct(exchange_ns[p], receive_ns[p], stamped[p], old[p]) for p in parts])


def errors_ms(ticks, least_ns=LEAST_NS, kernel=None):
    """Return how far the event time of each tick is from the truth + `least_ns`, n float64, signed."""
    rows = range(500, len(ticks.receive_ns), 500)
    return (correct(ticks.exchange_ns, ticks.receive_ns, kernel, rows) - ticks.true_ns - least_ns) / MS
