"""From decoded messages to TICK rows and rejects: the part of decoding that is the same on every venue.

A venue's module says how: one permissive message type, and a `walk` over messages that appends one tuple a row.
Here is the rest: reading what can be read, columns, checks on values, rejects. Knows no venue's field names.
"""

from __future__ import annotations

import struct
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from math import inf, nan
from typing import Any, Final, Generic, TypeVar

import msgspec
import numpy as np
import numpy.typing as npt

from connectors.venue import Catalog, Control, Decoded, Reject
from market.schema import (
    F64,
    I64,
    NO_SIDE,
    QUOTE,
    REPLAYED,
    TICK,
    TRADE,
    TRADE_ID_BYTES,
    UNSTAMPED,
    Bool,
    Rows,
    empty_ticks,
)
from market.venues import VENUE_CODES

UNREADABLE: Final = (msgspec.MsgspecError, ValueError, ArithmeticError, RecursionError)
"""What a msgspec decoder raises on bytes that are not what its type says."""

UNKNOWN: Final = -1
"""Stands in the symbol column for a native symbol that the catalog does not hold."""
BAD_SIDE: Final = 2
"""Stands in the side column for a side that the venue does not document."""

MALFORMED: Final = "malformed"
UNKNOWN_CHANNEL: Final = "unknown channel"
UNKNOWN_SYMBOL: Final = "unknown symbol"
BAD_PRICE: Final = "bad price"
BAD_SIZE: Final = "bad size"
BAD_SIDE_REASON: Final = "bad side"
BAD_TRADE_ID: Final = "bad trade id"
BAD_TIME_REASON: Final = "bad time"
EMPTY_QUOTE: Final = "empty quote"

TradeRow = tuple[int, str, float | None, float | None, str | bool | None, str | int, object]
"""Place of the frame in its batch, native symbol, price, size, the venue's side, trade id, the venue's time."""
QuoteRow = tuple[int, str, float | None, float | None, float | None, float | None, object]
"""Place of the frame in its batch, native symbol, bid, bid size, ask, ask size, the venue's time."""

_Checks = list[tuple[str, Bool]]
_Rejected = list[tuple[int, str]]

Times = Callable[[Any], I64]
"""How a venue's times become nanoseconds: a function of `connectors.times`."""

M = TypeVar("M", bound=msgspec.Struct)


class Batch:
    """One batch of messages, sorted: what a venue's `walk` fills.

    Attributes:
        frames: The frames themselves, for a venue whose messages have two shapes.
        trades: A tuple a trade, in frame order.
        quotes: A tuple a quote, in frame order.
        others: Places of the frames that are neither, ascending.
        replayed: Places of the frames that hold history.
        unreadable: Places among `others` of frames that are not even messages.
    """

    __slots__ = ("frames", "others", "quotes", "replayed", "trades", "unreadable")

    def __init__(self, frames: Sequence[bytes]) -> None:
        self.frames = frames
        self.trades: list[TradeRow] = []
        self.quotes: list[QuoteRow] = []
        self.others: list[int] = []
        self.replayed: list[int] = []
        self.unreadable: set[int] = set()


@dataclass(frozen=True, slots=True)
class Reading(Generic[M]):
    """How a venue's frames become rows, as facts for `decode`.

    Attributes:
        venue: Venue name.
        decoder: Reads a frame into the one permissive message type of the venue, control frames included.
        blank: A message that is neither trade nor quote; stands in for a frame that cannot be read.
        walk: Sorts messages, in frame order, into the rows and others of a batch.
        sides: What the venue calls the taker's sides.
        trade_times: Reads the times of trade rows.
        quote_times: Reads the times of quote rows.
        control: Reads control frames; what it does not know is no control frame.
    """

    venue: str
    decoder: msgspec.json.Decoder[M]
    blank: M
    walk: Callable[[Iterable[M], Batch], None]
    sides: Mapping[Any, int]
    trade_times: Times
    quote_times: Times
    control: Callable[[bytes], Control | None]


def decode(reading: Reading[M], frames: Sequence[bytes], receive_ns: I64, catalog: Catalog) -> Decoded:
    """Decode frames into ticks, as `Venue.decode`.

    Messages are walked as they are decoded; only if one cannot be read is the batch read again, frame by frame.
    """
    batch = Batch(frames)
    try:
        reading.walk(map(reading.decoder.decode, frames), batch)
    except UNREADABLE:
        batch = Batch(frames)
        messages = [read_frame(reading.decoder, frame) for frame in frames]
        batch.unreadable.update(at for at, message in enumerate(messages) if message is None)
        reading.walk([message or reading.blank for message in messages], batch)
    return _decoded(reading, batch, receive_ns, catalog)


