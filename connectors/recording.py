"""Tick recordings: Parquet with the columns below in receive order, one file or a folder of files in order of names.

Raw frames are another thing: `connectors.frame_files` reads them, `connectors.importing` makes them a tick recording.
"""

from __future__ import annotations

from collections import Counter
from pathlib import Path
from typing import Final

import numpy as np
import polars as pl

from market.schema import (
    BUY,
    KINDS,
    NO_SIDE,
    QUOTE,
    REPLAYED,
    SELL,
    TRADE,
    TRADE_ID_BYTES,
    UNSTAMPED,
    Rows,
    empty_ticks,
)
from market.venues import VENUE_CODES
from market.venues import VENUES as NAMES

COLUMNS: Final = {
    "receive_ns": pl.Int64,
    "exchange_ns": pl.Int64,
    "venue": pl.String,
    "symbol": pl.String,
    "kind": pl.String,
    "price": pl.Float64,
    "size": pl.Float64,
    "side": pl.Int8,
    "trade_id": pl.String,
    "bid": pl.Float64,
    "bid_size": pl.Float64,
    "ask": pl.Float64,
    "ask_size": pl.Float64,
}
"""Columns of a tick recording and their types; null where a kind has no such field or the venue gave no time."""

REPLAY_FLAG: Final = "replayed"
"""A further column, Boolean, that a recording may have: the venue repeated this trade after a subscription."""
CHECK_ROWS: Final = 1_000_000
_TRADE_COLUMNS: Final = ("price", "size")
_QUOTE_COLUMNS: Final = ("bid", "bid_size", "ask", "ask_size")


class RecordingError(ValueError):
    """A recording that is missing or cannot be read. Its text is one line for the user."""


def ticks_to_frame(ticks: Rows, names: list[str] | tuple[str, ...]) -> pl.DataFrame:
    """Return n TICK rows as a tick recording; `names[code]` are the symbols."""
    trade = ticks["kind"] == TRADE
    columns: dict[str, pl.Series] = {}
    for name in _TRADE_COLUMNS + _QUOTE_COLUMNS:
        columns[name] = pl.Series(name, np.ascontiguousarray(ticks[name])).fill_nan(None)
    exchange = pl.Series("exchange_ns", np.where(ticks["flags"] & UNSTAMPED, 0, ticks["exchange_ns"]))
    table = pl.DataFrame(
        {
            "receive_ns": np.ascontiguousarray(ticks["receive_ns"]),
            "exchange_ns": exchange.replace(0, None),
            "venue": pl.Series(np.array(NAMES, dtype=object)[ticks["venue"]], dtype=pl.String),
            "symbol": pl.Series(np.array(names, dtype=object)[ticks["symbol"]], dtype=pl.String),
            "kind": pl.Series(np.array(KINDS, dtype=object)[ticks["kind"]], dtype=pl.String),
            **columns,
            "side": pl.Series(np.ascontiguousarray(ticks["side"])),
            "trade_id": pl.Series([i.decode() or None for i in ticks["trade_id"].tolist()], dtype=pl.String),
        }
    )
    return table.with_columns(pl.when(pl.Series(trade)).then(pl.col("side")).alias("side")).select(
        pl.col(name).cast(kind) for name, kind in COLUMNS.items()
    )


