"""A recording through the real kernels, once for each policy: who would have judged what how. No dataflow, no stores.

Sequencing does not depend on the policy and is done once. What the forges get is what they get in the dataflow, so the
verdicts are those of a replay's archive (`tests/flows/test_judge.py`).
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Final

import numpy as np
import polars as pl

from connectors.replay import EndOfRecording, Recording
from flows.recorded import Recorded
from market.records import CONFIRMED, VERDICTS, Wick
from market.schema import END_OF_INPUT, F64, I8, TICK, TRADE, Rows, TickBatch, join
from market.symbols import KEY_GROUPS, SymbolTable
from market.venues import VENUE_CODES, VENUES
from market.words import why
from operators.forge import Forged, ForgeKernel, ForgePolicy
from operators.sequence import SequenceKernel, Slice

READMITTED: Final = len(VERDICTS)
STATES: Final = (*VERDICTS, "readmitted")
"""What becomes of a trade in the end: a verdict, or a wick that was let back in."""
KEY: Final = ["venue", "symbol", "trade_id", "receive_ns", "price", "size", "side"]
"""What tells a trade, with its place among equal ones."""

_NO_TICKS: Final = np.zeros(0, TICK)


@dataclass(slots=True)
class _Told:
    """A wick with names, for `market.words`."""

    venue: str
    symbol: str
    price: float
    reference: float
    deviation_bps: float
    dispersion_bps: float
    basis_bps: float
    witnesses: int


class Judging:
    """The forges of one policy, and what they said.

    Memory: the kernels; a number a symbol, venue and verdict; and some 150 bytes a trade that was not confirmed, a
    sentence more if it was a wick. Trades are confirmed by the million, so those are only counted.

    Attributes:
        policy: How it judges.
        first: symbols x venues x verdicts int64, trades by their verdict when they were released.
        held_ns: Sum of the times from receipt to release.
        most_held_ns: The longest.
    """

    def __init__(self, policy: ForgePolicy, table: SymbolTable) -> None:
        self.policy = policy
        self.first = np.zeros((len(table), len(VENUES), len(VERDICTS)), np.int64)
        self.held_ns = 0
        self.most_held_ns = 0
        self._table = table
        self._forges = [ForgeKernel(table.of_group(group), policy) for group in range(KEY_GROUPS)]
        self._kept = _Kept()

    def add(self, group: int, slices: list[Slice]) -> None:
        """Take a key group's ticks and watermarks."""
        forged = self._forges[group].add(slices)
        if forged is not None:
            self._take(forged)

    def _take(self, forged: Forged) -> None:
        out = forged.released
        trades = np.flatnonzero(out.ticks["kind"] == TRADE)
        verdict = out.verdict[trades]
        rows = out.ticks.take(trades)
        np.add.at(self.first, (rows["symbol"], rows["venue"], verdict), 1)
        if trades.size:
            held_ns = out.release_ns[trades] - rows["receive_ns"]
            self.held_ns += int(held_ns.sum())
            self.most_held_ns = max(self.most_held_ns, int(held_ns.max()))
        told = np.flatnonzero(verdict != CONFIRMED)
        if told.size:
            self._kept.rows.append(rows.take(told))
            self._kept.verdict.append(verdict[told])
            self._kept.reference.append(out.reference[trades[told]])
            self._kept.deviation_bps.append(out.deviation_bps[trades[told]])
        if forged.readmitted.size:
            self._kept.back.append(forged.readmitted.copy())
        for wick in forged.wicks:
            if not wick.readmitted_ns:
                told_of = (VENUES[wick.venue], self._table.names[wick.symbol], wick.trade_id, wick.receive_ns)
                self._kept.why[told_of] = self._words(wick)

    def _words(self, wick: Wick) -> str:
        told = _Told(
            VENUES[wick.venue],
            self._table.names[wick.symbol],
            wick.price,
            wick.reference,
            wick.deviation_bps,
            wick.dispersion_bps,
            wick.basis_bps,
            wick.witnesses,
        )
        return why(told, wick.evidence)

    def not_confirmed(self) -> pl.DataFrame:
        """Return the trades that were not confirmed at their release, in the order of it.

        Columns: KEY, `nth` (place among trades equal in KEY), `event_ns`, `state` (of STATES), `reference`,
        `deviation_bps`, and `why` of a wick.
        """
        kept = self._kept
        columns = {
            "state": pl.Series(np.concatenate([np.zeros(0, np.int8), *kept.verdict])),
            "reference": pl.Series(np.concatenate([np.zeros(0), *kept.reference])).fill_nan(None),
            "deviation_bps": pl.Series(np.concatenate([np.zeros(0), *kept.deviation_bps])).fill_nan(None),
        }
        found = _keyed(join([_NO_TICKS, *kept.rows]), self._table).with_columns(**columns)
        back = _keyed(join([_NO_TICKS, *kept.back]), self._table).select(*KEY, "nth", back=pl.lit(True))
        found = found.join(back, [*KEY, "nth"], how="left", maintain_order="left")
        code = pl.when("back").then(pl.lit(READMITTED, pl.Int8)).otherwise("state")
        found = found.with_columns(state=code.replace_strict(dict(enumerate(STATES)), return_dtype=pl.String))
        reasons = ["venue", "symbol", "trade_id", "receive_ns"]
        return found.drop("back").join(self._reasons(), reasons, how="left", maintain_order="left")

    def _reasons(self) -> pl.DataFrame:
        schema = {"venue": pl.String, "symbol": pl.String, "trade_id": pl.String, "receive_ns": pl.Int64}
        rows = [(*told_of, text) for told_of, text in self._kept.why.items()]
        return pl.DataFrame(rows, {**schema, "why": pl.String}, orient="row")


