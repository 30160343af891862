"""From decoded messages to TICK rows and rejects: the part of decoding that is the same on every venue.

A venue's module says how: one permissive message type, and a `walk` over messages that sorts them and takes a list a
column. Here is the rest: reading what can be read, checks on values, rejects. Knows no venue's field names.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache, partial
from itertools import chain
from math import inf, nan
from typing import Any, Final, Generic, NamedTuple, TypeVar

import msgspec
import numpy as np

from connectors.columns import all_of, coded, floats, trade_ids
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

_Part = tuple[Sequence[int], list[tuple[str, Bool]]]
"""The rows of one kind: the places of their frames, and by reason which of them pass, where not all do."""
_Rejected = list[tuple[int, str]]

Times = Callable[[Any], I64]
"""How a venue's times become nanoseconds: a function of `connectors.times`."""

Spans = Callable[[], I64]
"""Reads the spans of trades, when they are asked for."""

M = TypeVar("M", bound=msgspec.Struct)
R = TypeVar("R")
C = TypeVar("C")


class Trades(NamedTuple):
    """Trades as a venue sent them, in frame order: n items a column.

    Attributes:
        at: Place of the frame in its batch.
        natives: Native symbols.
        prices: None or NaN where there is none.
        sizes: As `prices`.
        sides: The venue's words for the taker's side.
        ids: Trade ids, all texts or all numbers.
        times: The venue's times, as its `Times` reads them.
    """

    at: Sequence[int] = ()
    natives: Sequence[str] = ()
    prices: Sequence[float | None] = ()
    sizes: Sequence[float | None] = ()
    sides: Sequence[str | bool | None] = ()
    ids: Sequence[str | int] = ()
    times: Sequence[Any] = ()


Fill = tuple[float | None, float | None, str | bool | None, str | int, Any]
"""A trade of REST history: price, size, side, id and time as in `Trades`."""


class Quotes(NamedTuple):
    """Best levels as a venue sent them, in frame order: n items a column, as in `Trades`."""

    at: Sequence[int] = ()
    natives: Sequence[str] = ()
    bids: Sequence[float | None] = ()
    bid_sizes: Sequence[float | None] = ()
    asks: Sequence[float | None] = ()
    ask_sizes: Sequence[float | None] = ()
    times: Sequence[Any] = ()


_NO_TRADES: Final = Trades()
_NO_QUOTES: Final = Quotes()


