"""What a collector process and its dataflow worker say to each other over one socket pair.

Collector to worker: messages of one venue's ticks, its watermark, its gaps and, once a second, its counters. Worker to
collector: one line of JSON a command. Either side's end of stream ends the other.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator
from typing import Final

import msgspec
import numpy as np

from market.schema import TICK, Gap, Rows, TickBatch, VenueCounters

_HEADER: Final = struct.Struct("<IBqI")
"""Bytes of what goes beside the ticks, venue code, watermark in nanoseconds, rows."""


class Endpoint(msgspec.Struct, frozen=True):
    """Where a venue is: `scheme://host:port`, the venue's own paths are kept."""

    ws: str
    rest: str


class CollectorConfig(msgspec.Struct, frozen=True):
    """What a collector needs to know, sent as its first line."""

    symbols: list[str]
    """All symbols of the run; a symbol's code is its place."""
    natives: dict[str, dict[str, str]]
    """venue -> symbol -> native symbol"""
    endpoints: dict[str, Endpoint]
    """Replacements for the venues' own hosts, empty when live."""
    seed: int
    """Of the back-off jitter."""
    ca_file: str | None = None
    """Trusted certificates beside the system's, for a venue behind a private CA."""
    record_dir: str | None = None
    refresh_s: float = 0
    """How often the venues' lists are read again; 0 = never."""
    record_max_mb: int = 10_240


class Serve(msgspec.Struct, tag="serve"):
    """Connect to this venue, for good."""

    venue: str


class Stop(msgspec.Struct, tag="stop"):
    """Close all links, send what was received, end."""


Command = Serve | Stop
encode_line = msgspec.json.encode
decode_config = msgspec.json.Decoder(CollectorConfig).decode
decode_command = msgspec.json.Decoder(Command).decode


class _Beside(msgspec.Struct, array_like=True):
    """What a batch holds beside its ticks, where it holds anything."""

    status: VenueCounters | None
    gaps: list[Gap]


_encode_beside = msgspec.msgpack.encode
_decode_beside = msgspec.msgpack.Decoder(_Beside).decode


def encode_batch(batch: TickBatch) -> bytes:
    """Return a batch as one message."""
    beside = _encode_beside(_Beside(batch.status, batch.gaps)) if batch.status is not None or batch.gaps else b""
    header = _HEADER.pack(len(beside), batch.venue, batch.watermark_ns, len(batch.ticks))
    return b"".join((header, beside, batch.ticks.tobytes()))


class BatchReader:
    """Cuts a byte stream into batches. Bounded by what its caller feeds before it takes them out."""

    def __init__(self) -> None:
        self._data = bytearray()

    def feed(self, data: bytes) -> Iterator[TickBatch]:
        """Take bytes; yield the batches they complete, their ticks writable."""
        self._data += data
        at = 0
        while (end := self._end_of_message(at)) is not None:
            yield self._read(at)
            at = end
        del self._data[:at]

    def _end_of_message(self, at: int) -> int | None:
        if len(self._data) < at + _HEADER.size:
            return None
        beside, _, _, rows = _HEADER.unpack_from(self._data, at)
        end: int = at + _HEADER.size + beside + rows * TICK.itemsize
        return end if end <= len(self._data) else None

    def _read(self, at: int) -> TickBatch:
        size, venue, watermark_ns, rows = _HEADER.unpack_from(self._data, at)
        at += _HEADER.size
        beside = _decode_beside(self._data[at : at + size]) if size else _Beside(None, [])
        ticks: Rows = np.frombuffer(bytes(self._data[at + size : at + size + rows * TICK.itemsize]), TICK).copy()
        return TickBatch(venue, ticks, watermark_ns, beside.status, beside.gaps)