@dataclass(slots=True)
class _Kept:
    """Trades that were not confirmed, in parts, and wicks in words."""

    rows: list[Rows] = field(default_factory=list)
    verdict: list[I8] = field(default_factory=list)
    reference: list[F64] = field(default_factory=list)
    deviation_bps: list[F64] = field(default_factory=list)
    back: list[Rows] = field(default_factory=list)
    why: dict[tuple[str, str, str, int], str] = field(default_factory=dict)
    """Venue, symbol, trade id and time of receipt of a wick -> the verdict in words."""


def _keyed(ticks: Rows, table: SymbolTable) -> pl.DataFrame:
    frame = pl.DataFrame(
        {
            "venue": pl.Series([VENUES[code] for code in ticks["venue"].tolist()], dtype=pl.String),
            "symbol": pl.Series([table.names[code] for code in ticks["symbol"].tolist()], dtype=pl.String),
            "trade_id": pl.Series([each.decode() for each in ticks["trade_id"].tolist()], dtype=pl.String),
            **{name: np.ascontiguousarray(ticks[name]) for name in ("receive_ns", "price", "size", "side", "event_ns")},
        }
    )
    return frame.with_columns(nth=pl.int_range(pl.len()).over(KEY))


def rejudge(
    recorded: Recorded, policies: Sequence[ForgePolicy], advance: Callable[[int], None] = lambda _: None
) -> list[Judging]:
    """Run a recording through fresh kernels, and its ticks through a forge of each policy.

    Args:
        recorded: The recording.
        policies: Their venues are the recording's.
        advance: Told how many rows have been read since the last time.
    """
    table = recorded.table
    recording = Recording(recorded.path, table, recorded.venues, None)
    judgings = [Judging(policy, table) for policy in policies]
    sequences = {name: SequenceKernel(VENUE_CODES[name], table.groups) for name in recorded.venues}
    for name in recorded.venues:
        recording.join(name)
    over = False
    while not over:
        parts, over = _step(recording, recorded.venues)
        sequenced = [sequences[name].add(part) for name, part in parts.items()]
        for group in range(KEY_GROUPS):
            for judging in judgings:
                judging.add(group, [each.slices[group] for each in sequenced])
        advance(sum(part.ticks.size for part in parts.values()))
    return judgings


def _step(recording: Recording, venues: Sequence[str]) -> tuple[dict[str, TickBatch], bool]:
    """Return the next batch of each venue, and whether it was the last."""
    try:
        taken = {name: recording.take(name) for name in venues}
    except EndOfRecording:
        return {name: TickBatch(VENUE_CODES[name], _NO_TICKS, END_OF_INPUT) for name in venues}, True
    assert all(part is not None for part in taken.values()), "venues are in step"
    return {name: TickBatch(VENUE_CODES[name], *part) for name, part in taken.items() if part is not None}, False