class Batch:
    """One batch of messages, sorted: what a venue's `walk` fills.

    Attributes:
        frames: The frames themselves, for a venue whose messages have two shapes.
        trades: The trades.
        quotes: The quotes.
        read_spans: Returns n x 2 int64 beside `trades`, the first and last number each stands for; None where the trade
            id says it.
        others: Places of the frames that are neither, ascending.
        replayed: Places of the frames that hold history.
        unreadable: Places among `others` of frames that are not even messages.
    """

    __slots__ = ("frames", "others", "quotes", "read_spans", "replayed", "trades", "unreadable")

    def __init__(self, frames: Sequence[bytes]) -> None:
        self.frames = frames
        self.trades = _NO_TRADES
        self.quotes = _NO_QUOTES
        self.read_spans: Spans | None = None
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
        walk: Sorts messages, in frame order, into the trades, quotes and others of a batch.
        sides: What the venue calls the taker's sides.
        trade_times: Reads the times of trade rows.
        quote_times: Reads the times of quote rows.
        control: Reads control frames; what it does not know is no control frame.
    """

    venue: str
    decoder: msgspec.json.Decoder[M]
    blank: M
    walk: Callable[[list[M], Batch], None]
    sides: Mapping[Any, int]
    trade_times: Times
    quote_times: Times
    control: Callable[[bytes], Control | None]


def decode(reading: Reading[M], frames: Sequence[bytes], receive_ns: I64, catalog: Catalog) -> Decoded:
    """Decode frames into ticks, as `Venue.decode`.

    All are decoded before the first is walked: a processor does either faster by itself, 0.05 us a frame. Only if one
    cannot be read is the batch read again, frame by frame.
    """
    batch = Batch(frames)
    try:
        reading.walk(list(map(reading.decoder.decode, frames)), batch)
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


def flat(lists: list[list[R]]) -> list[R]:
    """Return the rows of lists, none of them empty, in one list."""
    try:
        return [row for [row] in lists]
    except ValueError:  # not one each
        return list(chain.from_iterable(lists))


def beside(rows: list[R], lists: list[list[R]], column: list[C]) -> list[C]:
    """Return what stands beside `lists` as a column beside `rows`, which are `flat(lists)`."""
    if len(rows) == len(lists):
        return column
    return [each for each, some in zip(column, lists, strict=True) for _ in some]


def _decoded(reading: Reading[M], batch: Batch, receive_ns: I64, catalog: Catalog) -> Decoded:
    frames = batch.frames
    rejected: _Rejected = []
    ticks, read_spans = _ticks(reading, batch, receive_ns, catalog, rejected)
    controls: list[bytes] = []
    for place in batch.others:
        if reading.control(frames[place]) is not None:
            controls.append(frames[place])
        else:
            rejected.append((place, MALFORMED if place in batch.unreadable else UNKNOWN_CHANNEL))
    rejected.sort(key=lambda reject: reject[0])
    rejects = [Reject(int(receive_ns[place]), reason, frames[place]) for place, reason in rejected]
    return Decoded(ticks, rejects, controls, read_spans)


def decode_history(
    reading: Reading[M],
    native: str,
    fills: Sequence[Fill],
    receive_ns: int,
    catalog: Catalog,
    read_spans: Spans | None = None,
) -> Decoded:
    """Turn fills from a venue's REST history into ticks flagged BACKFILL, checked as trades of frames are."""
    batch = Batch([b"REST history"])
    if fills:
        n = len(fills)
        batch.trades = Trades([0] * n, [native] * n, *zip(*fills, strict=True))
        batch.read_spans = read_spans
    decoded = _decoded(reading, batch, np.array([receive_ns], np.int64), catalog)
    decoded.ticks["flags"] |= BACKFILL
    return decoded


def _ticks(
    reading: Reading[M], batch: Batch, receive_ns: I64, catalog: Catalog, rejected: _Rejected
) -> tuple[Rows, Spans | None]:
    """Return the sound rows in frame order, and the spans beside them; the others go to `rejected`.

    Small batches are the rule, and there every NumPy call counts: what all rows pass is not looked at row by row.
    """
    trades, quotes = len(batch.trades.at), len(batch.quotes.at)
    if not trades + quotes:
        return np.zeros(0, TICK), None
    ticks = _blank_ticks(VENUE_CODES[reading.venue], trades, quotes)
    parts: list[_Part] = []
    if trades:
        parts.append(_fill_trades(reading, batch.trades, catalog, ticks[:trades]))
    if quotes:
        parts.append(_fill_quotes(reading, batch.quotes, catalog, ticks[trades:]))
    one_kind = len(parts) == 1
    if one_kind and not batch.others and len(ticks) == len(batch.frames):  # each frame is a row
        ticks["receive_ns"] = receive_ns
        if batch.replayed:
            ticks["flags"][batch.replayed] |= REPLAYED
        if not parts[0][1]:
            return ticks, batch.read_spans
        at = np.arange(len(ticks))
    else:
        at = np.fromiter(chain(batch.trades.at, batch.quotes.at), np.int64, len(ticks))
        ticks["receive_ns"] = receive_ns[at]
        if batch.replayed:
            history = np.zeros(len(batch.frames), np.uint8)
            history[batch.replayed] = REPLAYED
            ticks["flags"][:trades] |= history[at[:trades]]
    sound = _sound(parts, at, rejected)
    if one_kind:
        if sound is None:
            return ticks, batch.read_spans
        order = np.flatnonzero(sound)
    else:
        order = at.argsort(kind="stable")
        order = order if sound is None else order[sound[order]]
    return ticks.take(order), None if batch.read_spans is None else partial(_reordered, batch.read_spans, order)


