"""The account at the end of a soak: what the simulator made against what is in the archive and in `gaps`."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import polars as pl

KEY: Final = ("venue", "symbol", "id")
SLACK_NS: Final = 1_000_000_000
"""Tolerance of a gap's ends: stamps are cut to the venue's unit, and a fault may have set the venue's clock back."""
SIZE_TOLERANCE: Final = 1e-9
AROUND_NS: Final = 60_000_000_000
"""A fault that began so long before a trade may have to do with it."""


@dataclass(frozen=True, slots=True)
class Account:
    """Every trade of the ledger, by what became of it.

    A ledger row may stand for several fills, which arrive joined or one by one: it is whole if their sizes add up.

    Attributes:
        made: Rows of the ledger.
        whole: Of these, in the archive.
        in_gaps: Not in it, and within an unfilled row of `gaps`.
        missing: Neither: `venue symbol trade_id sent stamp_ns`.
        doubled: Rows of the ledger of which more is in the archive than was made, and ids that are there twice.
        unasked: Trades of the archive that the ledger does not know: history that a venue repeats, from before the run.
    """

    made: int
    whole: int
    in_gaps: int
    missing: pl.DataFrame
    doubled: pl.DataFrame
    unasked: int

    @property
    def is_balanced(self) -> bool:
        """Whether nothing is missing and nothing doubled."""
        return self.missing.is_empty() and self.doubled.is_empty()


def account(ledger: pl.DataFrame, archive: pl.DataFrame, gaps: pl.DataFrame) -> Account:
    """Balance the books.

    Args:
        ledger: `venue symbol trade_id size fills sent stamp_ns`, a row a trade made.
        archive: `venue symbol trade_id size`, a row a trade released.
        gaps: `venue symbol from_ns to_ns` of the unfilled gaps.
    """
    made = ledger.with_row_index("row")
    got = archive.with_columns(pl.col("trade_id").cast(pl.Int64).alias("id"))
    twice = got.group_by(KEY).len().filter(pl.col("len") > 1).select("venue", "symbol", trade_id="id")
    fills = made.select(
        "row",
        "venue",
        "symbol",
        pl.int_ranges(pl.col("trade_id") - pl.col("fills") + 1, pl.col("trade_id") + 1).alias("id"),
    ).explode("id")
    found = fills.join(got.unique(KEY), on=KEY).group_by("row").agg(pl.col("size").sum().alias("arrived"))
    rows = made.join(found, on="row", how="left").with_columns(pl.col("arrived").fill_null(0.0))
    part = pl.col("arrived") / pl.col("size")
    short = rows.filter(part < 1 - SIZE_TOLERANCE)
    over = rows.filter(part > 1 + SIZE_TOLERANCE).select("venue", "symbol", "trade_id")
    within = pl.col("stamp_ns").is_between(pl.col("from_ns") - SLACK_NS, pl.col("to_ns") + SLACK_NS)
    excused = short.join(gaps, on=("venue", "symbol")).filter(within).select("row").unique()
    missing = short.join(excused, on="row", how="anti").sort("stamp_ns")
    return Account(
        made=made.height,
        whole=made.height - short.height,
        in_gaps=excused.height,
        missing=missing.select("venue", "symbol", "trade_id", "sent", "stamp_ns"),
        doubled=pl.concat([twice, over]).unique().sort("venue", "symbol", "trade_id"),
        unasked=got.join(fills, on=KEY, how="anti").height,
    )


def read_ledger(path: Path, down: Sequence[tuple[int, int]] = ()) -> pl.DataFrame:
    """Return a simulator's `trades.csv`; a last line cut short by a kill is left out.

    Args:
        path: The file.
        down: When the flow was down, from and to: what was made then is owed to it, wanted by somebody or not.
    """
    rows = pl.scan_csv(path, truncate_ragged_lines=True).drop_nulls("stamp_ns")
    owed = [pl.col("stamp_ns").is_between(from_ns, to_ns) for from_ns, to_ns in down]
    return rows.filter(pl.any_horizontal(pl.col("sent") >= 0, *owed)).collect()


def read_archive(directory: Path) -> pl.DataFrame:
    """Return the trades of an archive."""
    columns = ("venue", "symbol", "trade_id", "size")
    return pl.scan_parquet(directory / "*.parquet").filter(kind="trade").select(columns).collect()


def suspects(missing: pl.DataFrame, faults: pl.DataFrame) -> pl.DataFrame:
    """Return missing trades counted by the newest fault of their venue before them, oldest first.

    Args:
        missing: As in `Account`.
        faults: `venue fault at_ns` of what began, in the order of time.
    """
    near = missing.sort("stamp_ns").join_asof(
        faults.sort("at_ns"),
        left_on="stamp_ns",
        right_on="at_ns",
        by="venue",
        tolerance=AROUND_NS,
        check_sortedness=False,
    )
    return (
        near.group_by("venue", "fault", "at_ns")
        .agg(pl.len().alias("trades"), pl.col("symbol").unique().sort(), pl.col("trade_id"), pl.col("sent").sum())
        .sort("at_ns", "venue")
    )
