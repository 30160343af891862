"""From a plan to ticks: TICK rows a venue in receive order, and a label for every trade.

A trade's id is its place in the truth table, so that verdicts find their labels. Venue noise is autocorrelated and
shared by trades and quotes, trades fall on the edges of the spread, some sweep the book, prices stand on a grid.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

import numpy as np

from bench.forge_eval.draw import SCORED_DISPERSIONS
from bench.forge_eval.plan import BPS, START_NS, Instrument, Listing, Plan, Spike, within
from market.schema import F64, I64, QUOTE, REPLAYED, TRADE, UNSTAMPED, Bool, Rows, empty_ticks, join

NS_PER_MS: Final = 1_000_000
TRADE_SHARE: Final = 0.35
SPIKE_LEAST: Final = 0.009
"""Prints of a wick nearer than this are not scored: 60 % of the smallest wick of interest."""
ALIVE_MS: Final = 1_000.0
"""A healthy venue that was received so shortly before a print's release is a live witness, even if silent since."""
REPLAYED_TRADES: Final = 20
SWEEPS: Final = 0.03

GENUINE: Final = 0
SCAM: Final = 1
EXCLUDED: Final = 2
REJECT: Final = 3
LABELS: Final = ("genuine", "wick", "excluded", "reject")

REASONS: Final = (
    "",
    "print of a wick nearer than 6 dispersions or 0.9 %",
    "wick without a live witness",
    "wick of several venues without a majority against it",
    "new level of one venue, before its stated time",
    "ordinary trade beyond 6 dispersions",
)

TRUTH: Final = np.dtype(
    [
        ("symbol", "i4"),
        ("venue", "i1"),
        ("label", "i1"),
        ("reason", "i1"),  # of EXCLUDED, index into REASONS
        ("event", "i4"),  # number of the wick within its symbol, -1: none
        ("at_ns", "i8"),  # true time
        ("receive_ns", "i8"),
        ("price", "f8"),
        ("deviation", "f8"),  # log price less the venue's fair price
    ]
)

_DRAFT: Final = np.dtype(
    [
        ("at_ms", "f8"),
        ("stamp_ms", "f8"),  # true time that the venue stamps
        ("symbol", "i4"),
        ("kind", "i1"),
        ("side", "i1"),
        ("event", "i4"),
        ("value", "f8"),  # log price or log mid
        ("half", "f8"),  # half spread of a quote, log units
    ]
)


@dataclass(slots=True)
class Market:
    """A plan made real.

    Attributes:
        plan: What it was made from.
        ticks: Venue code -> TICK rows in receive order, impossible ones included.
        truth: n rows of TRUTH, one a trade; `trade_id` is the row number.
    """

    plan: Plan
    ticks: dict[int, Rows]
    truth: Rows


def make(plan: Plan, rng: np.random.Generator) -> Market:
    """Draw the ticks of a plan."""
    ticks, truths, trades = {}, [], 0
    for venue in sorted(plan.feeds):
        drafts = [
            _draft(one, code, venue, plan.seconds, rng)
            for code, one in enumerate(plan.instruments)
            if venue in one.listings
        ]
        if not drafts:
            continue
        rows, truth = _venue_ticks(plan, venue, join(drafts), trades, rng)
        ticks[venue] = rows
        truths.append(truth)
        trades += truth.size
    truth = join(truths)
    _exclude_unwitnessed(plan, ticks, truth)
    return Market(plan, ticks, truth)


def _draft(one: Instrument, code: int, venue: int, seconds: float, rng: np.random.Generator) -> Rows:
    """Return what a venue does in one symbol, by true time."""
    listing = one.listings[venue]
    at = _times(one, listing, seconds, rng)
    rows = np.zeros(at.size, _DRAFT)
    rows["at_ms"] = rows["stamp_ms"] = at
    rows["kind"] = np.where(rng.random(at.size) < TRADE_SHARE, TRADE, QUOTE)
    rows["side"] = rng.choice((-1, 1), at.size)
    rows["event"] = -1
    mid, half = one.fair(venue, at) + _wander(at, one.dispersion, rng), 0.6 * one.dispersion
    rows["half"] = half * rng.uniform(0.7, 1.3, at.size)
    trade = rows["kind"] == TRADE
    rows["value"] = mid + np.where(trade, rows["side"] * rows["half"] + _own_noise(one, at.size, rng), 0.0)
    _keep_natural(rows, one, venue, rng)
    rows = rows[~within(at, listing.mutes)]
    for span in listing.frozen:
        _freeze(rows, span)
    for number, spike in enumerate(one.spikes):
        if venue in spike.venues:
            rows = _with_spike(rows, one, venue, spike, number, rng)
    rows["symbol"] = code
    return rows


