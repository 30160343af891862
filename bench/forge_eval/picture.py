"""Two pictures as SVG: a wick that was caught and a crash that passed, each with the evidence.

They show one fixed market each, judged by the real kernels when they are drawn, so that they change only when the
forge or the market does.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from html import escape
from pathlib import Path
from typing import Final

import numpy as np

from bench.forge_eval.judge import Judged, judge
from bench.forge_eval.plan import BPS, START_NS, Feed, Instrument, Listing, Move, Plan, Ramp, Spike
from bench.forge_eval.ticks import NS_PER_MS, SCAM, Market, make
from market.records import VERDICTS, WICK
from market.schema import F64, TRADE
from market.venues import VENUES
from operators.forge import ForgePolicy
from operators.hold import log_value

SEED: Final = 7
EVENT_MS: Final = 12_000.0
WIDTH: Final = 980
HEIGHT: Final = 470
PLOT: Final = (64, 56, 650, 410)
"""Left, top, right and bottom of the plot."""
COLOURS: Final = ("#b8860b", "#222222", "#d2691e", "#5b3fd6", "#1f77b4", "#17a2b8", "#2ca02c")
RED: Final = "#d11a2a"
LATENCY_MS: Final = (12.0, 35.0, 60.0, 18.0, 80.0)


@dataclass(slots=True)
class Axes:
    """A stretch of receive time (ms) by a range of bps, on the plot."""

    left: float
    right: float
    low: float
    high: float

    def x(self, at_ms: float) -> float:
        """Return the place of a time."""
        return PLOT[0] + (at_ms - self.left) / (self.right - self.left) * (PLOT[2] - PLOT[0])

    def y(self, bps: float) -> float:
        """Return the place of a distance."""
        return PLOT[3] - (bps - self.low) / (self.high - self.low) * (PLOT[3] - PLOT[1])


def draw_all(folder: Path, policy: ForgePolicy) -> list[Path]:
    """Write `wick.svg` and `crash.svg` into a folder and return their paths."""
    folder.mkdir(parents=True, exist_ok=True)
    paths = []
    for name, drawn in (("wick.svg", wick_picture(policy)), ("crash.svg", crash_picture(policy))):
        (folder / name).write_text(drawn)
        paths.append(folder / name)
    return paths


def wick_picture(policy: ForgePolicy) -> str:
    """Return the picture of a wick of 4 % on one of five venues, and the vote on its deepest print."""
    one = _instrument()
    one.spikes = [Spike((2,), EVENT_MS, 60.0, np.array([0.7, 0.9, 1.0, 0.8, 0.95, 0.65]), -0.04, False, False)]
    market, judged = _judged(one, policy)
    scams = np.flatnonzero(market.truth["label"] == SCAM)
    deepest = int(scams[np.argmin(market.truth["price"][scams])])
    receive_ms = float(market.truth["receive_ns"][scams].min() - START_NS) / NS_PER_MS
    axes = Axes(receive_ms - 160, receive_ms + 300, -440.0, 60.0)
    caught = int((judged.final[scams] == WICK).sum())
    lines = [f"{caught} of {scams.size} prints are wicks.", ""]
    if deepest in judged.wicks:
        wick = judged.wicks[deepest]
        lines += [
            "The deepest one's row in `wicks`:",
            f"price {wick.price:.2f}, reference {wick.reference:.2f}",
            f"deviation {wick.deviation_bps:.0f} bps",
            f"dispersion {wick.dispersion_bps:.1f} bps",
            f"witnesses {wick.witnesses}",
            "",
            *_votes(wick.evidence),
        ]
    title = f"A wick of 4 % on {VENUES[2]}, caught"
    return _svg(title, axes, [_hold(axes, receive_ms, policy.window_ms), *_dots(market, judged, axes)], lines)


def crash_picture(policy: ForgePolicy) -> str:
    """Return the picture of a crash of 8 % in 250 ms that the venues make up to 110 ms apart."""
    one = _instrument()
    delays = dict(zip(one.listings, (110.0, 40.0, 0.0, 75.0, 95.0), strict=True))
    one.moves = [Move(Ramp(EVENT_MS, 250.0, float(np.log(0.92))), delays)]
    market, judged = _judged(one, policy)
    axes = Axes(EVENT_MS - 60, EVENT_MS + 560, -900.0, 80.0)
    truth = market.truth
    inside = np.abs((truth["receive_ns"] - START_NS) / NS_PER_MS - EVENT_MS - 250) < 310
    counts = [f"{int((judged.final[inside] == code).sum())} {name}" for code, name in enumerate(VERDICTS)]
    lines = [
        f"{int(inside.sum())} trades shown:",
        ", ".join(counts),
        "",
        f"{VENUES[2]} is first; half of the way was",
        "",
    ]
    lines += [f"{VENUES[venue]:8} made at +{_half_way_ms(market, venue):.0f} ms" for venue in one.listings]
    lines += ["", "A move that others make too is real,", "however large."]
    receive_ms = EVENT_MS + LATENCY_MS[2]
    return _svg(
        "A crash of 8 %, passed", axes, [_hold(axes, receive_ms, policy.window_ms), *_dots(market, judged, axes)], lines
    )


def _instrument() -> Instrument:
    rates = (90.0, 60.0, 70.0, 35.0, 45.0)
    listings = {venue: Listing(rate, premium=0.0, lag_ms=2.0 * venue) for venue, rate in enumerate(rates)}
    return Instrument(
        major=True,
        log_price=float(np.log(64_000)),
        dispersion=2.5 * BPS,
        tick=0.01 * BPS,
        degrees=np.inf,
        cut=4.0,
        walk=np.zeros(1000),
        listings=listings,
    )


def _judged(one: Instrument, policy: ForgePolicy) -> tuple[Market, Judged]:
    feeds = {venue: Feed(LATENCY_MS[venue], 1.5, quotes_stamped=venue != 0) for venue in one.listings}
    market = make(Plan(16.0, feeds, [one]), np.random.default_rng(SEED))
    return market, judge(market, policy)


def _half_way_ms(market: Market, venue: int) -> float:
    """Return when the first tick of a venue at half of the move was received, ms after the move's start."""
    rows = market.ticks[venue]
    one = market.plan.instruments[0]
    far = log_value(rows) - one.log_price < one.moves[0].ramp.size / 2
    return float((rows["receive_ns"][far][0] - START_NS) / NS_PER_MS - EVENT_MS)


