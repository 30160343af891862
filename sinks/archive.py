"""The archive: every released tick with its verdict as Parquet files, each whole or not there.

A file is a recording too (its columns include a recording's), so an archive can be replayed. A key group has a series
of files of its own. The newest is an unfinished one of chunks (`.part`), to which what is released is appended at each
snapshot. A run that is resumed from a snapshot cuts it there, and takes back files that were finished since: so an
archive holds each tick once, however the run before ended. Without state, what a killed run left is finished.
"""

from __future__ import annotations

import fcntl
import os
import secrets
import time
from collections.abc import Callable, Iterator, Sequence
from io import BytesIO
from pathlib import Path
from typing import BinaryIO, Final, NamedTuple

import numpy as np
import polars as pl
from bytewax.outputs import FixedPartitionedSink, StatefulSinkPartition

from market.records import VERDICTS, ForgedTicks, LetGo
from market.schema import F64, KINDS, TRADE, UNSTAMPED, Bool, Rows, join
from market.symbols import KEY_GROUPS
from market.venues import VENUES

HELD_ROWS: Final = 20_000
"""Rows a key group holds in memory at most (about 3 MB)."""
FILE_ROWS: Final = 100_000
"""Rows of a file, about: it is finished at the first snapshot with as many."""
GROUP_ROWS: Final = 50_000
FILE_S: Final = 300.0
"""A file covers at most about this many seconds of running."""
_SIZE_BYTES: Final = 8
"""Of the number before each chunk of an unfinished file: how long it is."""


class Mark(NamedTuple):
    """Where a series of files stands.

    Attributes:
        series: Its name, part of its files' names.
        number: Of the unfinished file, from 0.
        rows: Ticks in it.
        size: Its bytes.
    """

    series: str
    number: int
    rows: int
    size: int


class ArchiveSink(FixedPartitionedSink[ForgedTicks | LetGo, Mark]):
    """ForgedTicks into Parquet files, a series of files a key group."""

    def __init__(self, directory: Path, names: Sequence[str], clock: Callable[[], float] = time.monotonic) -> None:
        """Describe the sink.

        Args:
            directory: Where files appear; made if it is not there.
            names: Symbols by code. Names may change for symbols that are let go, after the sink was told.
            clock: Monotonic seconds.
        """
        self._directory = directory
        self._names = names
        self._clock = clock

    def list_parts(self) -> list[str]:
        """Return the key groups."""
        return [str(group) for group in range(KEY_GROUPS)]

    def part_fn(self, item_key: str) -> int:
        """Return the key group itself."""
        return int(item_key)

    def build_part(self, step_id: str, for_part: str, resume_state: Mark | None) -> ArchivePartition:
        """Begin a key group's series of files, or go on with it."""
        self._directory.mkdir(parents=True, exist_ok=True)
        return ArchivePartition(self._directory, for_part, self._names, self._clock, resume_state)


