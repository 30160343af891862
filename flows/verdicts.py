"""Judgements of one recording side by side: counts, and the trades on which they disagree. Tables only, no I/O."""

from __future__ import annotations

from collections.abc import Sequence
from string import ascii_uppercase
from typing import Final

import numpy as np
import polars as pl
from rich.table import Table

from flows.rejudge import KEY, READMITTED, STATES, Judging
from market.records import CONFIRMED, UNVERIFIED, VERDICTS, WICK
from market.schema import I64
from market.venues import VENUES

MOST_SYMBOLS: Final = 15
NS_PER_MS: Final = 1_000_000
_SAME: Final = [*KEY, "nth", "event_ns"]


def side_by_side(judgings: Sequence[Judging], labels: Sequence[str]) -> pl.DataFrame:
    """Return every trade that any policy did not confirm, the farthest from its reference first.

    Columns: `rejudge.KEY`, `event_ns`; `reference`, `deviation_bps` and `why` of the first policy that has them; a
    column a label, what became of the trade (`rejudge.STATES`); `differs`, whether that is not the same everywhere.
    """
    frames = [each.not_confirmed().with_columns(setting=pl.lit(place)) for place, each in enumerate(judgings)]
    states = [
        pl.col("state").filter(pl.col("setting") == place).first().fill_null(VERDICTS[CONFIRMED]).alias(label)
        for place, label in enumerate(labels)
    ]
    facts = [pl.col(name).drop_nulls().first() for name in ("reference", "deviation_bps", "why")]
    found = pl.concat(frames).group_by(_SAME, maintain_order=True).agg(*facts, *states)
    differs = pl.any_horizontal([pl.col(label) != pl.col(labels[0]) for label in labels])
    order = pl.col("deviation_bps").abs()
    return (
        found.with_columns(differs=differs)
        .sort(order, descending=True, nulls_last=True, maintain_order=True)
        .drop("nth")
    )


def settings_table(judgings: Sequence[Judging], labels: Sequence[str], found: pl.DataFrame) -> Table:
    """Return a row a policy: trades by verdict, how many differ from the first row's, how long they were held.

    The letter that begins a row stands for it in the other tables.
    """
    table = Table(title="What became of the trades")
    table.add_column("")
    table.add_column("setting")
    counted = (CONFIRMED, UNVERIFIED, WICK)
    for name in ("trades", *(VERDICTS[verdict] for verdict in counted), "of them readmitted", "differ"):
        table.add_column(name, justify="right")
    for name in ("held ms", "at most", "added"):
        table.add_column(name, justify="right")
    means = [each.held_ns / max(1, int(each.first.sum())) / NS_PER_MS for each in judgings]
    for letter, judging, label, mean in zip(ascii_uppercase, judgings, labels, means, strict=False):
        first = judging.first.sum(axis=(0, 1))
        back = found.filter(pl.col(label) == STATES[READMITTED]).height
        differing = found.filter(pl.col(label) != pl.col(labels[0])).height
        counts = (int(first.sum()), *(int(first[verdict]) for verdict in counted), back, differing)
        held = (f"{mean:.1f}", f"{judging.most_held_ns / NS_PER_MS:.1f}", f"{mean - means[0]:+.1f}")
        table.add_row(letter, label, *(f"{count:,}" for count in counts), *held)
    return table


def venues_table(judgings: Sequence[Judging]) -> Table:
    """Return a row a venue that traded: wicks and unverified trades by policy."""
    rows = [(name, [each.first[:, code].sum(axis=0) for each in judgings]) for code, name in enumerate(VENUES)]
    return _counts("By venue", rows)


def symbols_table(judgings: Sequence[Judging], names: Sequence[str]) -> Table:
    """Return a row a symbol, those on which the policies disagree most first, then those with the most wicks."""
    counts = np.stack([each.first.sum(axis=1) for each in judgings])  # policies x symbols x verdicts
    spread = np.ptp(counts[:, :, WICK], axis=0) + np.ptp(counts[:, :, UNVERIFIED], axis=0)
    order = np.lexsort((-counts[:, :, WICK].max(axis=0), -spread))[:MOST_SYMBOLS]
    rows = [(names[code], list(counts[:, code])) for code in order.tolist()]
    return _counts("By symbol" if len(names) <= MOST_SYMBOLS else f"By symbol, {MOST_SYMBOLS} of {len(names)}", rows)


def _counts(title: str, rows: list[tuple[str, list[I64]]]) -> Table:
    """Return a table of trades by verdict; `rows` hold a column of counts a policy."""
    table = Table(title=f"{title}: wicks, unverified")
    table.add_column("")
    table.add_column("trades", justify="right")
    for letter, _ in zip(ascii_uppercase, rows[0][1], strict=False):
        table.add_column(letter, justify="right")
    for name, counts in rows:
        if counts[0].sum():
            table.add_row(name, f"{counts[0].sum():,}", *(f"{each[WICK]:,}, {each[UNVERIFIED]:,}" for each in counts))
    return table


def trades_table(found: pl.DataFrame, labels: Sequence[str], most: int) -> Table:
    """Return the first `most` trades on which policies disagree, numbered."""
    differing = found.filter("differs")
    table = Table(
        title=f"Trades that are judged differently, the {min(most, differing.height)} farthest of {differing.height:,}"
    )
    for name in ("", "event time, UTC", "venue", "symbol", "side"):
        table.add_column(name)
    for name in ("price", "reference", "bps"):
        table.add_column(name, justify="right")
    for letter, _ in zip(ascii_uppercase, labels, strict=False):
        table.add_column(letter)
    moment = pl.from_epoch("event_ns", "ns").dt.strftime("%Y-%m-%d %H:%M:%S%.3f")
    for number, row in enumerate(differing.head(most).with_columns(moment=moment).iter_rows(named=True), 1):
        facts = [row["moment"], row["venue"], row["symbol"], {1: "buy", -1: "sell"}.get(row["side"], "")]
        prices = [f"{row['price']:.10g}", _or_blank(row["reference"], ".8g"), _or_blank(row["deviation_bps"], "+.1f")]
        table.add_row(str(number), *facts, *prices, *(row[label] for label in labels))
    return table


def reasons(found: pl.DataFrame, most: int) -> list[str]:
    """Return in words why the trades of `trades_table` were filtered, numbered as there; nothing where none did."""
    words = found.filter("differs")["why"].head(most).to_list()
    return [f"{number}. {text}" for number, text in enumerate(words, 1) if text is not None]


def _or_blank(value: float | None, form: str) -> str:
    return "" if value is None else format(value, form)