def _votes(evidence: dict[str, object]) -> Iterable[str]:
    for venue, said in evidence.items():
        if isinstance(said, dict):
            age = said["age_ms"]
            when = f"{age:.0f} ms before" if age >= 0 else f"{-age:.0f} ms after"
            yield f"{venue:8} {said['vote']}"
            yield f"{'':8} nearest {said['nearest_bps']:+.0f} bps, {when}"


def _dots(market: Market, judged: Judged, axes: Axes) -> Iterable[str]:
    """Yield quotes as faint dots, trades as full ones, filtered trades as crosses."""
    base = market.plan.instruments[0].log_price
    for venue, rows in market.ticks.items():
        at_ms: F64 = (rows["receive_ns"] - START_NS) / NS_PER_MS
        shown = np.flatnonzero((at_ms > axes.left) & (at_ms < axes.right))
        away = (log_value(rows) - base) / BPS
        for row in shown.tolist():
            x, y = axes.x(float(at_ms[row])), axes.y(float(away[row]))
            trade = rows["kind"][row] == TRADE
            if trade and judged.final[int(rows["trade_id"][row])] == WICK:
                yield f'<path d="M{x - 5:.1f} {y - 5:.1f}l10 10m0 -10l-10 10" stroke="{RED}" stroke-width="2.5"/>'
            else:
                look = 'r="3"' if trade else 'r="1.8" opacity="0.35"'
                yield f'<circle cx="{x:.1f}" cy="{y:.1f}" {look} fill="{COLOURS[venue]}"/>'


def _hold(axes: Axes, receive_ms: float, window_ms: float) -> str:
    left, right = axes.x(receive_ms), axes.x(receive_ms + window_ms)
    return (
        f'<rect x="{left:.1f}" y="{PLOT[1]}" width="{right - left:.1f}" height="{PLOT[3] - PLOT[1]}" fill="#eef2ff"/>'
        f'<text x="{left + 6:.1f}" y="{PLOT[3] - 8}" fill="#667">held for W = {window_ms:.0f} ms</text>'
    )


def _svg(title: str, axes: Axes, shapes: Iterable[str], lines: list[str]) -> str:
    left, top, right, bottom = PLOT
    first, *dots = shapes
    grid = []
    for bps in np.arange(np.ceil(axes.low / 100) * 100, axes.high, 100).tolist():
        y = axes.y(bps)
        grid.append(f'<path d="M{left} {y:.1f}H{right}" stroke="#ddd"/>')
        grid.append(f'<text x="{left - 6}" y="{y + 4:.1f}" text-anchor="end">{bps / 100:.0f} %</text>')
    for at_ms in np.arange(np.ceil(axes.left / 100) * 100, axes.right, 100).tolist():
        x = axes.x(at_ms)
        grid.append(f'<text x="{x:.1f}" y="{bottom + 18}" text-anchor="middle">{at_ms - EVENT_MS:.0f}</text>')
    legend = [
        f'<circle cx="{left + 8 + 96 * place}" cy="{HEIGHT - 16}" r="4" fill="{COLOURS[venue]}"/>'
        f'<text x="{left + 17 + 96 * place}" y="{HEIGHT - 12}">{VENUES[venue]}</text>'
        for place, venue in enumerate(range(len(LATENCY_MS)))
    ]
    legend.append(f'<text x="{left + 500}" y="{HEIGHT - 12}">faint: quotes, <tspan fill="{RED}">✕</tspan> wick</text>')
    text = [
        f'<text x="{right + 24}" y="{top + 14 + 17 * number}" xml:space="preserve" class="m">{escape(line)}</text>'
        for number, line in enumerate(lines)
    ]
    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {HEIGHT}"',
        ' font-family="sans-serif" font-size="12">',
        "<style>.m{font-family:monospace;font-size:12px}</style>",
        f'<rect width="{WIDTH}" height="{HEIGHT}" fill="white"/>',
        f'<text x="{left}" y="30" font-size="17" font-weight="bold">{escape(title)}</text>',
        first,
        *grid,
        *dots,
        f'<rect x="{left}" y="{top}" width="{right - left}" height="{bottom - top}" fill="none" stroke="#999"/>',
        f'<text x="{right}" y="{bottom + 34}" text-anchor="end">ms of receive time since the event on its venue</text>',
        *legend,
        *text,
        "</svg>",
    ]
    return "\n".join(parts) + "\n"
