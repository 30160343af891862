"""What recording costs, µs of CPU a frame, on the frames of a folder that was recorded.

`python -m bench.record FOLDER`. Frames go through the recorder as a collector hands them over, what was received
together at once, into a folder that is deleted; the best of some rounds counts.
"""

from __future__ import annotations

import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import groupby
from operator import itemgetter
from pathlib import Path
from tempfile import TemporaryDirectory

from connectors.frame_files import read_frames, venue_files
from connectors.recorder import Recorder, RecordFolder

ROUNDS = 4

Reads = list[tuple[str, list[bytes], int]]
"""Venue, frames that were received together, when."""


@dataclass(frozen=True, slots=True)
class Cost:
    """What recording frames took."""

    frames: int
    cpu_us: float
    """A frame, user and system."""
    frame_bytes: float
    """Of a frame as received."""
    disk_bytes: float
    """Of a frame as recorded."""


def reads_of(folder: Path) -> Iterator[tuple[str, list[bytes], int]]:
    """Yield a folder's frames as they were received."""
    for venue, paths in venue_files(folder).items():
        for chunk in (chunk for path in paths for chunk in read_frames(path)):
            together = groupby(zip(chunk.receive_ns.tolist(), chunk.frames, strict=True), itemgetter(0))
            for receive_ns, pairs in together:
                yield venue, [frame for _, frame in pairs], receive_ns


def record(reads: Reads) -> Cost:
    """Record once and count."""
    with TemporaryDirectory() as directory:
        folder = RecordFolder(Path(directory), 1 << 40)
        recorders = {venue: Recorder(folder, venue) for venue, _, _ in reads}
        started_s = time.process_time()
        for venue, frames, receive_ns in reads:
            recorders[venue].write(frames, receive_ns)
            recorders[venue].flush(receive_ns)
        for recorder in recorders.values():
            recorder.close()
        cpu_s = time.process_time() - started_s
        disk_bytes = sum(path.stat().st_size for path in folder.directory.rglob("*.gz"))
    count = sum(len(frames) for _, frames, _ in reads)
    frame_bytes = sum(len(frame) for _, frames, _ in reads for frame in frames)
    return Cost(count, cpu_s / count * 1e6, frame_bytes / count, disk_bytes / count)


def main() -> None:
    """Print the cost."""
    reads = list(reads_of(Path(sys.argv[1])))
    cost = min((record(reads) for _ in range(ROUNDS)), key=lambda cost: cost.cpu_us)
    print(
        f"{cost.frames} frames of {cost.frame_bytes:.0f} bytes: {cost.cpu_us:.2f} µs of CPU a frame,"
        f" {cost.disk_bytes:.0f} bytes on disk"
    )


if __name__ == "__main__":
    main()
