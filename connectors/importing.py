"""From a folder of raw frames to a tick recording, so that there is one way to replay.

Every venue's files are decoded as a stream and the streams are merged by receive time into Parquet files of PART_ROWS,
one folder of them being the recording. Memory: DECODE_FRAMES frames a venue with their ticks, and one part, some
170 MB in all, however long the recording is.
"""

from __future__ import annotations

import logging
import os
import shutil
import sys
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

import numpy as np
import polars as pl
from rich.console import Console
from rich.progress import Progress

from connectors.frame_files import FrameChunk, TornFileError, read_frames, venue_files
from connectors.recording import REPLAY_FLAG, RecordingError, ticks_to_frame
from connectors.venue import OpenCatalog
from connectors.venues import VENUES
from market.schema import REPLAYED, Rows, empty_ticks, join

PART_ROWS: Final = 131_072
TORN: Final = "torn file"

log = logging.getLogger("mie.recording")


@dataclass(slots=True)
class Imported:
    """What decoding a folder gave: symbol names by code, and counts a venue."""

    names: list[str] = field(default_factory=list)
    frames: Counter[str] = field(default_factory=Counter)
    ticks: Counter[str] = field(default_factory=Counter)
    rejects: Counter[tuple[str, str]] = field(default_factory=Counter)
    """(venue, reason) -> frames and rows; `torn file` counts files."""


def import_folder(folder: Path, into: Path) -> tuple[Path, Imported]:
    """Decode a folder of raw frames into a tick recording in `into`; return its path, a folder, and what was read.

    A progress bar shows on standard error if that is a terminal.

    Raises:
        RecordingError: There is no such folder, no venue in it, or a file cannot be read.
    """
    files = _files(folder)
    recording = into / f"{folder.resolve().name}.{os.getpid()}"
    shutil.rmtree(recording, ignore_errors=True)  # of a process of the same id that was killed
    recording.mkdir(parents=True)
    imported = Imported()
    try:
        with _progress(files) as advance:
            for number, part in enumerate(_parts(read_folder(files, imported, advance))):
                _write_part(part, imported.names, recording / f"{number:06d}.parquet")
    except BaseException:  # Ctrl-C too: nobody else knows of the folder
        shutil.rmtree(recording, ignore_errors=True)
        raise
    return recording, imported


def _files(folder: Path) -> dict[str, list[Path]]:
    if not folder.is_dir():
        text = f"no folder {folder}"
        raise RecordingError(text)
    files = venue_files(folder)
    if not files:
        text = f"{folder} holds no <venue>/*.jsonl or *.jsonl.gz, venues being {', '.join(VENUES)}"
        raise RecordingError(text)
    return files


@contextmanager
def _progress(files: dict[str, list[Path]]) -> Iterator[Callable[[int], None]]:
    """Show how many of the files' bytes are read; yields what to tell it."""
    if not sys.stderr.isatty():
        yield lambda _: None
        return
    size = sum(path.stat().st_size for paths in files.values() for path in paths)
    with Progress(console=Console(stderr=True), transient=True) as progress:
        task = progress.add_task("decoding raw frames", total=size)
        yield lambda read_bytes: progress.advance(task, read_bytes)


def _parts(ticks: Iterable[Rows]) -> Iterator[Rows]:
    """Gather rows into parts of PART_ROWS or a little more; at least one, which may be empty."""
    waiting = [empty_ticks()]
    parts = 0
    for rows in ticks:
        waiting.append(rows)
        if sum(part.size for part in waiting) >= PART_ROWS:
            yield join(waiting)
            waiting, parts = [empty_ticks()], parts + 1
    if len(waiting) > 1 or not parts:
        yield join(waiting)


def _write_part(ticks: Rows, names: list[str], path: Path) -> None:
    replayed = pl.Series(REPLAY_FLAG, (ticks["flags"] & REPLAYED) != 0)
    ticks_to_frame(ticks, names).with_columns(replayed).write_parquet(path)


def read_folder(
    files: dict[str, list[Path]], imported: Imported, advance: Callable[[int], None] = lambda _: None
) -> Iterator[Rows]:
    """Yield the ticks of all venues' files in receive order, ties in the order of the venues; count in `imported`.

    A bare frame counts as received at the venue's time of its first tick. Receive times are made non-decreasing
    within a venue. `advance` is told how many bytes of the files have been read since the last time.

    Raises:
        RecordingError: A file cannot be read.
    """
    codes: dict[str, int] = {}
    return merge([_read_venue(name, paths, codes, imported, advance) for name, paths in files.items()])


def _read_venue(
    name: str, paths: list[Path], codes: dict[str, int], imported: Imported, advance: Callable[[int], None]
) -> Iterator[Rows]:
    venue = VENUES[name]
    catalog = OpenCatalog(venue.symbol_of_native)
    latest_ns = 0
    for frames, receive_ns, read_bytes in _read_files(name, paths, imported):
        decoded = venue.decode(frames, receive_ns, catalog)
        ticks = decoded.ticks
        advance(read_bytes)
        imported.frames[name] += len(frames)
        imported.ticks[name] += ticks.size
        imported.rejects.update((name, reject.reason) for reject in decoded.rejects)
        if not ticks.size:
            continue
        for symbol in catalog.names:
            if symbol not in codes:
                codes[symbol] = len(codes)
                imported.names.append(symbol)
        ticks["symbol"] = np.array([codes[symbol] for symbol in catalog.names], np.int32)[ticks["symbol"]]
        bare = ticks["receive_ns"] == 0
        ticks["receive_ns"][bare] = ticks["exchange_ns"][bare]
        ticks["receive_ns"] = np.maximum(np.maximum.accumulate(ticks["receive_ns"]), latest_ns)
        latest_ns = int(ticks["receive_ns"][-1])
        yield ticks


def _read_files(name: str, paths: list[Path], imported: Imported) -> Iterator[FrameChunk]:
    for path in paths:
        try:
            yield from read_frames(path)
        except TornFileError as error:
            imported.rejects[name, TORN] += 1
            log.warning("%s is read up to where it is torn: %s", path, error)
        except OSError as error:
            text = f"{path} cannot be read: {error.strerror}"
            raise RecordingError(text) from None


def merge(streams: Iterable[Iterator[Rows]]) -> Iterator[Rows]:
    """Merge streams of TICK rows, each in receive order, into one; ties in the order of the streams.

    Holds one array of each stream, and more of one only while a single receive time fills them.
    """
    left = dict(enumerate(streams))
    held = dict.fromkeys(left, empty_ticks())
    while left:
        for place in [place for place in left if _is_level(held[place])]:
            more = next(left[place], None)
            if more is None:
                del left[place]
            elif more.size:
                held[place] = join((held[place], more)) if held[place].size else more
        ends = [held[place]["receive_ns"][-1] for place in left if held[place].size]
        if len(ends) < len(left):
            continue
        # Rows as late as the earliest of the streams' ends may have equals that are not read yet.
        cuts = {
            place: np.searchsorted(rows["receive_ns"], min(ends)) if ends else rows.size for place, rows in held.items()
        }
        ready = join([rows[: cuts[place]] for place, rows in held.items()])
        held = {place: rows[cuts[place] :] for place, rows in held.items()}
        if ready.size:
            yield ready[np.argsort(ready["receive_ns"], kind="stable")]


def _is_level(rows: Rows) -> bool:
    """Return whether nothing, or a single receive time, is held: then nothing of it can go out."""
    return not rows.size or bool(rows["receive_ns"][0] == rows["receive_ns"][-1])