def read_frame(decoder: msgspec.json.Decoder[M], frame: bytes) -> M | None:
    """Decode one frame; an empty text where a number belongs, which venues send for an absent side, is null."""
    message = read_one(decoder, frame)
    if message is None and b'""' in frame:
        message = read_one(decoder, frame.replace(b'""', b"null"))
    return message


def read_one(decoder: msgspec.json.Decoder[M], frame: bytes) -> M | None:
    """Decode one frame; None if it cannot be read."""
    try:
        return decoder.decode(frame)
    except UNREADABLE:
        return None


def _decoded(reading: Reading[M], batch: Batch, receive_ns: I64, catalog: Catalog) -> Decoded:
    frames = batch.frames
    rejected: _Rejected = []
    parts: list[tuple[Rows, I64]] = []
    mixed = bool(batch.others or (batch.trades and batch.quotes))
    alone = -1 if mixed else len(frames)  # if there are as many rows of the only kind, each frame has one
    if batch.trades:
        parts.append(_trade_ticks(reading, batch, catalog, alone, rejected))
    if batch.quotes:
        parts.append(_quote_ticks(reading, batch, catalog, alone, rejected))
    ticks, at = _in_frame_order(parts)
    ticks["receive_ns"] = receive_ns[at]
    controls: list[bytes] = []
    for place in batch.others:
        if reading.control(frames[place]) is not None:
            controls.append(frames[place])
        else:
            rejected.append((place, MALFORMED if place in batch.unreadable else UNKNOWN_CHANNEL))
    rejected.sort(key=lambda reject: reject[0])
    rejects = [Reject(int(receive_ns[place]), reason, frames[place]) for place, reason in rejected]
    return Decoded(ticks, rejects, controls)


def _trade_ticks(
    reading: Reading[M], batch: Batch, catalog: Catalog, alone: int, rejected: _Rejected
) -> tuple[Rows, I64]:
    places, natives, prices, sizes, sides, ids, stamps = zip(*batch.trades, strict=True)
    n = len(places)
    at = _places(places, n == alone)
    symbol = _coded(catalog.codes.get, natives, np.int32, UNKNOWN)
    price, size = _floats(2, prices + sizes)
    side = _coded(reading.sides.get, sides, np.int8, BAD_SIDE)
    trade_id, good_id = _trade_ids(ids)
    exchange_ns = reading.trade_times(stamps)
    checks = [
        (UNKNOWN_SYMBOL, symbol >= 0),
        (BAD_PRICE, (price > 0) & (price < inf)),
        (BAD_SIZE, (size > 0) & (size < inf)),
        (BAD_SIDE_REASON, side != BAD_SIDE),
        (BAD_TRADE_ID, good_id),
        (BAD_TIME_REASON, exchange_ns >= 0),
    ]
    ticks = np.repeat(_template(VENUE_CODES[reading.venue], TRADE), n)
    ticks["symbol"] = symbol
    ticks["price"] = price
    ticks["size"] = size
    ticks["side"] = side
    ticks["trade_id"] = trade_id
    _stamp(ticks, exchange_ns)
    if batch.replayed:
        history = np.zeros(len(batch.frames), np.bool_)
        history[batch.replayed] = True
        ticks["flags"][history[at]] |= REPLAYED
    return _sound(ticks, at, checks, rejected)


def _quote_ticks(
    reading: Reading[M], batch: Batch, catalog: Catalog, alone: int, rejected: _Rejected
) -> tuple[Rows, I64]:
    places, natives, bids, bid_sizes, asks, ask_sizes, stamps = zip(*batch.quotes, strict=True)
    n = len(places)
    at = _places(places, n == alone)
    symbol = _coded(catalog.codes.get, natives, np.int32, UNKNOWN)
    sides = _floats(4, bids + bid_sizes + asks + ask_sizes)
    exchange_ns = reading.quote_times(stamps)
    present = (sides > 0) & (sides < inf)
    if np.count_nonzero(present) < present.size:
        sides = _without_absent_sides(sides)
        present = sides > 0
    checks = [
        (UNKNOWN_SYMBOL, symbol >= 0),
        (BAD_PRICE, ~np.isinf(sides[0]) & ~np.isinf(sides[2])),
        (BAD_SIZE, ~np.isinf(sides[1]) & ~np.isinf(sides[3])),
        (EMPTY_QUOTE, present[0] | present[2]),
        (BAD_TIME_REASON, exchange_ns >= 0),
    ]
    ticks = np.repeat(_template(VENUE_CODES[reading.venue], QUOTE), n)
    ticks["symbol"] = symbol
    ticks["bid"], ticks["bid_size"], ticks["ask"], ticks["ask_size"] = sides
    _stamp(ticks, exchange_ns)
    return _sound(ticks, at, checks, rejected)


