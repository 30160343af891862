"""Raw frames to disk as received: `<dir>/<start>.jsonl`, one `{"receive_ns":…,"frame":"…"}` a line.

`replay:` reads the folder back. Frames that are not UTF-8 are written with replacement characters.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import BinaryIO

import msgspec

from market.schema import I64


class RecordedFrame(msgspec.Struct):
    """A line of a recording of raw frames."""

    receive_ns: int
    frame: str


_encode = msgspec.json.encode


class Recorder:
    """Appends one venue's frames; a file is opened at the first frame and flushed with each batch."""

    def __init__(self, directory: Path) -> None:
        self._directory = directory
        self._file: BinaryIO | None = None

    def write(self, frames: Sequence[bytes], receive_ns: I64) -> None:
        """Append n frames with their receive times, n int64."""
        if self._file is None:
            self._directory.mkdir(parents=True, exist_ok=True)
            self._file = (self._directory / f"{int(receive_ns[0])}.jsonl").open("ab")
        lines = [
            _encode(RecordedFrame(at_ns, frame.decode(errors="replace")))
            for frame, at_ns in zip(frames, receive_ns.tolist(), strict=True)
        ]
        self._file.write(b"\n".join(lines) + b"\n")
        self._file.flush()

    def close(self) -> None:
        """Close the file."""
        if self._file is not None:
            self._file.close()
            self._file = None
