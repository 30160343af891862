"""What a collector process and its dataflow worker say to each other over one socket pair.

Collector to worker: messages of one venue's ticks, its watermark, its gaps, what they change of its position, once a
second its counters, and now and then news of its symbols. Worker to collector: one line of JSON a command. Either
side's end of stream ends the other.
"""

from __future__ import annotations

import struct
from collections.abc import Callable, Iterator
from typing import Final

import msgspec
import numpy as np

from connectors.position import Known
from market.schema import TICK, Gap, Rows, TickBatch, VenueCounters

FLUSH_NS: Final = 5_000_000
"""The collector decodes and sends at the multiples of this of its receive clock, and halfway if there is much.

These are the ends of the forge's quanta: it releases nothing between them, and a watermark past one leaves at once.
"""

_HEADER: Final = struct.Struct("<IBqI")
"""Bytes of what goes beside the ticks, venue code, watermark in nanoseconds, rows."""


class Endpoint(msgspec.Struct, frozen=True):
    """Where a venue is: `scheme://host:port`, the venue's own paths are kept."""

    ws: str
    rest: str


class CollectorConfig(msgspec.Struct, frozen=True):
    """What a collector needs to know, sent as its first line."""

    symbols: list[str]
    """All symbols of the run; a symbol's code is its place, "" where there is none."""
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
    ranks: bool = False
    """Whether the worker wants to know what the venues list, with its turnover."""
    version: int = 0
    """Of `symbols`, see `connectors.roster`."""


class Serve(msgspec.Struct, tag="serve"):
    """Connect to this venue, for good."""

    venue: str
    known: Known | None = None
    """What is handed out of it already; None at its first start."""


class Follow(msgspec.Struct, tag="follow"):
    """Go over to other symbols."""

    version: int
    changes: dict[int, str]
    """code -> its owner now, "" if it has none any more"""


class Stop(msgspec.Struct, tag="stop"):
    """Close all links, send what was received, end."""


Command = Serve | Follow | Stop
encode_line = msgspec.json.encode
decode_config = msgspec.json.Decoder(CollectorConfig).decode
decode_command = msgspec.json.Decoder(Command).decode


class News(msgspec.Struct, array_like=True):
    """What a collector has to say of a venue's symbols."""

    follows: int | None = None
    """The version that it follows now: no tick of a symbol that this one lacks comes after the batch."""
    listed: dict[str, float] | None = None
    """What the venue lists, symbol -> 24 h turnover."""


class _Beside(msgspec.Struct, array_like=True):
    """What a batch holds beside its ticks, where it holds anything."""

    status: VenueCounters | None
    gaps: list[Gap]
    step: bytes = b""
    news: News | None = None


OnNews = Callable[[int, int, News], None]
_encode_beside = msgspec.msgpack.encode
_decode_beside = msgspec.msgpack.Decoder(_Beside).decode


def encode_batch(batch: TickBatch, news: News | None = None) -> bytes:
    """Return a batch, and the news that go with it, as one message."""
    beside = b""
    if batch.step or batch.status is not None or batch.gaps or news is not None:
        beside = _encode_beside(_Beside(batch.status, batch.gaps, batch.step, news))
    header = _HEADER.pack(len(beside), batch.venue, batch.watermark_ns, len(batch.ticks))
    return b"".join((header, beside, batch.ticks.tobytes()))


class BatchReader:
    """Cuts a byte stream into batches. Bounded by what its caller feeds before it takes them out."""

    def __init__(self, on_news: OnNews | None = None) -> None:
        """Begin; `on_news` gets what is said beside a batch: venue code, the batch's watermark, news."""
        self._data = bytearray()
        self._on_news = on_news

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
        if beside.news is not None and self._on_news is not None:
            self._on_news(venue, watermark_ns, beside.news)
        ticks: Rows = np.frombuffer(bytes(self._data[at + size : at + size + rows * TICK.itemsize]), TICK).copy()
        return TickBatch(venue, ticks, watermark_ns, beside.status, beside.gaps, beside.step)
