"""From an archive (`MIE_ARCHIVE_DIR`) to a tick recording: its rows, which are in order of release, in receive order.

What the flow dropped before the forge is not in an archive: duplicates, and which trades a venue had repeated.
"""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Final

import polars as pl

from connectors.recording import COLUMNS, RecordingError, scan

RELEASED: Final = "release_ns"
"""The column that only an archive has."""
PART_ROWS: Final = 131_072


def is_archive(path: Path) -> bool:
    """Return whether this is a file of an archive, or a folder of such files."""
    files = parts_of(path)
    try:
        return bool(files) and RELEASED in scan(files[0]).collect_schema()
    except (pl.exceptions.PolarsError, OSError):
        return False


def parts_of(path: Path) -> list[Path]:
    """Return the Parquet files that a path stands for, in order of names."""
    return sorted(path.glob("*.parquet")) if path.is_dir() else [path]


def import_archive(path: Path, into: Path) -> Path:
    """Write an archive as a tick recording in `into`; return its path, a folder.

    Memory: the files that overlap in receive time, two a worker of the run that wrote them.

    Raises:
        RecordingError: A file cannot be read.
    """
    recording = into / f"{path.resolve().stem}.{os.getpid()}"
    shutil.rmtree(recording, ignore_errors=True)  # of a process of the same id that was killed
    recording.mkdir(parents=True)
    try:
        for number, part in enumerate(_in_receive_order(parts_of(path))):
            part.write_parquet(recording / f"{number:06d}.parquet")
    except BaseException as error:  # Ctrl-C too: nobody else knows of the folder
        shutil.rmtree(recording, ignore_errors=True)
        if isinstance(error, pl.exceptions.PolarsError | OSError):
            text = f"{path} is not a readable archive: {str(error).splitlines()[0]}"
            raise RecordingError(text) from None
        raise
    return recording


def _in_receive_order(files: list[Path]) -> Iterator[pl.DataFrame]:
    """Yield rows in receive order, ties in order of files; a row goes out once no file left begins before it."""
    begins = {file: scan(file).select(pl.col("receive_ns").min()).collect().item() for file in files}
    files = sorted((file for file in files if begins[file] is not None), key=lambda file: begins[file])
    held = pl.DataFrame(schema=COLUMNS)
    for place, file in enumerate(files):
        rows = scan(file).select(pl.col(name).cast(kind) for name, kind in COLUMNS.items()).collect()
        held = pl.concat([held, rows]).sort("receive_ns", maintain_order=True)
        ready = len(held)
        if place + 1 < len(files):
            ready = int(held["receive_ns"].search_sorted(begins[files[place + 1]], side="left"))
        yield from held[:ready].iter_slices(PART_ROWS)
        held = held[ready:]
    if not files:
        yield held
