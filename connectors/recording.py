"""Recordings: ticks as Parquet, raw frames as folders, and the way from the second to the first.

A tick recording has the columns of DESIGN 3 in receive order. A folder of raw frames is decoded into one once, at the
start of a replay, so that there is one way to replay.
"""

from __future__ import annotations

import logging
import os
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

import msgspec
import numpy as np
import polars as pl

from connectors.recorder import RecordedFrame
from connectors.venue import OpenCatalog
from connectors.venues import VENUES
from market.schema import (
    BUY,
    KINDS,
    NO_SIDE,
    QUOTE,
    SELL,
    TICK,
    TRADE,
    TRADE_ID_BYTES,
    UNSTAMPED,
    Rows,
    empty_ticks,
    join,
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

DECODE_FRAMES: Final = 5_000
_TRADE_COLUMNS: Final = ("price", "size")
_QUOTE_COLUMNS: Final = ("bid", "bid_size", "ask", "ask_size")

log = logging.getLogger("mie.recording")


class RecordingError(ValueError):
    """A recording that is missing or cannot be read. Its text is one line for the user."""


@dataclass(slots=True)
class Imported:
    """What decoding a folder gave: ticks in receive order, symbol names, and counts a venue."""

    ticks: Rows
    names: list[str]
    frames: Counter[str] = field(default_factory=Counter)
    rejects: Counter[tuple[str, str]] = field(default_factory=Counter)


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
    ticks["flags"] = np.where(table["exchange_ns"].is_null().to_numpy(), UNSTAMPED, 0)
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


def read_folder(folder: Path) -> Imported:
    """Decode a folder of raw frames, `<venue>/*.jsonl`.

    Lines are `{"receive_ns":…,"frame":"…"}` or bare frames; a bare frame counts as received at the venue's time of
    its first tick. A torn last line is a reject. Receive times are made non-decreasing within a venue.

    Raises:
        RecordingError: There is no such folder, or no venue in it.
    """
    if not folder.is_dir():
        text = f"no folder {folder}"
        raise RecordingError(text)
    venues = sorted((p for p in folder.iterdir() if p.is_dir() and p.name in VENUES), key=lambda p: VENUE_CODES[p.name])
    files = {path.name: sorted(path.glob("*.jsonl")) for path in venues}
    if not any(files.values()):
        text = f"{folder} holds no <venue>/*.jsonl, venues being {', '.join(VENUES)}"
        raise RecordingError(text)
    result = Imported(np.zeros(0, TICK), [])
    codes: dict[str, int] = {}
    parts: list[Rows] = []
    for name, paths in files.items():
        parts += _read_venue(name, paths, codes, result)
    result.names = list(codes)
    if parts:
        ticks = join(parts)
        result.ticks = ticks[np.argsort(ticks["receive_ns"], kind="stable")]
    return result


def _read_venue(name: str, paths: list[Path], codes: dict[str, int], result: Imported) -> Iterator[Rows]:
    venue = VENUES[name]
    catalog = OpenCatalog(venue.symbol_of_native)
    latest_ns = 0
    for path in paths:
        for frames, receive_ns in _chunks(path):
            decoded = venue.decode(frames, receive_ns, catalog)
            result.frames[name] += len(frames)
            for reject in decoded.rejects:
                result.rejects[name, reject.reason] += 1
            ticks = decoded.ticks
            if not ticks.size:
                continue
            for symbol in catalog.names:
                codes.setdefault(symbol, len(codes))
            ticks["symbol"] = np.array([codes[symbol] for symbol in catalog.names], np.int32)[ticks["symbol"]]
            bare = ticks["receive_ns"] == 0
            ticks["receive_ns"][bare] = ticks["exchange_ns"][bare]
            ticks["receive_ns"] = np.maximum(np.maximum.accumulate(ticks["receive_ns"]), latest_ns)
            latest_ns = int(ticks["receive_ns"][-1])
            yield ticks


def _chunks(path: Path) -> Iterator[tuple[list[bytes], np.ndarray]]:
    """Cut a file into frames and receive times, 0 for bare frames."""
    decode = msgspec.json.Decoder(RecordedFrame).decode
    frames: list[bytes] = []
    stamps: list[int] = []
    with path.open("rb") as lines:
        for raw in lines:
            line = raw.strip()
            if not line:
                continue
            try:
                recorded = decode(line)
                frames.append(recorded.frame.encode())
                stamps.append(recorded.receive_ns)
            except msgspec.MsgspecError:
                frames.append(line)
                stamps.append(0)
            if len(frames) == DECODE_FRAMES:
                yield frames, np.array(stamps, np.int64)
                frames, stamps = [], []
    if frames:
        yield frames, np.array(stamps, np.int64)


def import_folder(folder: Path, into: Path) -> tuple[Path, Imported]:
    """Decode a folder of raw frames into a tick recording in `into`; return its path and what was read."""
    imported = read_folder(folder)
    into.mkdir(parents=True, exist_ok=True)
    path = into / f"{folder.resolve().name}.{os.getpid()}.parquet"
    ticks_to_frame(imported.ticks, imported.names).write_parquet(path)
    return path, imported


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
        table = pl.scan_parquet(path)
        _check_columns(path, table.collect_schema())
        found = table.select(
            pl.col("venue").unique().implode().alias("venue"),
            pl.col("symbol").unique().implode().alias("symbol"),
            pl.col("receive_ns").is_sorted().alias("sorted"),
            pl.len().alias("rows"),
        ).collect()
    except (pl.exceptions.PolarsError, OSError) as error:
        text = f"{path} is not a readable Parquet file: {str(error).splitlines()[0]}"
        raise RecordingError(text) from None
    if not found["sorted"][0]:
        text = f"{path} is not in receive order (column receive_ns must not decrease)"
        raise RecordingError(text)
    venues = [v for v in found["venue"][0].to_list() if v in VENUE_CODES]
    symbols = [s for s in found["symbol"][0].to_list() if s is not None]
    return sorted(venues, key=VENUE_CODES.__getitem__), sorted(symbols), int(found["rows"][0])
