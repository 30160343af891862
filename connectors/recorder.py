"""Raw frames to disk as received: `<dir>/<venue>/<start>.jsonl.gz`, one `{"receive_ns":...,"frame":"..."}` a line.

Frames are gathered for a second at most and written as one block, a complete gzip member. So kill -9 loses the last
second at most, what is on disk is readable to its last whole block, and `zcat` reads it while it grows. polars encodes
and compresses a block for two thirds of what msgspec and zlib take together; the price is its memory, so the collector
imports this module only when it records. Frames that are not UTF-8 are written with replacement characters.
`connectors.frame_files` reads it back.
"""

from __future__ import annotations

import io
import logging
from pathlib import Path
from typing import Final

import polars as pl

from connectors.frame_files import start_of
from market.venues import VENUES

BLOCK_FRAMES: Final = 2_048
"""Frames that make a block at once: with half of them polars' own cost a call shows, and sockets wait 2 ms for it."""
BLOCK_NS: Final = 1_000_000_000
"""Age of a frame that makes a block of whatever there is."""
FILE_BYTES: Final = 64 << 20
FILE_NS: Final = 3_600_000_000_000
"""A file this large, or this long, is followed by another."""
LEVEL: Final = 1
"""Of gzip, 1 to 9: 1 takes 0.35 µs a frame and leaves a sixth of it."""

log = logging.getLogger("mie.recorder")


class RecordFolder:
    """A folder of recordings, bounded: the oldest files of all venues make room for new ones.

    A venue's newest file is never deleted: somebody may be writing to it. A file is therefore at most 1/32 of the
    bound. Only files of the recorder's are counted and deleted. Several processes may share a folder.

    Attributes:
        file_bytes: Size at which a file is followed by another.
        deleted: Files deleted by this process.
    """

    def __init__(self, directory: Path, max_bytes: int) -> None:
        self.directory = directory
        self.file_bytes = min(FILE_BYTES, max_bytes // 32)
        self.deleted = 0
        self._max_bytes = max_bytes
        # Between two looks seven processes write less than what the sweep left free.
        self._free_bytes = max_bytes // 16
        self._look_bytes = max_bytes // 128
        self._written = self._look_bytes

    def wrote(self, size: int) -> None:
        """Count bytes written; every now and then look whether the folder has become too large."""
        self._written += size
        if self._written >= self._look_bytes:
            self._written = 0
            self._sweep()

    def _sweep(self) -> None:
        files = self._files()
        total = sum(size for _, _, size in files)
        newest = {path.parent: path for _, path, _ in files}
        for _, path, size in files:
            if total <= self._max_bytes - self._free_bytes:
                return
            if newest[path.parent] == path:
                continue
            path.unlink(missing_ok=True)
            total -= size
            self.deleted += 1
            if self.deleted == 1:
                log.warning("%s is full (%d MB): its oldest files are deleted", self.directory, self._max_bytes >> 20)

    def _files(self) -> list[tuple[int, Path, int]]:
        """Return (start, path, bytes) of the recorder's files, oldest first."""
        files: list[tuple[int, Path, int]] = []
        for path in (path for name in VENUES for path in (self.directory / name).glob("*.jsonl*")):
            start_ns = start_of(path.name)
            if start_ns is None:
                continue
            try:
                files.append((start_ns, path, path.stat().st_size))
            except FileNotFoundError:  # another process has made room
                continue
        return sorted(files)


class Recorder:
    """One venue's frames on their way to disk: BLOCK_FRAMES wait at most, and what one call brings."""

    def __init__(self, folder: RecordFolder, venue: str) -> None:
        self._folder = folder
        self._directory = folder.directory / venue
        self._frames: list[bytes] = []
        self._receive_ns: list[int] = []
        self._file: io.FileIO | None = None
        self._start_ns = 0
        self._written = 0

    def write(self, frames: list[bytes], receive_ns: int) -> None:
        """Take frames that were received together, not before those taken earlier.

        Raises:
            OSError: The disk did not take a block: that block is lost, and the file is closed.
        """
        self._frames += frames
        self._receive_ns += [receive_ns] * len(frames)
        if len(self._frames) >= BLOCK_FRAMES:
            self._write_block()

    def flush(self, now_ns: int) -> None:
        """Write what has waited for BLOCK_NS. Raises as `write` does."""
        if self._frames and now_ns - self._receive_ns[0] >= BLOCK_NS:
            self._write_block()

    def close(self) -> None:
        """Write what waits and close the file. Raises as `write` does."""
        if self._frames:
            self._write_block()
        self._end_file()

    def _write_block(self) -> None:
        first_ns, block = self._receive_ns[0], _encode(self._frames, self._receive_ns)
        self._frames, self._receive_ns = [], []
        try:
            if self._written >= self._folder.file_bytes or first_ns - self._start_ns >= FILE_NS:
                self._end_file()
            file = self._file or self._open(first_ns)
            left = memoryview(block)
            while left:
                left = left[file.write(left) :]
            self._written += len(block)
            self._folder.wrote(len(block))
        except OSError:
            self._end_file()
            raise

    def _open(self, first_ns: int) -> io.FileIO:
        self._directory.mkdir(parents=True, exist_ok=True)
        self._start_ns, self._written = first_ns, 0
        while self._file is None:
            path = self._directory / f"{first_ns}.jsonl.gz"
            try:
                self._file = io.FileIO(path, "xb")
            except FileExistsError:  # after the clock was set back; what is there may be torn
                first_ns += 1
        return self._file

    def _end_file(self) -> None:
        if self._file is not None:
            self._file.close()
            self._file = None


def _encode(frames: list[bytes], receive_ns: list[int]) -> bytes:
    block = io.BytesIO()
    table = pl.DataFrame({"receive_ns": pl.Series(receive_ns, dtype=pl.Int64), "frame": _texts(frames)})
    table.write_ndjson(block, compression="gzip", compression_level=LEVEL)
    return block.getvalue()


def _texts(frames: list[bytes]) -> pl.Series:
    try:
        return pl.Series(frames, dtype=pl.Binary).cast(pl.String)
    except pl.exceptions.PolarsError:
        return pl.Series([str(frame, "utf-8", "replace") for frame in frames])