def frame_to_ticks(table: pl.DataFrame, codes: dict[str, int]) -> tuple[Rows, Counter[str]]:
    """Return the rows of a tick recording as TICK rows in the same order, and what was rejected, by reason.

    Rejected are rows without a receive time, of an unknown venue or kind, of a symbol without a code, trades whose
    price or size is not above zero, a side other than -1, 0, 1, and trade ids that do not fit or are not ASCII.
    """
    replayed = table[REPLAY_FLAG].to_numpy() if REPLAY_FLAG in table.columns else np.zeros(len(table), bool)
    table = table.select(
        pl.col(name).cast(pl.Int64 if kind.is_integer() else kind, strict=False) for name, kind in COLUMNS.items()
    )
    ticks = empty_ticks(len(table))
    venue = table["venue"].replace_strict(VENUE_CODES, default=-1, return_dtype=pl.Int8).to_numpy()
    symbol = table["symbol"].replace_strict(codes, default=-1, return_dtype=pl.Int32).to_numpy()
    kind = (
        table["kind"].replace_strict({k: i for i, k in enumerate(KINDS)}, default=-1, return_dtype=pl.Int8).to_numpy()
    )
    side = table["side"].fill_null(NO_SIDE).to_numpy()
    ids = table["trade_id"].fill_null("")
    bad_id = ((ids.str.len_bytes() > TRADE_ID_BYTES) | (ids.str.len_bytes() != ids.str.len_chars())).to_numpy()
    ticks["venue"], ticks["symbol"], ticks["kind"] = venue, symbol, kind
    for name in _TRADE_COLUMNS + _QUOTE_COLUMNS:
        ticks[name] = table[name].fill_null(float("nan")).to_numpy()
    ticks["side"] = np.clip(side, SELL, BUY)
    ticks["trade_id"] = np.where(bad_id, "", ids.to_numpy()).astype("S") if len(table) else b""
    ticks["receive_ns"] = table["receive_ns"].fill_null(0).to_numpy()
    ticks["exchange_ns"] = table["exchange_ns"].fill_null(0).to_numpy()
    ticks["flags"] = np.where(table["exchange_ns"].is_null().to_numpy(), UNSTAMPED, 0) | np.where(replayed, REPLAYED, 0)
    reasons = {
        "no receive time": table["receive_ns"].is_null().to_numpy(),
        "unknown venue": venue < 0,
        "unknown symbol": symbol < 0,
        "unknown kind": kind < 0,
        "bad price": (kind == TRADE) & ~(np.isfinite(ticks["price"]) & (ticks["price"] > 0)),
        "bad size": (kind == TRADE) & ~(np.isfinite(ticks["size"]) & (ticks["size"] > 0)),
        "bad side": np.abs(side) > BUY,
        "bad trade id": bad_id,
    }
    quote = kind == QUOTE
    for book in ("bid", "ask"):
        absent = quote & ~(np.isfinite(ticks[book]) & (ticks[book] > 0))
        ticks[book][absent] = np.nan
    bad = np.zeros(len(table), bool)
    rejects: Counter[str] = Counter()
    for reason, rows in reasons.items():
        rejects[reason] += int((rows & ~bad).sum())
        bad |= rows
    return ticks[~bad], +rejects


def scan(path: Path) -> pl.LazyFrame:
    """Return a recording unread; nothing in its path has a meaning of its own."""
    return pl.scan_parquet(path, glob=False, hive_partitioning=False)


def _check_columns(path: Path, found: pl.Schema) -> None:
    missing = set(COLUMNS) - set(found)
    if missing:
        text = f"{path} lacks the columns {', '.join(sorted(missing))}"
        raise RecordingError(text)
    for name, wanted in COLUMNS.items():
        kind = found[name]
        integer, number = wanted.is_integer(), wanted.is_numeric()
        fits = kind.is_integer() if integer else kind.is_numeric() if number else kind == wanted
        if not fits and kind != pl.Null:
            text = f"{path}: the column {name} is {kind}, not {wanted}"
            raise RecordingError(text)


def check_recording(path: Path) -> tuple[list[str], list[str], int]:
    """Return (venues, symbols, rows) of a tick recording, names sorted.

    Raises:
        RecordingError: It is missing, is not Parquet, lacks columns or has them in other types, or is not in receive
            order.
    """
    if not path.exists():
        text = f"no recording at {path}"
        raise RecordingError(text)
    try:
        table = scan(path)
        _check_columns(path, table.collect_schema())
        found = table.select(
            pl.col("venue").unique().implode().alias("venue"),
            pl.col("symbol").unique().implode().alias("symbol"),
            pl.len().alias("rows"),
        ).collect(engine="streaming")
        in_order = _is_in_order(table.select("receive_ns"), int(found["rows"][0]))
    except (pl.exceptions.PolarsError, OSError) as error:
        text = f"{path} is not a readable Parquet file: {str(error).splitlines()[0]}"
        raise RecordingError(text) from None
    if not in_order:
        text = f"{path} is not in receive order (column receive_ns must not decrease)"
        raise RecordingError(text)
    venues = [v for v in found["venue"][0].to_list() if v in VENUE_CODES]
    symbols = [s for s in found["symbol"][0].to_list() if s is not None]
    return sorted(venues, key=VENUE_CODES.__getitem__), sorted(symbols), int(found["rows"][0])


def _is_in_order(times: pl.LazyFrame, rows: int) -> bool:
    """Return whether a column of times never decreases, CHECK_ROWS at a time; nulls are nowhere."""
    latest_ns = None
    for start in range(0, rows, CHECK_ROWS):
        part = times.slice(start, CHECK_ROWS).collect().to_series().drop_nulls()
        if not part.is_sorted() or (len(part) and latest_ns is not None and part[0] < latest_ns):
            return False
        latest_ns = part[-1] if len(part) else latest_ns
    return True


def columns_of(path: Path) -> list[str]:
    """Return the names of the columns that a checked recording has and a replay needs."""
    kinds = scan(path).collect_schema()
    return [*COLUMNS, *([REPLAY_FLAG] if kinds.get(REPLAY_FLAG) == pl.Boolean else [])]
