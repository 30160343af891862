"""Files of raw frames, `<folder>/<venue>/<start>.jsonl[.gz]`: what they are called and how they are read.

A line is `{"receive_ns":...,"frame":"..."}`, or a bare frame. Reading is streamed: memory holds DECODE_FRAMES frames.
"""

from __future__ import annotations

import io
import re
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, BinaryIO, Final, NamedTuple

import msgspec
import numpy as np

from market.schema import I64
from market.venues import VENUES

if TYPE_CHECKING:
    from _typeshed import WriteableBuffer

DECODE_FRAMES: Final = 5_000
READ_BYTES: Final = 1 << 18
GZIP: Final = 31
"""zlib's word for a gzip member, of the largest window."""
NAME: Final = re.compile(r"(\d{1,19})\.jsonl(?:\.gz)?")
"""A file of the recorder; its number is the receive time of its first frame."""
_TEARS: Final = (EOFError, zlib.error)


class RecordedFrame(msgspec.Struct):
    """A line of a recording of raw frames."""

    receive_ns: int
    frame: str


class FrameChunk(NamedTuple):
    """Frames that follow each other in a file.

    Attributes:
        frames: n frames as received.
        receive_ns: n int64, 0 for bare frames.
        read_bytes: How much of the file was read for them, compressed if it is.
    """

    frames: list[bytes]
    receive_ns: I64
    read_bytes: int


class TornFileError(Exception):
    """A compressed file ends, or cannot be read any further, within a block; all before it has been read."""


def venue_files(folder: Path) -> dict[str, list[Path]]:
    """Return venue -> its files in receive order, venues in the order of their codes, those without files left out.

    Files of the recorder go by their start, others after them by name.
    """
    files = {name: [*(folder / name).glob("*.jsonl"), *(folder / name).glob("*.jsonl.gz")] for name in VENUES}
    return {name: sorted(paths, key=_order) for name, paths in files.items() if paths}


def _order(path: Path) -> tuple[bool, int, str]:
    start_ns = start_of(path.name)
    return start_ns is None, start_ns or 0, path.name


def start_of(name: str) -> int | None:
    """Return the receive time that a file's name says, None if it is not a name of the recorder's."""
    found = NAME.fullmatch(name)
    return int(found[1]) if found else None


def read_frames(path: Path) -> Iterator[FrameChunk]:
    """Yield the frames of a file, DECODE_FRAMES at a time. A torn line of a plain file comes as a bare frame.

    Raises:
        TornFileError: After all that could be read, if that is not the whole file.
    """
    decode = msgspec.json.Decoder(RecordedFrame).decode
    frames: list[bytes] = []
    stamps: list[int] = []
    torn: Exception | None = None
    done_bytes = 0
    with path.open("rb") as file, _plain(path, file) as lines:
        try:
            for raw in lines:
                line = raw.strip()
                if not line:
                    continue
                try:
                    recorded = decode(line)
                    frames.append(recorded.frame.encode())
                    stamps.append(recorded.receive_ns)
                except (msgspec.MsgspecError, UnicodeError):
                    frames.append(line)
                    stamps.append(0)
                if len(frames) == DECODE_FRAMES:
                    yield FrameChunk(frames, np.array(stamps, np.int64), file.tell() - done_bytes)
                    frames, stamps, done_bytes = [], [], file.tell()
        except _TEARS as error:
            torn = error
        yield FrameChunk(frames, np.array(stamps, np.int64), file.tell() - done_bytes)
    if torn is not None:
        raise TornFileError(str(torn))


def _plain(path: Path, file: BinaryIO) -> BinaryIO:
    return io.BufferedReader(_Gunzipped(file), READ_BYTES) if path.suffix == ".gz" else file


class _Gunzipped(io.RawIOBase):
    """The content of gzip members that follow each other.

    `gzip.GzipFile` would lose what it has of a read that ends in a tear.
    """

    def __init__(self, file: BinaryIO) -> None:
        self._file = file
        self._data = b""
        self._inflating: zlib._Decompress | None = None

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: WriteableBuffer) -> int:
        """Fill a buffer with what comes next, partly perhaps; 0 at the end. Raises EOFError if that is no end."""
        room = memoryview(buffer)
        while self._data or self._fill():
            inflating = self._inflating or zlib.decompressobj(wbits=GZIP)
            text = inflating.decompress(self._data, len(room))
            self._data = inflating.unused_data if inflating.eof else inflating.unconsumed_tail
            self._inflating = None if inflating.eof else inflating
            if text:
                room[: len(text)] = text
                return len(text)
        if self._inflating is not None:
            message = "it ends within a block"
            raise EOFError(message)
        return 0

    def _fill(self) -> bool:
        self._data = self._file.read(READ_BYTES)
        return bool(self._data)
