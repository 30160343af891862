"""Records to messages and back: what the dataflow hands over, with names instead of codes.

A message describes itself (kind, column names, dtypes), so that a writer of a later version still reads what an
earlier one spooled, and needs no symbol table. Numbers stay raw columns: encoding costs no Python object a row.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Final

import msgspec
import numpy as np

from market.records import VERDICTS, Correlation, LetGo, StudyBatch, VenueStatus, WickBatch
from market.schema import SIDES, Gap, Rows
from market.settings import INTERVAL_NAMES
from market.venues import VENUES

HOT_ROWS: Final = 350
"""Rows of newest state in one message: with their names below 64 KiB, which every Unix datagram socket takes."""

_CODED: Final = frozenset({"symbol", "interval_s", "venue", "side", "bid_venue", "ask_venue", "verdict"})
"""Columns of CANDLE and HOT that become names."""
_INTERNAL: Final = frozenset({"as_of_ns"})
"""Columns that mean something to the operators only."""

Spooled = StudyBatch | WickBatch | Correlation | Gap | LetGo
"""What `encode` takes."""


class Numbers(msgspec.Struct, array_like=True, frozen=True):
    """A numeric column: NumPy dtype string with byte order (`<f8`), and the raw values."""

    dtype: str
    data: bytes

    @classmethod
    def of(cls, values: Any) -> Numbers:
        """Pack an array or list, little-endian."""
        array = np.ascontiguousarray(values)
        array = array.astype(array.dtype.newbyteorder("<"), copy=False)
        return cls(array.dtype.str, array.tobytes())

    def to_list(self) -> list[Any]:
        """Return Python ints or floats."""
        values: list[Any] = np.frombuffer(self.data, np.dtype(self.dtype)).tolist()
        return values


class Message(msgspec.Struct, frozen=True):
    """Columns of equal length under their names.

    Attributes:
        kind: `candles`, `wicks`, `correlation`, `gaps` (spooled); `hot`, `venues`, `forge` (conflated); `let_go`.
        numbers: Numeric columns.
        texts: Text columns.
        studies: Of `candles`: indicator columns, NaN while warming up.
    """

    kind: str
    numbers: dict[str, Numbers] = {}
    texts: dict[str, list[str]] = {}
    studies: dict[str, Numbers] = {}

    def columns(self) -> dict[str, list[Any]]:
        """Return all columns but the studies as lists of Python values."""
        return {**self.texts, **{name: numbers.to_list() for name, numbers in self.numbers.items()}}

    def rows(self) -> list[dict[str, Any]]:
        """Return all columns but the studies row by row."""
        columns = self.columns()
        return [dict(zip(columns, values, strict=True)) for values in zip(*columns.values(), strict=True)]

    def study_columns(self) -> dict[str, list[float | None]]:
        """Return the indicator columns, None while warming up."""
        return {name: [_known(value) for value in numbers.to_list()] for name, numbers in self.studies.items()}


_ENCODER: Final = msgspec.msgpack.Encoder()
_DECODER: Final = msgspec.msgpack.Decoder(Message)


def pack(message: Message) -> bytes:
    """Return the bytes of a message."""
    return _ENCODER.encode(message)


def unpack(payload: bytes) -> Message:
    """Return the message in `payload`.

    Raises:
        ValueError: It is not one (msgspec.ValidationError, msgspec.DecodeError).
    """
    return _DECODER.decode(payload)


def encode(item: Spooled, names: Sequence[str]) -> bytes:
    """Return the message of a record.

    Args:
        item: What an operator produced.
        names: Symbols by code.

    Raises:
        TypeError: `item` is not a record for the spool.
    """
    if isinstance(item, StudyBatch):
        return pack(_candles(item, names))
    if isinstance(item, WickBatch):
        return pack(_wicks(item, names))
    if isinstance(item, Correlation):
        return pack(_correlation(item, names))
    if isinstance(item, Gap):
        return encode_gap(VENUES[item.venue], names[item.symbol], item.from_ns, item.to_ns, filled=item.filled)
    if isinstance(item, LetGo):
        return encode_let_go([names[symbol] for symbol in item.symbols], item.of)
    message = f"{type(item).__name__} is not a record for the spool"
    raise TypeError(message)


def encode_hot(rows: Rows, names: Sequence[str]) -> list[bytes]:
    """Return newest state as messages of HOT_ROWS rows.

    Args:
        rows: n rows of HOT.
        names: Symbols by code.
    """
    return [pack(_hot(rows[first : first + HOT_ROWS], names)) for first in range(0, len(rows), HOT_ROWS)]


def encode_venues(statuses: Sequence[VenueStatus]) -> bytes:
    """Return the state of venues as one message."""
    fields = {name: [getattr(status, name) for status in statuses] for name in VenueStatus.__slots__}
    texts = {"venue": [VENUES[code] for code in fields.pop("venue")]}
    texts |= {name: fields.pop(name) for name in ("state", "last_reject")}
    return pack(
        Message("venues", {name: Numbers.of(np.array(values, "<i8")) for name, values in fields.items()}, texts)
    )


def encode_forge(counted: Mapping[str, int]) -> bytes:
    """Return what a worker's forges have counted as one message."""
    return pack(Message("forge", {name: Numbers.of(np.array([value], "<i8")) for name, value in counted.items()}))


