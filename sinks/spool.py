"""The write-ahead spool: what the dataflow has produced and a store may not have yet, as append-only files.

Every dataflow worker appends to a spool of its own, a folder `worker-<index>-<id>` of **segments**, each named by the
position of its first byte. A **position** counts bytes since the spool began. A record is `length, crc32, payload`,
little-endian; what a payload means is not known here. A run always begins a new spool, so that a record torn by a
crash is the end of its spool; the writer removes a spool that has ended and is in every store.

What survives: once `append` returns, the record is in the page cache and a kill -9 of this process, or of all,
loses nothing. Segments are synced to the disk when they are full and when the spool is closed, so a power loss may
lose the last seconds.
"""

from __future__ import annotations

import itertools
import logging
import os
import secrets
import shutil
import struct
import threading
import time
import zlib
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from sinks.paths import lock

log = logging.getLogger(__name__)

SEGMENT_BYTES: Final = 8 << 20
"""A segment is full at this size: the unit of truncating and of dropping."""
RECORD_BYTES: Final = 1 << 28
"""No record is longer; a length above it is damage."""
_HEADER: Final = struct.Struct("<II")
_SUFFIX: Final = ".segment"
_DROPPED: Final = "dropped"
_IN_USE: Final = "append.lock"


@dataclass(frozen=True, slots=True)
class Segment:
    """A file of a spool and the position of its first byte."""

    start: int
    path: Path

    def size(self) -> int:
        """Return its bytes now; 0 once it is deleted."""
        try:
            return self.path.stat().st_size
        except FileNotFoundError:
            return 0


def segments(spool: Path) -> list[Segment]:
    """Return a spool's segments by position; none if the spool is gone."""
    try:
        names = [name for name in os.listdir(spool) if name.endswith(_SUFFIX)]
    except FileNotFoundError:
        return []
    return sorted((Segment(int(name.removesuffix(_SUFFIX)), spool / name) for name in names), key=lambda s: s.start)


def spools(root: Path) -> list[Path]:
    """Return all spools under `root`, the oldest first."""
    try:
        names = [name for name in os.listdir(root) if name.startswith("worker-")]
    except FileNotFoundError:
        return []
    return [root / name for name in sorted(names, key=lambda name: name.rsplit("-", 1)[1])]


def end(spool: Path) -> int:
    """Return the position behind the last byte of a spool."""
    found = segments(spool)
    return found[-1].start + found[-1].size() if found else 0


def has_ended(spool: Path) -> bool:
    """Return whether nobody will append to this spool any more."""
    try:
        descriptor = lock(spool / _IN_USE, shared=True)
    except FileNotFoundError:
        return True
    if descriptor is None:
        return False
    os.close(descriptor)
    return True


def truncate(spool: Path, position: int) -> None:
    """Delete the segments that lie wholly before `position`; the last one stays."""
    found = segments(spool)
    for segment, following in itertools.pairwise(found):
        if following.start <= position:
            segment.path.unlink(missing_ok=True)


def remove(spool: Path) -> None:
    """Delete a spool that has ended."""
    shutil.rmtree(spool, ignore_errors=True)


def dropped_segments(root: Path) -> int:
    """Return how many segments were ever dropped to keep the bound."""
    try:
        return (root / _DROPPED).stat().st_size
    except FileNotFoundError:
        return 0


def enforce_bound(root: Path, max_bytes: int) -> int:
    """Drop the oldest segments until all spools together take at most `max_bytes`.

    A segment that is being appended to stays. Each drop is one byte in the file `dropped`, so that workers count
    together without a lock.

    Returns:
        How many segments were dropped now.
    """
    droppable: list[Segment] = []
    total = 0
    for spool in spools(root):
        found = segments(spool)
        total += sum(segment.size() for segment in found)
        droppable += found if has_ended(spool) else found[:-1]
    dropped = 0
    for segment in droppable:
        if total <= max_bytes:
            break
        total -= segment.size()
        segment.path.unlink(missing_ok=True)
        dropped += 1
    if dropped:
        with (root / _DROPPED).open("ab") as counter:
            counter.write(b"." * dropped)
    return dropped


