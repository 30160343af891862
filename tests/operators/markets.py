"""Small seeded markets for the forge's tests: ticks of several venues around one path, and ways to feed a kernel.

Times are milliseconds after START_NS, paths are functions of such times (a float64 array) to log price.
"""

from dataclasses import dataclass, field

import numpy as np

from market.records import VERDICTS, WICK
from market.schema import BUY, END_OF_INPUT, QUOTE, SELL, TICK, TRADE, UNSTAMPED, empty_ticks, join
from market.venues import VENUES
from operators.cell import Cell
from operators.consensus import GRID_NS
from operators.forge import ForgeKernel, ForgePolicy
from operators.hold import Hold
from operators.sequence import Slice

MS = 1_000_000
START_NS = 1_790_000_000_000_000_000
BASE = 100.0

SPIKE_MS = np.array([5000.0, 5030.0, 5031.0, 5090.0, 5200.0])
SPIKE = np.log1p(0.05) * np.array([0.9, 1.0, 0.8, 0.95, 0.85])
SPIKED = {(2, str(number)) for number in range(1, 6)}


def flat(_):
    return 0.0


def ramp(start_ms, length_ms, size):
    """Return a path that moves by `size` (log) from `start_ms` on, along a straight line."""
    return lambda at: size * np.clip((at - start_ms) / length_ms, 0.0, 1.0)


def ticks_of(kind, venue, at_ms, log_price, *, symbol=0, delay_ms=0.0, first_id=1, half_spread=1e-4, base=BASE):
    """Return n TICK rows of one venue; `delay_ms` later they are received."""
    at_ms = np.atleast_1d(np.asarray(at_ms, float))
    price = base * np.exp(np.broadcast_to(log_price, at_ms.shape))
    rows = empty_ticks(at_ms.size)
    rows["symbol"], rows["venue"], rows["kind"] = symbol, venue, kind
    rows["event_ns"] = rows["exchange_ns"] = START_NS + (at_ms * MS).astype(np.int64)
    rows["receive_ns"] = rows["event_ns"] + (np.broadcast_to(delay_ms, at_ms.shape) * MS).astype(np.int64)
    if kind == TRADE:
        rows["price"], rows["size"] = price, 1.0
        rows["side"] = np.where(np.arange(at_ms.size) % 2, BUY, SELL)
        rows["trade_id"] = [str(number).encode() for number in range(first_id, first_id + at_ms.size)]
    else:
        rows["bid"], rows["ask"] = price * np.exp(-half_spread), price * np.exp(half_spread)
        rows["bid_size"] = rows["ask_size"] = 1.0
    return rows


def trades(venue, at_ms, log_price=0.0, **more):
    return ticks_of(TRADE, venue, at_ms, log_price, **more)


def quotes(venue, at_ms, log_price=0.0, **more):
    return ticks_of(QUOTE, venue, at_ms, log_price, **more)


def unstamped(rows):
    """Return rows as of a venue that stamps nothing: event time is receive time."""
    rows = rows.copy()
    rows["exchange_ns"], rows["event_ns"] = 0, rows["receive_ns"]
    rows["flags"] |= UNSTAMPED
    return rows


