"""Why a verdict was wrong, in text: the trade, and what each venue showed around it."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from bench.forge_eval.judge import Judged
from bench.forge_eval.plan import START_NS
from bench.forge_eval.ticks import GENUINE, LABELS, NS_PER_MS, SCAM, Market
from market.records import VERDICTS, WICK
from market.schema import F64, I64
from market.venues import VENUES
from operators.hold import log_value

AROUND_NS = 400 * NS_PER_MS


def wrong(market: Market, judged: Judged) -> I64:
    """Return the ids of genuine trades that were filtered and scored prints that were not."""
    label, filtered = market.truth["label"], judged.final == WICK
    return np.flatnonzero(((label == GENUINE) & filtered) | ((label == SCAM) & ~filtered))


def explain(market: Market, judged: Judged, trade: int) -> Iterator[str]:
    """Yield lines about one trade: times in ms after the start, distances in bps of the venue's fair price."""
    truth = market.truth[trade]
    code, own = int(truth["symbol"]), int(truth["venue"])
    one = market.plan.instruments[code]
    at_ms, receive_ms = ((int(truth[name]) - START_NS) / NS_PER_MS for name in ("at_ns", "receive_ns"))
    yield (
        f"{LABELS[truth['label']]} judged {VERDICTS[judged.final[trade]]}: symbol {code} "
        f"({'major' if one.major else 'alt'}, dispersion {one.dispersion * 1e4:.1f} bps, {len(one.listings)} venues) "
        f"on {VENUES[own]} at {at_ms:.0f}, received {receive_ms:.0f}, price {truth['price']:.8g}, "
        f"{truth['deviation'] * 1e4:+.0f} bps from fair, reference {judged.reference[trade]:.8g}"
    )
    for move in one.moves:
        if abs(move.ramp.start_ms - at_ms) < 3000:
            delays = {VENUES[venue]: round(delay) for venue, delay in move.delay_ms.items()}
            yield f"    move of {move.ramp.size * 1e4:+.0f} bps from {move.ramp.start_ms:.0f} on, {delays}"
    for number, spike in enumerate(one.spikes):
        if abs(spike.start_ms - at_ms) < 1500:
            mark = "this" if number == truth["event"] else "another"
            names = [VENUES[venue] for venue in spike.venues]
            yield (
                f"    {mark} wick of {spike.size * 1e4:+.0f} bps on {names} from {spike.start_ms:.0f} on, "
                f"{spike.length_ms:.0f} ms, {spike.shape.size} prints, {'with' if spike.quoted else 'without'} quotes"
            )
    if trade in judged.wicks:
        wick = judged.wicks[trade]
        yield f"    record: deviation {wick.deviation_bps:+.0f}, dispersion {wick.dispersion_bps:.1f}, {wick.evidence}"
    for venue in sorted(one.listings):
        yield f"    {_nearby(market, code, venue, truth)}"


def _nearby(market: Market, code: int, venue: int, truth: np.void) -> str:
    rows = market.ticks[venue]
    rows = rows[(rows["symbol"] == code) & (np.abs(rows["receive_ns"] - truth["receive_ns"]) < AROUND_NS)]
    away: F64 = (log_value(rows) - np.log(truth["price"])) * 1e4 if rows.size else np.zeros(0)
    after_ms = (rows["receive_ns"] - truth["receive_ns"]) / NS_PER_MS
    order = np.sort(np.argsort(np.abs(after_ms), kind="stable")[:9])
    shown = " ".join(f"{after_ms[i]:+.0f}:{away[i]:+.0f}" for i in order)
    listing = market.plan.instruments[code].listings[venue]
    return f"{VENUES[venue]:8} {listing.rate:5.1f}/s  ms after:bps from the trade  {shown or 'nothing'}"
