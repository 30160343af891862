"""`python -m connectors decode VENUE < frames.jsonl`: what the decoder makes of raw frames, one JSON object a tick.

Lines in are bare frames, or lines of a raw recording. Lines out come in the order of lines in; control frames print
nothing. The input is streamed: memory holds some hundred lines, and one entry a distinct symbol.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from itertools import islice
from typing import BinaryIO, Final

import msgspec
import numpy as np

from connectors.frame_files import RecordedFrame
from connectors.rows import UNREADABLE
from connectors.venue import OpenCatalog, Venue
from market.schema import KINDS, SIDES, TRADE, UNSTAMPED, Rows

BATCH_LINES: Final = 512


class TradeLine(msgspec.Struct):
    """A trade as printed. `line` counts from 1; `exchange_ns` is null where the venue gives no usable time."""

    line: int
    kind: str
    venue: str
    symbol: str
    price: float
    size: float
    side: str | None
    trade_id: str
    exchange_ns: int | None


class QuoteLine(msgspec.Struct):
    """A quote as printed; the numbers of an absent side are NaN, which is written as null."""

    line: int
    kind: str
    venue: str
    symbol: str
    bid: float
    bid_size: float
    ask: float
    ask_size: float
    exchange_ns: int | None


class RejectLine(msgspec.Struct):
    """A frame, or a row of one, that is no tick."""

    line: int
    kind: str
    reason: str


Printed = TradeLine | QuoteLine | RejectLine


def decode_lines(venue: Venue, lines: Iterable[bytes]) -> Iterator[list[Printed]]:
    """Yield what some hundred lines hold, again and again until there are no more; blank lines hold nothing."""
    catalog = OpenCatalog(venue.symbol_of_native)
    numbered = ((number, line.strip()) for number, line in enumerate(lines, 1))
    filled = ((number, frame_of(line)) for number, line in numbered if line)
    while batch := list(islice(filled, BATCH_LINES)):
        numbers, frames = zip(*batch, strict=True)
        # The decoder carries line numbers through in the place of receive times.
        decoded = venue.decode(frames, np.array(numbers, np.int64), catalog)
        printed: list[Printed] = list(_ticks(venue.NAME, decoded.ticks, catalog.names))
        printed += [RejectLine(reject.receive_ns, "reject", reject.reason) for reject in decoded.rejects]
        printed.sort(key=lambda row: row.line)
        yield printed


def frame_of(line: bytes) -> bytes:
    """Return the frame in a line of a raw recording, `{"receive_ns":...,"frame":"..."}`, or the line itself."""
    if b'"receive_ns"' not in line:
        return line
    try:
        return _RECORDED.decode(line).frame.encode()
    except UNREADABLE:
        return line


def _ticks(venue: str, ticks: Rows, names: list[str]) -> Iterator[Printed]:
    fields = ("receive_ns", "kind", "symbol", "flags", "exchange_ns", "side")
    values = ("price", "size", "trade_id", "bid", "bid_size", "ask", "ask_size")
    columns = [ticks[name].tolist() for name in (*fields, *values)]
    for line, kind, code, flags, stamp, side, price, size, trade_id, bid, bid_size, ask, ask_size in zip(
        *columns, strict=True
    ):
        exchange_ns = None if flags & UNSTAMPED else stamp
        name = names[code]
        if kind == TRADE:
            taker, text = SIDES[side], trade_id.decode("ascii")
            yield TradeLine(line, KINDS[kind], venue, name, price, size, taker, text, exchange_ns)
        else:
            yield QuoteLine(line, KINDS[kind], venue, name, bid, bid_size, ask, ask_size, exchange_ns)


def write_lines(venue: Venue, lines: Iterable[bytes], out: BinaryIO) -> None:
    """Write what the lines hold, one JSON object a line."""
    encode = msgspec.json.Encoder().encode_lines
    for printed in decode_lines(venue, lines):
        out.write(encode(printed))
    out.flush()


_RECORDED = msgspec.json.Decoder(RecordedFrame)