def _reordered(read_spans: Spans, order: I64) -> I64:
    """Return the spans of ticks taken in an order that counts trades, then quotes, which have none."""
    spans = read_spans()
    taken = np.zeros((order.size, 2), np.int64)
    trades = order < len(spans)
    taken[trades] = spans[order[trades]]
    return taken


def _fill_trades(reading: Reading[M], trades: Trades, catalog: Catalog, ticks: Rows) -> _Part:
    ticks["symbol"], known = coded(catalog.codes.get, trades.natives, np.int32, UNKNOWN)
    numbers = floats(2, [*trades.prices, *trades.sizes])
    ticks["price"], ticks["size"] = numbers
    positive = (numbers > 0) & (numbers < inf)
    prices_good, sizes_good = (None, None) if all_of(positive) else positive
    ticks["side"], sides_good = coded(reading.sides.get, trades.sides, np.int8, BAD_SIDE)
    ticks["trade_id"], ids_good = trade_ids(trades.ids)
    times_good = _stamp(ticks, reading.trade_times(trades.times))
    checks = [
        (UNKNOWN_SYMBOL, known),
        (BAD_PRICE, prices_good),
        (BAD_SIZE, sizes_good),
        (BAD_SIDE_REASON, sides_good),
        (BAD_TRADE_ID, ids_good),
        (BAD_TIME_REASON, times_good),
    ]
    return trades.at, [(reason, passed) for reason, passed in checks if passed is not None]


def _fill_quotes(reading: Reading[M], quotes: Quotes, catalog: Catalog, ticks: Rows) -> _Part:
    ticks["symbol"], known = coded(catalog.codes.get, quotes.natives, np.int32, UNKNOWN)
    sides = floats(4, [*quotes.bids, *quotes.bid_sizes, *quotes.asks, *quotes.ask_sizes])
    checks: list[tuple[str, Bool | None]] = [(UNKNOWN_SYMBOL, known)]
    if not all_of((sides > 0) & (sides < inf)):
        sides = _without_absent_sides(sides)
        infinite, present = np.isinf(sides), sides > 0
        checks += [
            (BAD_PRICE, ~(infinite[0] | infinite[2])),
            (BAD_SIZE, ~(infinite[1] | infinite[3])),
            (EMPTY_QUOTE, present[0] | present[2]),
        ]
    ticks["bid"], ticks["bid_size"], ticks["ask"], ticks["ask_size"] = sides
    checks.append((BAD_TIME_REASON, _stamp(ticks, reading.quote_times(quotes.times))))
    return quotes.at, [(reason, passed) for reason, passed in checks if passed is not None]


def _without_absent_sides(sides: F64) -> F64:
    """Return the four columns, both of a side NaN where one is zero or NaN; what is negative counts as infinite."""
    sides = np.where(sides < 0, inf, sides)
    for side in (sides[:2], sides[2:]):
        absent = ~(side > 0).all(axis=0)
        side[:, absent & ~np.isinf(side).any(axis=0)] = nan
    return sides


def _stamp(ticks: Rows, exchange_ns: I64) -> Bool | None:
    """Set the times of ticks; return which are readable, None if all."""
    ticks["exchange_ns"] = exchange_ns
    if all_of(exchange_ns > 0):
        return None
    ticks["flags"] |= (exchange_ns == 0) * np.uint8(UNSTAMPED)
    readable = exchange_ns >= 0
    return None if all_of(readable) else readable


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
    return np.frombuffer(bytearray(trade) * trades + quote * quotes, TICK)


@lru_cache(maxsize=64)
def _blank(venue: int, kind: int) -> bytes:
    tick = empty_ticks(1)
    tick["venue"] = venue
    tick["kind"] = kind
    tick["side"] = NO_SIDE
    return tick.tobytes()
