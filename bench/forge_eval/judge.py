"""Markets through the real kernels: one SequenceKernel a venue, one ForgeKernel, in batches as a collector sends them.

All symbols are put in one key group, so that one forge sees the whole market. Impossible trades take the way that a
replay's rows take, `connectors.recording`, which must reject them. Time is the market's; nothing here reads a clock.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Final

import numpy as np

from bench.forge_eval.ticks import NS_PER_MS, Market
from connectors.recording import frame_to_ticks, ticks_to_frame
from market.records import CONFIRMED, Wick
from market.schema import END_OF_INPUT, F64, I8, I64, TRADE, Rows, TickBatch
from operators.forge import Forged, ForgeKernel, ForgePolicy
from operators.sequence import SequenceKernel

FLUSH_MS: Final = 5.0
NEVER: Final = -1

Step = list[tuple[int, Rows, int]]
"""One call of the forge: (venue code, TICK rows, watermark) of some venues."""


@dataclass(slots=True)
class Judged:
    """What became of every trade; n trades, by id.

    Attributes:
        first: n int8, verdict at its release; NEVER if it was not released.
        final: n int8, the same after re-admissions.
        held_ms: n float64, from receipt to release.
        readmitted_ms: n float64, from receipt to re-admission; NaN if there was none.
        reference: n float64, as archived.
        event_ns: n int64.
        wicks: Trade id -> the last record of it.
        rejects: Reason -> rows that never became ticks.
        duplicates: Trades that were released twice; must be 0.
    """

    first: I8
    final: I8
    held_ms: F64
    readmitted_ms: F64
    reference: F64
    event_ns: I64
    wicks: dict[int, Wick] = field(default_factory=dict)
    rejects: Counter[str] = field(default_factory=Counter)
    duplicates: int = 0


def judge(market: Market, policy: ForgePolicy, steps: Iterator[Step] | None = None) -> Judged:
    """Run a market through fresh kernels, flushed every FLUSH_MS unless `steps` say otherwise."""
    ticks, rejects = admit(market)
    symbols = len(market.plan.instruments)
    sequences = {venue: SequenceKernel(venue, np.zeros(symbols, np.int64)) for venue in ticks}
    forge = ForgeKernel(np.arange(symbols), ForgePolicy(policy.window_ms, policy.min_witnesses, tuple(ticks)))
    results = []
    for step in steps or flushes(ticks):
        slices = [
            sequences[venue].add(TickBatch(venue, rows.copy(), watermark)).slices[0] for venue, rows, watermark in step
        ]
        result = forge.add(slices)
        if result is not None:
            results.append(result)
    judged = _collect(results, market.truth.size)
    judged.rejects = rejects
    return judged


def admit(market: Market) -> tuple[dict[int, Rows], Counter[str]]:
    """Return the ticks of a market less those that the recording's decoder rejects, and their number by reason."""
    if not any(one.faults for one in market.plan.instruments):
        return market.ticks, Counter()
    names = [f"S{code}-USDT" for code in range(len(market.plan.instruments))]
    codes = {name: code for code, name in enumerate(names)}
    admitted, rejects = {}, Counter[str]()
    for venue, rows in market.ticks.items():
        admitted[venue], refused = frame_to_ticks(ticks_to_frame(rows, names), codes)
        rejects += refused
    return admitted, rejects


def flushes(ticks: dict[int, Rows], flush_ms: float = FLUSH_MS) -> Iterator[Step]:
    """Cut ticks as collectors do that flush together, every `flush_ms`."""
    flush_ns = int(flush_ms * NS_PER_MS)
    first = min(int(rows["receive_ns"][0]) for rows in ticks.values() if rows.size)
    last = max(int(rows["receive_ns"][-1]) for rows in ticks.values() if rows.size)
    marks = np.arange(first // flush_ns + 1, last // flush_ns + 2) * flush_ns
    cuts = {venue: np.searchsorted(rows["receive_ns"], marks, side="right").tolist() for venue, rows in ticks.items()}
    done = dict.fromkeys(ticks, 0)
    for number, mark in enumerate(marks.tolist()):
        yield [(venue, rows[done[venue] : cuts[venue][number]], mark) for venue, rows in ticks.items()]
        done = {venue: cuts[venue][number] for venue in ticks}
    yield [(venue, rows[:0], END_OF_INPUT) for venue, rows in ticks.items()]


def chunks(ticks: dict[int, Rows], rng: np.random.Generator) -> Iterator[Step]:
    """Cut each venue's ticks at random places of its own and hand them on as venues far out of step would."""
    bounds = {venue: _bounds(rows, rng) for venue, rows in ticks.items()}
    place = dict.fromkeys(ticks, 0)
    while waiting := [venue for venue in ticks if place[venue] < len(bounds[venue]) - 1]:
        step: Step = []
        # Whoever is behind in time is likelier to go on, as a queue between processes would have it.
        behind = sorted(waiting, key=lambda venue: ticks[venue]["receive_ns"][bounds[venue][place[venue]]])
        for venue in behind[: int(rng.integers(1, 3))]:
            start, stop = bounds[venue][place[venue]], bounds[venue][place[venue] + 1]
            rows = ticks[venue]
            mark = int(rows["receive_ns"][stop]) - 1 if stop < rows.size else END_OF_INPUT
            step.append((venue, rows[start:stop], mark))
            place[venue] += 1
        yield step


def _bounds(rows: Rows, rng: np.random.Generator) -> list[int]:
    """Return random cuts; rows received at one moment stay together, or no watermark could be true between them."""
    cuts = rng.choice(rows.size, rows.size // 60, replace=False)
    together = np.searchsorted(rows["receive_ns"], rows["receive_ns"][cuts])
    return [*np.unique(np.append(together, 0)).tolist(), rows.size]


def _collect(results: list[Forged], trades: int) -> Judged:
    released = [result.released for result in results if result.released.ticks.size]
    ticks = np.concatenate([part.ticks for part in released])
    trade = ticks["kind"] == TRADE
    ids = _ids(ticks[trade])
    judged = Judged(
        first=np.full(trades, NEVER, np.int8),
        final=np.full(trades, NEVER, np.int8),
        held_ms=np.full(trades, np.nan),
        readmitted_ms=np.full(trades, np.nan),
        reference=np.full(trades, np.nan),
        event_ns=np.zeros(trades, np.int64),
    )
    judged.first[ids] = np.concatenate([part.verdict for part in released])[trade]
    judged.final[:] = judged.first
    release_ns = np.concatenate([part.release_ns for part in released])[trade]
    judged.held_ms[ids] = (release_ns - ticks["receive_ns"][trade]) / NS_PER_MS
    judged.reference[ids] = np.concatenate([part.reference for part in released])[trade]
    judged.event_ns[ids] = ticks["event_ns"][trade]
    judged.duplicates = int(ids.size - np.unique(ids).size)
    for result in results:
        back = _ids(result.readmitted)
        judged.final[back] = CONFIRMED
        judged.readmitted_ms[back] = (result.readmitted_release_ns - result.readmitted["receive_ns"]) / NS_PER_MS
        for wick in result.wicks:
            judged.wicks[int(wick.trade_id)] = wick
    return judged


def _ids(ticks: Rows) -> I64:
    return np.asarray(ticks["trade_id"].astype(np.int64))