def encode_gap(venue: str, symbol: str, from_ns: int, to_ns: int, *, filled: bool) -> bytes:
    """Return the message of a hole `[from_ns, to_ns]` in a venue's trades of a symbol, refilled or not."""
    numbers = {"from_ns": Numbers.of([from_ns]), "to_ns": Numbers.of([to_ns]), "filled": Numbers.of([int(filled)])}
    return pack(Message("gaps", numbers, {"venue": [venue], "symbol": [symbol]}))


def encode_let_go(symbols: Sequence[str], of: str) -> bytes:
    """Return the message that nothing more comes of some symbols; `of` as in `market.records.LetGo`."""
    return pack(Message("let_go", texts={"symbol": list(symbols), "of": [of] * len(symbols)}))


def interval_name(seconds: int) -> str:
    """Return the name of a candle interval, `1m`."""
    return INTERVAL_NAMES.get(seconds, f"{seconds}s")


def _candles(batch: StudyBatch, names: Sequence[str]) -> Message:
    texts = {
        "symbol": [names[code] for code in batch.candles["symbol"].tolist()],
        "interval": [interval_name(seconds) for seconds in batch.candles["interval_s"].tolist()],
    }
    studies = {name: Numbers.of(values) for name, values in batch.studies.items()}
    return Message("candles", _numbers(batch.candles), texts, studies)


def _wicks(batch: WickBatch, names: Sequence[str]) -> Message:
    floats = ("price", "size", "reference", "deviation_bps", "dispersion_bps", "basis_bps")
    integers = ("event_ns", "receive_ns", "witnesses", "readmitted_ns")
    wicks = batch.wicks
    numbers = {name: Numbers.of(np.array([getattr(wick, name) for wick in wicks], "<f8")) for name in floats}
    numbers |= {name: Numbers.of(np.array([getattr(wick, name) for wick in wicks], "<i8")) for name in integers}
    texts = {
        "symbol": [names[wick.symbol] for wick in wicks],
        "venue": [VENUES[wick.venue] for wick in wicks],
        "trade_id": [wick.trade_id for wick in wicks],
        "side": [SIDES[wick.side] or "" for wick in wicks],
        "evidence": [msgspec.json.encode(wick.evidence).decode() for wick in wicks],
    }
    return Message("wicks", numbers, texts)


def _correlation(found: Correlation, names: Sequence[str]) -> Message:
    """Return one row a pair with a known value, places in `symbols`, which are sorted: `first` is before `second`."""
    named = sorted((names[code], place) for place, code in enumerate(found.symbols.tolist()))
    symbols, order = [name for name, _ in named], [place for _, place in named]
    first, second = np.triu_indices(len(symbols), 1)
    pearson = found.matrix[np.ix_(order, order)][first, second]
    known = ~np.isnan(pearson)
    numbers = {
        "first": Numbers.of(first[known].astype("<i4")),
        "second": Numbers.of(second[known].astype("<i4")),
        "pearson": Numbers.of(pearson[known]),
        "open_ns": Numbers.of([found.open_ns]),
    }
    return Message("correlation", numbers, {"symbols": symbols, "interval": [interval_name(found.interval_s)]})


def _hot(rows: Rows, names: Sequence[str]) -> Message:
    texts = {"symbol": [names[code] for code in rows["symbol"].tolist()]}
    for column in ("venue", "bid_venue", "ask_venue"):
        texts[column] = [VENUES[code] if code >= 0 else "" for code in rows[column].tolist()]
    texts["verdict"] = [VERDICTS[code] if code >= 0 else "" for code in rows["verdict"].tolist()]
    texts["side"] = [SIDES[side] or "" for side in rows["side"].tolist()]
    return Message("hot", _numbers(rows), texts)


def _numbers(rows: Rows) -> dict[str, Numbers]:
    return {name: Numbers.of(rows[name]) for name in rows.dtype.names or () if name not in _CODED | _INTERNAL}


def _known(value: float) -> float | None:
    return None if value != value else value