@dataclass
class Market:
    """A market of one symbol: each venue ticks at random times around a path.

    Attributes:
        venues: Codes.
        seconds: Length.
        rate: Ticks a second and venue; 3 of 10 are trades.
        noise: Standard deviation of a tick around the path, log.
        path: Log price over time; `behind_ms` of a venue delays it there.
        premium: venue -> log premium.
        delay_ms: Least and mean extra delay of receipt.
    """

    venues: tuple = (0, 1, 2, 3, 4, 5)
    seconds: float = 8.0
    rate: float = 40.0
    noise: float = 2e-4
    path: object = flat
    behind_ms: dict = field(default_factory=dict)
    premium: dict = field(default_factory=dict)
    delay_ms: tuple = (0.0, 5.0)
    symbol: int = 0
    base: float = BASE
    seed: int = 1
    first_id: int = 1_000_000

    def rows(self):
        """Return the ticks of all venues by receive time; trade ids from `first_id` on."""
        return by_receipt(*(self.of_venue(venue) for venue in self.venues))

    def of_venue(self, venue):
        rng = np.random.default_rng([self.seed, venue, self.symbol])
        count = max(int(self.seconds * self.rate), 1)
        at = np.sort(rng.uniform(0, self.seconds * 1000, count))
        value = self.path(at - self.behind_ms.get(venue, 0.0)) + self.premium.get(venue, 0.0)
        value = value + rng.normal(0.0, self.noise, count)
        least, extra = self.delay_ms
        received = np.maximum.accumulate(at + least + rng.exponential(extra, count))
        trade = rng.random(count) < 0.3
        return by_receipt(*(
            ticks_of(kind, venue, at[pick], value[pick], symbol=self.symbol, base=self.base,
                     delay_ms=received[pick] - at[pick], first_id=self.first_id)
            for kind, pick in ((TRADE, trade), (QUOTE, ~trade))
        ))  # fmt: skip


def by_receipt(*parts):
    """Return rows in receive order (a stable order of the parts given)."""
    rows = join([np.ascontiguousarray(part) for part in parts])
    return rows.take(np.argsort(rows["receive_ns"], kind="stable"))


def without(rows, venue, from_ms, to_ms):
    """Return rows less what a venue did in a stretch of event time."""
    at = (rows["event_ns"] - START_NS) / MS
    return rows[~((rows["venue"] == venue) & (at >= from_ms) & (at < to_ms))]


def stalled(rows, venue, from_ms, to_ms):
    """Return rows as received if a venue's link stood still for a stretch and then gave all at once."""
    rows = rows.copy()
    at = (rows["receive_ns"] - START_NS) / MS
    held = (rows["venue"] == venue) & (at >= from_ms) & (at < to_ms)
    rows["receive_ns"][held] = START_NS + int(to_ms * MS)
    return by_receipt(rows)


def with_spike(rows, *, venue=2, at_ms=SPIKE_MS, size=SPIKE, follow=False, premium=0.0, **more):
    """Return rows with a burst of far prints on one venue (ids from 1), its own quotes along with them or not."""
    at_ms, size = np.asarray(at_ms), np.broadcast_to(size, np.shape(at_ms)) + premium
    calm = without(rows, venue, at_ms[0] - 1, at_ms[-1] + 5) if follow else rows
    parts = [calm, trades(venue, at_ms, size, delay_ms=3, **more)]
    if follow:
        parts += [
            quotes(venue, at_ms - 0.5, size, delay_ms=3, **more),
            quotes(venue, [at_ms[-1] + 5], premium, delay_ms=3, **more),
        ]
    return by_receipt(*parts)


def crash(**more):
    """Return a market that falls 8 % in 300 ms from 5 s on, each venue up to 140 ms behind the first."""
    behind = {venue: delay for venue, delay in enumerate((0, 30, 60, 90, 120, 140))}
    return Market(**{"path": ramp(5000, 300, np.log(0.92)), "behind_ms": behind, **more})


def calls(rows, step_ms=10.0, venues=None):
    """Cut rows into calls: one list of slices each, every venue's watermark at the call's end; the last ends all."""
    venues = sorted(set(rows["venue"].tolist())) if venues is None else venues
    last = int(rows["receive_ns"].max()) if rows.size else START_NS
    marks = np.arange(START_NS, last + int(step_ms * MS), int(step_ms * MS)) + int(step_ms * MS)
    out, done = [], 0
    for mark in marks.tolist():
        stop = int(np.searchsorted(rows["receive_ns"], mark, side="right"))
        out.append([Slice(v, part_of(rows[done:stop], v), mark) for v in venues])
        done = stop
    out.append([Slice(v, np.zeros(0, TICK), END_OF_INPUT) for v in venues])
    return out


def part_of(rows, venue):
    return rows.take(np.flatnonzero(rows["venue"] == venue))