class Appender:
    """The producing end of one worker's spool. Never waits for a store, a reader or (but in `close`) the disk."""

    def __init__(self, root: Path, worker: int, max_bytes: int, segment_bytes: int = SEGMENT_BYTES) -> None:
        """Begin a new spool.

        Args:
            root: Folder of all spools.
            worker: Dataflow worker index.
            max_bytes: Bound of all spools together on disk; beyond it the oldest segment is dropped.
            segment_bytes: Size at which a segment is full.
        """
        root.mkdir(parents=True, exist_ok=True)
        name = f"worker-{worker}-{time.time_ns():016x}{secrets.token_hex(4)}"
        made = root / f".{name}"
        made.mkdir()
        # Locked before it gets its name: a writer that sees the spool must not take it for one that has ended.
        self._lock = lock(made / _IN_USE)
        self.directory = made.rename(root / name)
        self.position = 0
        self.lost_records = 0
        """Records that the disk did not take."""
        self._max_bytes = max_bytes
        self._segment_bytes = min(segment_bytes, max(max_bytes // 8, 1))
        self._full = False
        self._failed = False
        self._descriptor = self._open_segment()

    def append(self, payloads: Sequence[bytes]) -> None:
        """Append records, none of them empty, in one write.

        A disk that refuses costs the records: counted, and one log line.
        """
        data = b"".join(
            part for payload in payloads for part in (_HEADER.pack(len(payload), zlib.crc32(payload)), payload)
        )
        if self._size() and self._size() + len(data) > self._segment_bytes:
            self._roll()
        try:
            _write_all(self._descriptor, data)
        except OSError as error:
            os.ftruncate(self._descriptor, self._size())
            self.lost_records += len(payloads)
            if not self._failed:
                log.error("spool %s: the disk refuses (%s), rows are lost", self.directory.name, error.strerror)
            self._failed = True
            return
        self._failed = False
        self.position += len(data)

    def close(self) -> None:
        """Sync what was appended and let the spool go."""
        if self._lock is None:
            return
        os.fsync(self._descriptor)
        os.close(self._descriptor)
        os.close(self._lock)
        self._lock = None

    def _size(self) -> int:
        return self.position - self._segment_start

    def _open_segment(self) -> int:
        self._segment_start = self.position
        path = self.directory / f"{self.position:020d}{_SUFFIX}"
        descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
        dropped = enforce_bound(self.directory.parent, max(self._max_bytes - self._segment_bytes, 0))
        if dropped and not self._full:
            log.error("the spool is full (%d MB): the oldest rows are dropped", self._max_bytes >> 20)
        self._full = bool(dropped)
        return descriptor

    def _roll(self) -> None:
        threading.Thread(target=_sync_and_close, args=(self._descriptor,), daemon=True).start()
        self._descriptor = self._open_segment()


def _write_all(descriptor: int, data: bytes) -> None:
    view = memoryview(data)
    while view:
        view = view[os.write(descriptor, view) :]


def _sync_and_close(descriptor: int) -> None:
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


class Reader:
    """The consuming end: tails a spool from a position, over segments, past damage.

    Attributes:
        position: Behind the last record that `read` returned.
        lost_bytes: What was skipped because it was damaged, or dropped before this reader came to it.
    """

    def __init__(self, directory: Path, position: int) -> None:
        self.directory = directory
        self.position = position
        self.lost_bytes = 0
        self._prefix = f"{directory}/"
        self._segment: Segment | None = None
        self._descriptor = -1

    def read(self, max_bytes: int) -> list[bytes]:
        """Return the next whole records, about `max_bytes` of them but at least one; none at the end for now."""
        if self._segment is None and not self._enter_first():
            return []
        max_bytes = max(max_bytes, _HEADER.size)
        while True:
            data = self._pread(max_bytes)
            records, used = split_records(data)
            if records:
                self.position += used
                return records
            if len(data) == max_bytes and (needed := _record_bytes(data)) > max_bytes:
                max_bytes = needed
            elif not self._enter_next(len(data), at_end=len(data) < max_bytes):
                return []

    def close(self) -> None:
        """Close the open segment."""
        if self._segment is not None:
            os.close(self._descriptor)
            self._segment = None

    def _pread(self, max_bytes: int) -> bytes:
        assert self._segment is not None
        return os.pread(self._descriptor, max_bytes, self.position - self._segment.start)

    def _enter_first(self) -> bool:
        found = segments(self.directory)
        holding = [segment for segment in found if segment.start <= self.position]
        target = holding[-1] if holding else found[0] if found else None
        return target is not None and self._enter(target, known_loss=self.position > 0)

    def _enter_next(self, unread_bytes: int, *, at_end: bool) -> bool:
        """Go on to the next segment if there is one: the current one is then complete."""
        assert self._segment is not None
        following = self._following(unread_bytes)
        if following is None:
            return False
        read_to = self.position - self._segment.start + unread_bytes
        if at_end and os.fstat(self._descriptor).st_size > read_to:
            return True  # The appender finished this segment after we looked and before it made the next.
        return self._enter(following, known_loss=True)

    def _following(self, unread_bytes: int) -> Segment | None:
        assert self._segment is not None
        path = f"{self._prefix}{self.position:020d}{_SUFFIX}"
        if self.position > self._segment.start and os.path.exists(path):
            return Segment(self.position, Path(path))
        # The usual idle case ends here, without a directory listing: nothing unread and nothing deleted.
        if not unread_bytes and os.fstat(self._descriptor).st_nlink:
            return None
        later = (segment for segment in segments(self.directory) if segment.start > self._segment.start)
        return next(later, None)

    def _enter(self, segment: Segment, *, known_loss: bool) -> bool:
        try:
            descriptor = os.open(segment.path, os.O_RDONLY)
        except FileNotFoundError:
            return False
        self.close()
        self._segment, self._descriptor = segment, descriptor
        if segment.start > self.position:
            if known_loss:
                self.lost_bytes += segment.start - self.position
            self.position = segment.start
        return True


def split_records(data: bytes) -> tuple[list[bytes], int]:
    """Return the whole, undamaged records at the front of `data` and the bytes they take."""
    records: list[bytes] = []
    used = 0
    while len(data) - used >= _HEADER.size:
        length, checksum = _HEADER.unpack_from(data, used)
        first = used + _HEADER.size
        payload = data[first : first + length]
        if not 0 < length <= RECORD_BYTES or len(payload) < length or zlib.crc32(payload) != checksum:
            break
        records.append(payload)
        used = first + length
    return records, used


def _record_bytes(data: bytes) -> int:
    """Return what the record at the front takes, 0 if its length is damage."""
    if len(data) < _HEADER.size:
        return 0
    length = int(_HEADER.unpack_from(data)[0])
    return _HEADER.size + length if 0 < length <= RECORD_BYTES else 0