def _times(one: Instrument, listing: Listing, seconds: float, rng: np.random.Generator) -> F64:
    """Return ascending times: random, one in eight right after another, and four times as many around a move."""
    parts = [rng.uniform(0, seconds * 1000, rng.poisson(listing.rate * seconds))]
    for move in one.moves:
        length_ms = 1500 + move.ramp.length_ms
        count = rng.poisson(3 * listing.rate * length_ms / 1000)
        parts.append(rng.uniform(move.ramp.start_ms - 100, move.ramp.start_ms - 100 + length_ms, count))
    at = np.sort(np.concatenate(parts))
    close = np.flatnonzero(rng.random(at.size) < 1 / 8)
    close = close[close > 0]
    at[close] = at[close - 1] + rng.uniform(0, 0.8, close.size)
    return np.asarray(np.sort(at))


def _wander(at_ms: F64, dispersion: float, rng: np.random.Generator) -> F64:
    """Return a venue's own slow wandering at n times: half a dispersion, forgotten over 0.3 to 5 s."""
    step_ms = rng.uniform(300, 5000) / 5
    steps = int((at_ms[-1] if at_ms.size else 0) / step_ms) + 2
    keep = float(np.exp(-0.2))
    path = np.empty(steps)
    path[0] = rng.normal()
    for step, shock in enumerate(rng.normal(0, np.sqrt(1 - keep**2), steps - 1), 1):
        path[step] = keep * path[step - 1] + shock
    return np.asarray(0.5 * dispersion * np.interp(at_ms, np.arange(steps) * step_ms, path))


def _own_noise(one: Instrument, count: int, rng: np.random.Generator) -> F64:
    """Return noise of n trades: normal or Student's t of 0.6 dispersions, and sweeps of up to 3."""
    if np.isfinite(one.degrees):
        noise = rng.standard_t(one.degrees, count) * np.sqrt((one.degrees - 2) / one.degrees)
    else:
        noise = rng.normal(0, 1, count)
    sweep = (rng.random(count) < SWEEPS) * rng.uniform(0, 3, count) * np.sign(noise)
    return np.asarray((0.6 * noise + sweep) * one.dispersion)


def _keep_natural(rows: Rows, one: Instrument, venue: int, rng: np.random.Generator) -> None:
    """Put trades beyond the instrument's cut somewhere between half of it and it."""
    fair = one.fair(venue, rows["at_ms"])
    off = rows["value"] - fair
    most = one.cut * one.dispersion
    far = np.flatnonzero((rows["kind"] == TRADE) & (np.abs(off) > most))
    rows["value"][far] = fair[far] + np.sign(off[far]) * most * rng.uniform(0.5, 1.0, far.size)


def _freeze(rows: Rows, span: tuple[float, float]) -> None:
    """Turn what a listing does in a stretch into its last quote before, again and again."""
    inside = np.flatnonzero(within(rows["at_ms"], [span]))
    before = np.flatnonzero((rows["at_ms"] < span[0]) & (rows["kind"] == QUOTE))
    if inside.size and before.size:
        for column in ("stamp_ms", "kind", "side", "value", "half"):
            rows[column][inside] = rows[column][before[-1]]


def _with_spike(rows: Rows, one: Instrument, venue: int, spike: Spike, number: int, rng: np.random.Generator) -> Rows:
    """Return a listing's rows with one wick, its quotes along with it or not."""
    at = spike.start_ms + np.sort(rng.uniform(0, spike.length_ms, spike.shape.size))
    at += spike.start_ms - at[0] + (rng.uniform(0, 40) if venue != spike.venues[0] else 0.0)
    prints = _around(one, venue, at, spike.size * spike.shape, TRADE, rng)
    prints["event"], prints["side"] = number, np.sign(spike.size)
    parts = [prints]
    inside = (rows["at_ms"] >= at[0] - 1) & (rows["at_ms"] <= at[-1])
    gone = inside & ((spike.quoted & (rows["kind"] == QUOTE)) | (spike.alone & (rows["kind"] == TRADE)))
    if spike.quoted:
        when = np.append(np.maximum(at - rng.uniform(0, 0.5), at[0] - 0.5), at[-1] + rng.uniform(0.2, 5))
        size = np.append(spike.size * spike.shape * rng.uniform(0.9, 1.0), 0.0)
        parts.append(_around(one, venue, when, size, QUOTE, rng))
    joined = join([rows[~gone], *parts])
    return joined.take(np.argsort(joined["at_ms"], kind="stable"))