def hold_of(rows, symbols=1):
    """Return a hold of symbol codes from 0 that has taken in all rows."""
    hold = Hold(np.arange(symbols), symbols)
    hold.add([Slice(venue, part_of(rows, venue), END_OF_INPUT) for venue in sorted(set(rows["venue"].tolist()))])
    hold.take_in(END_OF_INPUT)
    return hold


def learn(consensus, rows, *, wicks=()):
    """Let a consensus learn from rows, cell by cell of the grid as the forge does; `wicks` are trade ids."""
    hold = hold_of(rows, consensus.level.size)
    for boundary_ns in np.unique(-(-rows["receive_ns"] // GRID_NS) * GRID_NS).tolist():
        due = hold.due(boundary_ns)
        value = np.where(np.isin(due.ticks["trade_id"], wicks), np.inf, due.value)
        half = (due.ticks["ask"] - due.ticks["bid"]) / (due.ticks["ask"] + due.ticks["bid"])
        consensus.close(boundary_ns, Cell(due.place, value, half, due.receive_ns, due.event_ns))
    return consensus


@dataclass
class Outcome:
    """All that a kernel gave, in order."""

    ticks: np.ndarray
    verdict: np.ndarray
    release_ns: np.ndarray
    reference: np.ndarray
    deviation_bps: np.ndarray
    wicks: list
    readmitted: np.ndarray
    readmitted_ns: np.ndarray
    settled: np.ndarray
    settled_verdict: np.ndarray

    def verdicts(self, venue=None):
        """Return trade id -> verdict by name, of one venue or all."""
        rows = np.flatnonzero((self.ticks["kind"] == TRADE) & ((venue is None) | (self.ticks["venue"] == venue)))
        return {
            (VENUES[self.ticks["venue"][r]], self.ticks["trade_id"][r].decode()): VERDICTS[self.verdict[r]]
            for r in rows.tolist()
        }

    def flagged(self):
        """Return (venue code, trade id) of all trades judged wicks at their release."""
        rows = np.flatnonzero(self.verdict == WICK)
        return {(int(self.ticks["venue"][r]), self.ticks["trade_id"][r].decode()) for r in rows.tolist()}

    def final(self):
        """Return (venue code, trade id) of wicks that were not re-admitted."""
        back = {(w.venue, w.trade_id) for w in self.wicks if w.readmitted_ns}
        return self.flagged() - back

    def between(self, from_ms, to_ms, venue=None):
        """Return verdict names of the trades in a stretch of event time."""
        at = (self.ticks["event_ns"] - START_NS) / MS
        pick = (self.ticks["kind"] == TRADE) & (at >= from_ms) & (at < to_ms)
        if venue is not None:
            pick &= self.ticks["venue"] == venue
        return [VERDICTS[v] for v in self.verdict[pick].tolist()]


def outcome(results):
    """Join what a kernel returned, call by call."""
    results = [result for result in results if result is not None]
    parts = [result.released for result in results]
    return Outcome(
        np.concatenate([np.zeros(0, TICK), *(part.ticks for part in parts)]),
        np.concatenate([part.verdict for part in parts]),
        np.concatenate([part.release_ns for part in parts]),
        np.concatenate([part.reference for part in parts]),
        np.concatenate([part.deviation_bps for part in parts]),
        [wick for result in results for wick in result.wicks],
        np.concatenate([np.zeros(0, TICK), *(result.readmitted for result in results)]),
        np.concatenate([result.readmitted_release_ns for result in results]),
        np.concatenate([np.zeros(0, TICK), *(result.settled.ticks for result in results)]),
        np.concatenate([result.settled.verdict for result in results]),
    )


def policy_for(rows, **more):
    return ForgePolicy(venues=tuple(sorted(set(rows["venue"].tolist()))), **more)


def judge(rows, *, symbols=(0,), step_ms=10.0, venues=None, **policy):
    """Run a fresh kernel over rows in receive order and return the outcome."""
    venues = tuple(sorted(set(rows["venue"].tolist()))) if venues is None else venues
    kernel = ForgeKernel(np.array(symbols), ForgePolicy(venues=venues, **policy))
    return outcome([kernel.add(call) for call in calls(rows, step_ms, venues)])