def _without_absent_sides(sides: F64) -> F64:
    """Return the four columns, both of a side NaN where one is zero or NaN; what is negative counts as infinite."""
    sides = np.where(sides < 0, inf, sides)
    for side in (sides[:2], sides[2:]):
        absent = ~(side > 0).all(axis=0)
        side[:, absent & ~np.isinf(side).any(axis=0)] = nan
    return sides


def _places(places: tuple[int, ...], one_each: bool) -> I64:
    return np.arange(len(places)) if one_each else np.fromiter(places, np.int64, len(places))


def _coded(code: Callable[[Any], int | None], words: tuple[object, ...], dtype: type, unknown: int) -> I64:
    """Return a column of the codes of words, `unknown` where there is none."""
    try:
        return np.fromiter(map(code, words), dtype, len(words))
    except TypeError:  # a word without code
        codes = map(code, words)
        return np.array([unknown if found is None else found for found in codes], dtype)


def _floats(columns: int, values: tuple[float | None, ...]) -> F64:
    """Return `columns` rows of float64, null as NaN, maybe read-only. `struct` packs in a third of NumPy's time."""
    try:
        return np.frombuffer(struct.pack(f"{len(values)}d", *values)).reshape(columns, -1)
    except (struct.error, OverflowError):
        return np.array([_float(value) for value in values], np.float64).reshape(columns, -1)


def _float(value: float | None) -> float:
    try:
        return nan if value is None else float(value)
    except OverflowError:  # a whole number beyond float64
        return inf


def _trade_ids(ids: tuple[str | int, ...]) -> tuple[npt.NDArray[np.bytes_], Bool]:
    """Return ids as n ASCII bytes, and which of them are usable: neither empty, negative nor longer than the column."""
    try:
        text = "\n".join(ids) + "\n"  # type: ignore[arg-type]
    except TypeError:
        text = "%s\n" * len(ids) % ids
    width = text.index("\n") + 1
    if len(text) == len(ids) * width and 1 < width <= TRADE_ID_BYTES + 1 and text.isascii():
        lines = np.frombuffer(text.encode(), np.uint8).reshape(-1, width)
        if np.count_nonzero(lines[:, -1] == ord("\n")) == len(ids):  # all of one length: no copy needed
            return np.ndarray(len(ids), f"S{width - 1}", lines.data, strides=(width,)), lines[:, 0] > ord("-")
    column = np.array([each if str(each).isascii() else "" for each in ids], f"S{TRADE_ID_BYTES + 1}")
    letters = column.view(np.uint8).reshape(len(ids), -1)
    return column, (letters[:, 0] > ord("-")) & (letters[:, -1] == 0)


def _stamp(ticks: Rows, exchange_ns: I64) -> None:
    ticks["exchange_ns"] = exchange_ns
    if np.count_nonzero(exchange_ns) < exchange_ns.size:
        ticks["flags"][exchange_ns == 0] |= UNSTAMPED


def _sound(ticks: Rows, at: I64, checks: _Checks, rejected: _Rejected) -> tuple[Rows, I64]:
    """Return the rows that pass all checks and their places; the others go to `rejected` by their first fault."""
    ok = checks[0][1].copy()
    for _, passed in checks[1:]:
        ok &= passed
    if np.count_nonzero(ok) == ok.size:  # a tenth of what `all` takes on small arrays
        return ticks, at
    for row in np.flatnonzero(~ok):
        reason = next(reason for reason, passed in checks if not passed[row])
        rejected.append((int(at[row]), reason))
    return ticks[ok], at[ok]


def _in_frame_order(parts: list[tuple[Rows, I64]]) -> tuple[Rows, I64]:
    if not parts:
        return np.zeros(0, TICK), np.zeros(0, np.int64)
    if len(parts) == 1:
        return parts[0]
    at = np.concatenate([places for _, places in parts])
    order = np.argsort(at, kind="stable")
    return np.concatenate([ticks for ticks, _ in parts]).take(order), at[order]


@lru_cache(maxsize=64)
def _template(venue: int, kind: int) -> Rows:
    """Return one TICK row with what all rows of a venue and kind share."""
    ticks = empty_ticks(1)
    ticks["venue"] = venue
    ticks["kind"] = kind
    ticks["side"] = NO_SIDE
    return ticks