def _around(one: Instrument, venue: int, at_ms: F64, off: F64, kind: int, rng: np.random.Generator) -> Rows:
    rows = np.zeros(at_ms.size, _DRAFT)
    rows["at_ms"] = rows["stamp_ms"] = at_ms
    rows["kind"], rows["event"], rows["side"] = kind, -1, 1
    rows["value"] = one.fair(venue, at_ms) + off + rng.normal(0, 0.3 * one.dispersion, at_ms.size)
    rows["half"] = 0.6 * one.dispersion
    return rows


def _venue_ticks(plan: Plan, venue: int, draft: Rows, first_id: int, rng: np.random.Generator) -> tuple[Rows, Rows]:
    """Return all ticks of a venue in receive order, and the truth of its trades, numbered from `first_id`."""
    feed = plan.feeds[venue]
    draft = draft.take(np.argsort(draft["at_ms"], kind="stable"))
    ticks = empty_ticks(draft.size)
    trade = draft["kind"] == TRADE
    ticks["symbol"], ticks["venue"], ticks["kind"] = draft["symbol"], venue, draft["kind"]
    ticks["receive_ns"] = START_NS + (feed.receive_ms(draft["at_ms"], rng) * NS_PER_MS).astype(np.int64)
    stamped = trade | feed.quotes_stamped
    stamp = START_NS + feed.stamp_ms(draft["stamp_ms"]).astype(np.int64) * NS_PER_MS
    ticks["exchange_ns"] = np.where(stamped, stamp, 0)
    ticks["flags"] = np.where(stamped, 0, UNSTAMPED)
    _price(ticks, draft, plan, rng)
    ticks["trade_id"][trade] = (first_id + np.arange(trade.sum())).astype("S")
    truth = _label(plan, venue, draft[trade], ticks[trade])
    _spoil(ticks, np.flatnonzero(trade), truth, venue, plan)
    return _with_replays(ticks, plan, venue), truth


def _price(ticks: Rows, draft: Rows, plan: Plan, rng: np.random.Generator) -> None:
    """Fill in prices on the symbols' grids, and sizes."""
    start = np.exp([one.log_price for one in plan.instruments])[draft["symbol"]]
    step = np.array([one.tick for one in plan.instruments])[draft["symbol"]] * start
    trade = draft["kind"] == TRADE
    middle, half = np.exp(draft["value"]), np.where(trade, 0.0, draft["half"])
    low, high = np.floor(middle * (1 - half) / step + 0.5), np.floor(middle * (1 + half) / step + 0.5)
    ticks["price"] = np.where(trade, low * step, np.nan)
    ticks["size"] = np.where(trade, rng.lognormal(0, 1.5, draft.size), np.nan)
    ticks["side"] = np.where(trade, draft["side"], 0)
    ticks["bid"] = np.where(trade, np.nan, low * step)
    ticks["ask"] = np.where(trade, np.nan, np.maximum(high, low + 1) * step)
    ticks["bid_size"] = ticks["ask_size"] = np.where(trade, np.nan, 1.0)


def _label(plan: Plan, venue: int, draft: Rows, ticks: Rows) -> Rows:
    """Return TRUTH rows of n trades of a venue in true time."""
    truth = np.zeros(draft.size, TRUTH)
    truth["symbol"], truth["venue"], truth["event"] = draft["symbol"], venue, draft["event"]
    truth["at_ns"] = START_NS + (draft["at_ms"] * NS_PER_MS).astype(np.int64)
    truth["receive_ns"], truth["price"] = ticks["receive_ns"], ticks["price"]
    for code, one in enumerate(plan.instruments):
        mine = np.flatnonzero(draft["symbol"] == code)
        if not mine.size:
            continue
        at = draft["at_ms"][mine]
        truth["deviation"][mine] = np.log(ticks["price"][mine]) - one.fair(venue, at)
        _label_symbol(truth, mine, one, within(at, one.listings[venue].unsettled))
    return truth


