"""The archive: every released tick with its verdict as Parquet files, whole or not there.

A file is a recording too (its columns include a recording's), so an archive can be replayed. Ticks of a file that
was not finished when the process was killed are lost; the candles made of them are not (they are spooled).
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Final

import numpy as np
import polars as pl
from bytewax.outputs import DynamicSink, StatelessSinkPartition

from market.records import VERDICTS, ForgedTicks
from market.schema import F64, KINDS, TRADE, UNSTAMPED, Bool, Rows, join
from market.venues import VENUES

FILE_ROWS: Final = 200_000
"""Rows a worker holds at most before they become a file (about 30 MB)."""
GROUP_ROWS: Final = 50_000
FILE_S: Final = 60.0
"""A file covers at most about this many seconds of running."""


class ArchiveSink(DynamicSink[ForgedTicks]):
    """ForgedTicks into Parquet files, a series of files a worker."""

    def __init__(self, directory: Path, names: Sequence[str], clock: Callable[[], float] = time.monotonic) -> None:
        """Describe the sink.

        Args:
            directory: Where files appear; made if it is not there.
            names: Symbols by code.
            clock: Monotonic seconds.
        """
        self._directory = directory
        self._names = names
        self._clock = clock

    def build(self, step_id: str, worker_index: int, worker_count: int) -> ArchivePartition:
        """Begin this worker's series of files."""
        self._directory.mkdir(parents=True, exist_ok=True)
        return ArchivePartition(self._directory, worker_index, self._names, self._clock)


class ArchivePartition(StatelessSinkPartition[ForgedTicks]):
    """One worker's series of files."""

    def __init__(self, directory: Path, worker: int, names: Sequence[str], clock: Callable[[], float]) -> None:
        self._directory = directory
        self._worker = worker
        self._names = names
        self._clock = clock
        self._held: list[ForgedTicks] = []
        self._held_rows = 0
        self._since_s = 0.0

    def write_batch(self, items: list[ForgedTicks]) -> None:
        """Hold ticks; write a file when there are enough, or the first is old enough."""
        for item in items:
            if not len(item.ticks):
                continue
            if not self._held:
                self._since_s = self._clock()
            self._held.append(item)
            self._held_rows += len(item.ticks)
            if self._held_rows >= FILE_ROWS or self._clock() - self._since_s >= FILE_S:
                self._write_file()

    def close(self) -> None:
        """Write what is held."""
        self._write_file()

    def _write_file(self) -> None:
        if not self._held:
            return
        frame = archive_frame(_joined(self._held), self._names)
        path = self._free_path(int(self._held[0].release_ns[0]))
        unfinished = path.with_suffix(".tmp")
        frame.write_parquet(unfinished, compression="zstd", row_group_size=GROUP_ROWS)
        unfinished.rename(path)
        self._held, self._held_rows = [], 0

    def _free_path(self, first_ns: int) -> Path:
        """Return a name nobody has, so that a run resumed over the same ticks overwrites nothing."""
        stem = f"ticks-{first_ns:020d}-w{self._worker}"
        path = self._directory / f"{stem}.parquet"
        copy = 1
        while path.exists():
            path = self._directory / f"{stem}-{copy}.parquet"
            copy += 1
        return path


def archive_frame(forged: ForgedTicks, names: Sequence[str]) -> pl.DataFrame:
    """Return released ticks as the archive's columns: names for codes, nulls where a kind has no such field."""
    ticks = forged.ticks
    is_trade: Bool = ticks["kind"] == TRADE
    stamped: Bool = (ticks["flags"] & UNSTAMPED) == 0
    columns = {
        "receive_ns": pl.Series(ticks["receive_ns"]),
        "exchange_ns": _where(ticks["exchange_ns"], stamped),
        "venue": _named(VENUES, ticks["venue"]),
        "symbol": _named(names, ticks["symbol"]),
        "kind": _named(KINDS, ticks["kind"]),
        "price": _where(ticks["price"], is_trade),
        "size": _where(ticks["size"], is_trade),
        "side": _where(ticks["side"], is_trade),
        "trade_id": _trade_ids(ticks, is_trade),
        **{name: _present(ticks[name]) for name in ("bid", "bid_size", "ask", "ask_size")},
        "event_ns": pl.Series(ticks["event_ns"]),
        "release_ns": pl.Series(forged.release_ns),
        "verdict": _named(VERDICTS, forged.verdict),
        "reference": _present(forged.reference),
        "deviation_bps": _present(forged.deviation_bps),
    }
    return pl.DataFrame(columns)


def _joined(parts: Sequence[ForgedTicks]) -> ForgedTicks:
    return ForgedTicks(
        join([part.ticks for part in parts]),
        np.concatenate([part.release_ns for part in parts]),
        np.concatenate([part.verdict for part in parts]),
        np.concatenate([part.reference for part in parts]),
        np.concatenate([part.deviation_bps for part in parts]),
    )


def _named(names: Sequence[str], codes: np.ndarray[tuple[int, ...], np.dtype[np.signedinteger]]) -> pl.Series:
    """Return names for codes, null for a negative one."""
    index = pl.Series(codes.astype(np.int64))
    index = index.set(index < 0, None)
    return pl.Series(list(names), dtype=pl.String).gather(index)


def _where(values: np.ndarray[tuple[int, ...], np.dtype[np.generic]], present: Bool) -> pl.Series:
    return pl.Series(np.ascontiguousarray(values)).set(pl.Series(~present), None)


def _present(values: F64) -> pl.Series:
    return pl.Series(np.ascontiguousarray(values)).fill_nan(None)


def _trade_ids(ticks: Rows, is_trade: Bool) -> pl.Series:
    ids = pl.Series(ticks["trade_id"].tolist(), dtype=pl.Binary).cast(pl.String)
    return ids.set(pl.Series(~is_trade), None)
