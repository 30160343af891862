"""From decoded messages to TICK rows and rejects: the part of decoding that is the same on every venue.

A venue's module says how: one permissive message type, and a `walk` over messages that appends one tuple a row.
Here is the rest: reading what can be read, columns, checks on values, rejects. Knows no venue's field names.
"""

from __future__ import annotations

import struct
from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from functools import lru_cache
from itertools import chain
from math import inf, nan
from typing import Any, Final, Generic, TypeVar

import msgspec
import numpy as np
import numpy.typing as npt

from connectors.venue import Catalog, Control, Decoded, Reject
from market.schema import (
    BACKFILL,
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
REASONS: Final = frozenset(
    {
        MALFORMED,
        UNKNOWN_CHANNEL,
        UNKNOWN_SYMBOL,
        BAD_PRICE,
        BAD_SIZE,
        BAD_SIDE_REASON,
        BAD_TRADE_ID,
        BAD_TIME_REASON,
        EMPTY_QUOTE,
    }
)
"""All reasons of rejects there are."""

TradeRow = tuple[int, str, float | None, float | None, str | bool | None, str | int, object]
"""Place of the frame in its batch, native symbol, price, size, the venue's side, trade id, the venue's time."""
QuoteRow = tuple[int, str, float | None, float | None, float | None, float | None, object]
"""Place of the frame in its batch, native symbol, bid, bid size, ask, ask size, the venue's time."""

_Part = tuple[tuple[int, ...], list[tuple[str, Bool]]]
"""The rows of one kind: the places of their frames, and by reason which of them pass, where not all do."""
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
        spans: Beside each of `trades`, the first and last number it stands for; empty where the trade id says it.
        others: Places of the frames that are neither, ascending.
        replayed: Places of the frames that hold history.
        unreadable: Places among `others` of frames that are not even messages.
    """

    __slots__ = ("frames", "others", "quotes", "replayed", "spans", "trades", "unreadable")

    def __init__(self, frames: Sequence[bytes]) -> None:
        self.frames = frames
        self.trades: list[TradeRow] = []
        self.quotes: list[QuoteRow] = []
        self.spans: list[tuple[int, int]] = []
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
    ticks, spans = _ticks(reading, batch, receive_ns, catalog, rejected)
    controls: list[bytes] = []
    for place in batch.others:
        if reading.control(frames[place]) is not None:
            controls.append(frames[place])
        else:
            rejected.append((place, MALFORMED if place in batch.unreadable else UNKNOWN_CHANNEL))
    rejected.sort(key=lambda reject: reject[0])
    rejects = [Reject(int(receive_ns[place]), reason, frames[place]) for place, reason in rejected]
    return Decoded(ticks, rejects, controls, spans)


def decode_history(
    reading: Reading[M],
    trades: list[TradeRow],
    receive_ns: int,
    catalog: Catalog,
    spans: list[tuple[int, int]] | None = None,
) -> Decoded:
    """Turn trades read from a venue's REST history into ticks flagged BACKFILL, checked as those of frames are."""
    batch = Batch([b"REST history"])
    batch.trades, batch.spans = trades, spans or []
    decoded = _decoded(reading, batch, np.array([receive_ns], np.int64), catalog)
    decoded.ticks["flags"] |= BACKFILL
    return decoded


def whole(text: str) -> int:
    """Return a number written in digits; 0 if it is not one, or beyond int64."""
    return int(text) if len(text) < 19 and text.isascii() and text.isdigit() else 0


def _ticks(
    reading: Reading[M], batch: Batch, receive_ns: I64, catalog: Catalog, rejected: _Rejected
) -> tuple[Rows, I64 | None]:
    """Return the sound rows in frame order, and the spans beside them; the others go to `rejected`.

    Small batches are the rule, and there every NumPy call counts: what all rows pass is not looked at row by row.
    """
    trades, quotes = len(batch.trades), len(batch.quotes)
    if not trades + quotes:
        return np.zeros(0, TICK), None
    ticks = _blank_ticks(VENUE_CODES[reading.venue], trades, quotes)
    parts: list[_Part] = []
    if trades:
        parts.append(_fill_trades(reading, batch.trades, catalog, ticks[:trades]))
    if quotes:
        parts.append(_fill_quotes(reading, batch.quotes, catalog, ticks[trades:]))
    at = _places(parts, batch, len(ticks))
    ticks["receive_ns"] = receive_ns[at]
    if batch.replayed:
        history = np.zeros(len(batch.frames), np.bool_)
        history[batch.replayed] = True
        ticks["flags"] |= (history[at] & (ticks["kind"] == TRADE)) * np.uint8(REPLAYED)
    sound = _sound(parts, at, rejected)
    spans = _spans(batch, len(ticks)) if batch.spans else None
    if len(parts) == 1:
        if sound is None:
            return ticks, spans
        order = np.flatnonzero(sound)
    else:
        order = at.argsort(kind="stable")
        order = order if sound is None else order[sound[order]]
    return ticks.take(order), None if spans is None else spans[order]


def _spans(batch: Batch, n: int) -> I64:
    """Return n x 2 int64 for trades, then quotes; zeros if any number is beyond int64."""
    spans = np.zeros((n, 2), np.int64)
    with suppress(OverflowError):
        spans[: len(batch.spans)] = np.array(batch.spans, np.int64)
    return spans


def _fill_trades(reading: Reading[M], trades: list[TradeRow], catalog: Catalog, ticks: Rows) -> _Part:
    places, natives, prices, sizes, sides, ids, stamps = zip(*trades, strict=True)
    ticks["symbol"], known = _coded(catalog.codes.get, natives, np.int32, UNKNOWN)
    numbers = _floats(2, prices + sizes)
    ticks["price"], ticks["size"] = numbers
    positive = (numbers > 0) & (numbers < inf)
    prices_good, sizes_good = (None, None) if _all(positive) else positive
    ticks["side"], sides_good = _coded(reading.sides.get, sides, np.int8, BAD_SIDE)
    ticks["trade_id"], ids_good = _trade_ids(ids)
    times_good = _stamp(ticks, reading.trade_times(stamps))
    checks = [
        (UNKNOWN_SYMBOL, known),
        (BAD_PRICE, prices_good),
        (BAD_SIZE, sizes_good),
        (BAD_SIDE_REASON, sides_good),
        (BAD_TRADE_ID, ids_good),
        (BAD_TIME_REASON, times_good),
    ]
    return places, [(reason, passed) for reason, passed in checks if passed is not None]


def _fill_quotes(reading: Reading[M], quotes: list[QuoteRow], catalog: Catalog, ticks: Rows) -> _Part:
    places, natives, bids, bid_sizes, asks, ask_sizes, stamps = zip(*quotes, strict=True)
    ticks["symbol"], known = _coded(catalog.codes.get, natives, np.int32, UNKNOWN)
    sides = _floats(4, bids + bid_sizes + asks + ask_sizes)
    checks: list[tuple[str, Bool | None]] = [(UNKNOWN_SYMBOL, known)]
    if not _all((sides > 0) & (sides < inf)):
        sides = _without_absent_sides(sides)
        infinite, present = np.isinf(sides), sides > 0
        checks += [
            (BAD_PRICE, ~(infinite[0] | infinite[2])),
            (BAD_SIZE, ~(infinite[1] | infinite[3])),
            (EMPTY_QUOTE, present[0] | present[2]),
        ]
    ticks["bid"], ticks["bid_size"], ticks["ask"], ticks["ask_size"] = sides
    checks.append((BAD_TIME_REASON, _stamp(ticks, reading.quote_times(stamps))))
    return places, [(reason, passed) for reason, passed in checks if passed is not None]


def _without_absent_sides(sides: F64) -> F64:
    """Return the four columns, both of a side NaN where one is zero or NaN; what is negative counts as infinite."""
    sides = np.where(sides < 0, inf, sides)
    for side in (sides[:2], sides[2:]):
        absent = ~(side > 0).all(axis=0)
        side[:, absent & ~np.isinf(side).any(axis=0)] = nan
    return sides


def _all(passed: Bool) -> bool:
    return int(np.count_nonzero(passed)) == passed.size  # a third of what `all` takes on small arrays


def _places(parts: list[_Part], batch: Batch, n: int) -> I64:
    """Return the place of the frame of each of n rows."""
    if len(parts) == 1 and not batch.others and n == len(batch.frames):  # each frame has one
        return np.arange(n)
    return np.fromiter(chain.from_iterable(places for places, _ in parts), np.int64, n)


def _coded(
    code: Callable[[Any], int | None], words: tuple[object, ...], dtype: type, unknown: int
) -> tuple[I64, Bool | None]:
    """Return a column of the codes of words, `unknown` where there is none, and which have one, None if all."""
    try:
        return np.fromiter(map(code, words), dtype, len(words)), None
    except TypeError:  # a word without code
        codes = map(code, words)
        column: I64 = np.array([unknown if found is None else found for found in codes], dtype)
        return column, column != unknown


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


def _trade_ids(ids: tuple[str | int, ...]) -> tuple[npt.NDArray[np.bytes_], Bool | None]:
    """Return ids as n ASCII bytes, and which of them are usable, None if all.

    Usable is what fits the column, starts with a letter or digit (nothing empty, nothing negative) and holds neither
    space nor control character: stores refuse some of these.
    """
    n = len(ids)
    text = _lines(ids)
    plain = text.isascii() and np.count_nonzero(np.frombuffer(text, np.uint8) <= ord(" ")) == n
    width = text.find(b"\n") + 1
    even = plain and 1 < width <= TRADE_ID_BYTES + 1 and len(text) == n * width
    if even and text[width - 1 :: width] == b"\n" * n and text[::width].isalnum():
        return np.ndarray(n, f"S{width - 1}", text, strides=(width,)), None
    words = text[:-1].split(b"\n") if plain else [_plain(str(each)) for each in ids]
    column = np.array(words, f"S{TRADE_ID_BYTES + 1}")
    letters = column.view(np.uint8).reshape(n, -1)
    first, last = letters[:, 0].tobytes(), letters[:, -1]
    if first.isalnum() and not np.count_nonzero(last):
        return column, None
    return column, np.array([chr(letter).isalnum() for letter in first]) & (last == 0)


def _lines(ids: tuple[str | int, ...]) -> bytes:
    """Return ids as text, a line each; nothing if they are not all of one type or cannot be written."""
    try:
        if isinstance(ids[0], int):
            text = msgspec.json.encode(ids)[1:-1].replace(b",", b"\n") + b"\n"  # a third of the time of `str`
            return text if b'"' not in text else b""
        return ("\n".join(ids) + "\n").encode()  # type: ignore[arg-type]
    except (TypeError, OverflowError, UnicodeEncodeError):
        return b""


def _plain(text: str) -> bytes:
    return text.encode() if text.isascii() and min(text, default=" ") > " " else b""


def _stamp(ticks: Rows, exchange_ns: I64) -> Bool | None:
    """Set the times of ticks; return which are readable, None if all."""
    ticks["exchange_ns"] = exchange_ns
    if _all(exchange_ns > 0):
        return None
    ticks["flags"] |= (exchange_ns == 0) * np.uint8(UNSTAMPED)
    readable = exchange_ns >= 0
    return None if _all(readable) else readable


def _sound(parts: list[_Part], at: I64, rejected: _Rejected) -> Bool | None:
    """Return which rows pass all checks, None if all do; the others go to `rejected` by their first fault."""
    if not any(checks for _, checks in parts):
        return None
    sound = np.ones(at.size, np.bool_)
    start = 0
    for places, checks in parts:
        rows = slice(start, start + len(places))
        for reason, passed in checks:
            rejected.extend((place, reason) for place in at[rows][sound[rows] & ~passed].tolist())
            sound[rows] &= passed
        start = rows.stop
    return sound


def _blank_ticks(venue: int, trades: int, quotes: int) -> Rows:
    """Return TICK rows for trades, then quotes, with what all rows of a venue and kind share."""
    trade, quote = _blank(venue, TRADE), _blank(venue, QUOTE)
    return np.frombuffer(bytearray(trade * trades + quote * quotes), TICK)


@lru_cache(maxsize=64)
def _blank(venue: int, kind: int) -> bytes:
    tick = empty_ticks(1)
    tick["venue"] = venue
    tick["kind"] = kind
    tick["side"] = NO_SIDE
    return tick.tobytes()