def _label_symbol(truth: Rows, mine: I64, one: Instrument, unsettled: Bool) -> None:
    off, printed = np.abs(truth["deviation"][mine]), truth["event"][mine] >= 0
    near = off < max(SCORED_DISPERSIONS * one.dispersion, SPIKE_LEAST)
    undecided = [len(one.listings) - 2 * len(spike.venues) <= 0 < len(spike.venues) - 1 for spike in one.spikes]
    shared = np.array([*undecided, False])[truth["event"][mine]]  # of no event is the last
    reason = np.select(
        [
            printed & near,
            printed & shared,
            ~printed & unsettled,
            ~printed & (off > SCORED_DISPERSIONS * one.dispersion),
        ],
        [1, 3, 4, 5],
        0,
    )
    truth["reason"][mine] = reason
    truth["label"][mine] = np.where(reason > 0, EXCLUDED, np.where(printed, SCAM, GENUINE))


def _spoil(ticks: Rows, trades: I64, truth: Rows, venue: int, plan: Plan) -> None:
    """Give ordinary trades the impossible prices and sizes that the plan wants."""
    for code, one in enumerate(plan.instruments):
        own = np.flatnonzero((truth["symbol"] == code) & (truth["label"] == GENUINE))
        for fault in one.faults:
            if fault.venue != venue or not own.size:
                continue
            number = own[np.argmin(np.abs(truth["at_ns"][own] - START_NS - fault.at_ms * NS_PER_MS))]
            price = fault.price if fault.price > 1 else truth["price"][number] * fault.price
            ticks["price"][trades[number]] = truth["price"][number] = price
            ticks["size"][trades[number]] *= fault.size
            truth["label"][number] = SCAM if fault.price > 1 else REJECT


def _with_replays(ticks: Rows, plan: Plan, venue: int) -> Rows:
    """Send the last trades before each mute again when it ends, as venues do after a new subscription."""
    extra = []
    for code, one in enumerate(plan.instruments):
        listing = one.listings.get(venue)
        for start, end in listing.mutes if listing and listing.replays else ():
            mine = np.flatnonzero((ticks["symbol"] == code) & (ticks["kind"] == TRADE))
            last = mine[ticks["receive_ns"][mine] < START_NS + int(start * NS_PER_MS)][-REPLAYED_TRADES:]
            again = ticks[last].copy()
            again["receive_ns"] = START_NS + int((end + plan.feeds[venue].latency_ms) * NS_PER_MS)
            again["flags"] |= REPLAYED
            extra.append(again)
    if not extra:
        return ticks
    joined = join([ticks, *extra])
    return joined.take(np.argsort(joined["receive_ns"], kind="stable"))


def _exclude_unwitnessed(plan: Plan, ticks: dict[int, Rows], truth: Rows, window_ms: float = 150.0) -> None:
    """Exclude prints of wicks that no other venue can speak against.

    A live witness is a venue that is neither muted nor frozen, and was received within ALIVE_MS before the print's
    release; if its link stalls at the print's receipt, after that.
    """
    heard: dict[tuple[int, int], I64] = {}
    for row in np.flatnonzero(truth["label"] == SCAM).tolist():
        code, own = int(truth["symbol"][row]), int(truth["venue"][row])
        one, receive_ns = plan.instruments[code], int(truth["receive_ns"][row])
        event = int(truth["event"][row])
        others = set(one.listings) - {own} - set(one.spikes[event].venues if event >= 0 else ())
        at_ms = np.array([(receive_ns - START_NS) / NS_PER_MS])
        for venue in others:
            if (venue, code) not in heard:
                heard[venue, code] = ticks[venue]["receive_ns"][ticks[venue]["symbol"] == code]
            if one.listings[venue].dead_at(at_ms)[0]:
                continue
            stalled = within(at_ms, plan.feeds[venue].stalls)[0]
            until_ns = receive_ns + int(window_ms * NS_PER_MS)
            from_ns = receive_ns if stalled else until_ns - int(ALIVE_MS * NS_PER_MS)
            first, last = np.searchsorted(heard[venue, code], (from_ns, until_ns))
            if last > first:
                break
        else:
            truth["label"][row], truth["reason"][row] = EXCLUDED, 2


def dispersion_of(market: Market, code: int) -> float:
    """Return the standard deviation of a symbol's ordinary trades around their fair prices, bps."""
    truth = market.truth
    mine = (truth["symbol"] == code) & (truth["label"] == GENUINE)
    return float(truth["deviation"][mine].std() / BPS)