class ArchivePartition(StatefulSinkPartition[ForgedTicks | LetGo, Mark]):
    """One key group's series of files."""

    def __init__(
        self, directory: Path, part: str, names: Sequence[str], clock: Callable[[], float], mark: Mark | None
    ) -> None:
        self._directory = directory
        self._names = names
        self._clock = clock
        self._held: list[ForgedTicks] = []
        self._held_rows = 0
        self._file: BinaryIO | None = None
        self._since_s = clock()
        self._mark = mark or Mark(f"{secrets.token_hex(4)}g{part}", 0, 0, 0)
        if mark is not None:
            self._go_back(mark)
        for left in directory.glob(f"*g{part}-*.part"):
            with left.open("rb+") as file:
                if _lock(file):  # else it is that of a running flow, this one perhaps
                    _finish(file)

    def write_batch(self, values: list[ForgedTicks | LetGo]) -> None:
        """Hold ticks; append them to the file when there are many."""
        for value in values:
            if isinstance(value, LetGo):
                self._append()  # while the codes in it mean these symbols
                continue
            self._held.append(value)
            self._held_rows += len(value.ticks)
            if self._held_rows >= HELD_ROWS:
                self._append()

    def snapshot(self) -> Mark:
        """Append what is held; finish the file if it is large or old enough. Return where the series stands."""
        self._append()
        if self._file is not None and (self._mark.rows >= FILE_ROWS or self._clock() - self._since_s >= FILE_S):
            self._finish()
        return self._mark

    def close(self) -> None:
        """Append what is held and finish the file."""
        self._append()
        self._finish()

    def _append(self) -> None:
        held, self._held, self._held_rows = [one for one in self._held if len(one.ticks)], [], 0
        if not held:
            return
        if self._file is None:
            self._begin(f"ticks-{int(held[0].release_ns[0]):020d}-{self._mark.series}-{self._mark.number}.part")
        self._add(archive_frame(_joined(held), self._names))

    def _begin(self, name: str) -> None:
        """Open an unfinished file, at its end if it is there."""
        self._file = (self._directory / name).open("ab", buffering=0)
        _lock(self._file)
        self._since_s = self._clock()

    def _add(self, frame: pl.DataFrame) -> None:
        assert self._file is not None
        chunk = _chunk(frame)
        self._file.write(chunk)
        series, number, rows, size = self._mark
        self._mark = Mark(series, number, rows + frame.height, size + len(chunk))

    def _finish(self) -> None:
        if self._file is None:
            return
        with Path(self._file.name).open("rb") as file:
            _finish(file)
        self._file.close()
        self._file = None
        self._mark = Mark(self._mark.series, self._mark.number + 1, 0, 0)

    def _go_back(self, mark: Mark) -> None:
        """Take back what the series got after a snapshot."""
        for path in self._directory.glob(f"*-{mark.series}-*.*"):
            number = int(path.stem.rpartition("-")[2])
            if number > mark.number or path.suffix == ".tmp" or (number == mark.number and not mark.rows):
                path.unlink()
        for path in self._directory.glob(f"*-{mark.series}-{mark.number}.part"):
            path.with_suffix(".parquet").unlink(missing_ok=True)  # it was killed before it could drop the other
            self._begin(path.name)
            os.truncate(path, min(mark.size, path.stat().st_size))
        for path in self._directory.glob(f"*-{mark.series}-{mark.number}.parquet"):
            self._begin(path.with_suffix(".part").name)
            self._mark = Mark(mark.series, mark.number, 0, 0)
            self._add(pl.read_parquet(path).head(mark.rows))
            path.unlink()


def _lock(file: BinaryIO) -> bool:
    """Lock a file for as long as it is open in this process; return False if another process has it, or we."""
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


def _finish(file: BinaryIO) -> None:
    """Make a Parquet file of an unfinished one, and drop that."""
    path = Path(file.name)
    frames = list(_chunks(file))
    if frames:
        unfinished = path.with_suffix(".tmp")
        pl.concat(frames).write_parquet(unfinished, compression="zstd", row_group_size=GROUP_ROWS)
        unfinished.rename(path.with_suffix(".parquet"))
    path.unlink()


def _chunk(frame: pl.DataFrame) -> bytes:
    """Return ticks as a chunk, its length before it."""
    data = BytesIO()
    frame.write_ipc_stream(data, compression="lz4")
    return len(data.getvalue()).to_bytes(_SIZE_BYTES, "little") + data.getvalue()


def _chunks(file: BinaryIO) -> Iterator[pl.DataFrame]:
    """Yield the chunks of a file; the last one is left out if it was not written to its end."""
    while len(size := file.read(_SIZE_BYTES)) == _SIZE_BYTES:
        data = file.read(int.from_bytes(size, "little"))
        if len(data) < int.from_bytes(size, "little"):
            return
        yield pl.read_ipc_stream(BytesIO(data))


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
