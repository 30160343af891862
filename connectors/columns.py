"""From lists of what venues sent to NumPy columns, in few and cheap steps.

Batches are small, some hundred rows: there calls count, and what all rows pass is not looked at row by row. Knows no
venue and no reason of a reject. Times are `connectors.times`.
"""

from __future__ import annotations

import struct
from collections.abc import Callable, Sequence
from contextlib import suppress
from math import inf, nan
from typing import Annotated, Any, Final

import msgspec
import numpy as np
import numpy.typing as npt

from market.schema import F64, I64, TRADE_ID_BYTES, Bool

Text = npt.NDArray[np.bytes_]

_Whole = Annotated[int, msgspec.Meta(ge=0, lt=10**18)]
_WHOLES: Final = msgspec.json.Decoder(list[_Whole])


def coded(
    code: Callable[[Any], int | None], words: Sequence[object], dtype: type, unknown: int
) -> tuple[I64, Bool | None]:
    """Return a column of the codes of words, `unknown` where there is none, and which have one, None if all."""
    try:
        return np.fromiter(map(code, words), dtype, len(words)), None
    except TypeError:  # a word without code
        codes = map(code, words)
        column: I64 = np.array([unknown if found is None else found for found in codes], dtype)
        return column, column != unknown


def floats(columns: int, values: Sequence[float | None]) -> F64:
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


def trade_ids(ids: Sequence[str | int]) -> tuple[Text, Bool | None]:
    """Return ids as n ASCII bytes, and which of them are usable, None if all.

    Usable is what fits the column, starts with a letter or digit (nothing empty, nothing negative) and holds neither
    space nor control character: stores refuse some of these.
    """
    n = len(ids)
    text, plain = _lines(ids)
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


def _lines(ids: Sequence[str | int]) -> tuple[bytes, bool]:
    """Return ids as text, a line each, and whether that is plain: ASCII, without spaces and control characters."""
    try:
        if isinstance(ids[0], int):
            text = msgspec.json.encode(ids)[1:-1].replace(b",", b"\n") + b"\n"  # a third of the time of `str`
            return text, b'"' not in text
        text = ("\n".join(ids) + "\n").encode()  # type: ignore[arg-type]
    except (TypeError, OverflowError, UnicodeEncodeError):  # not of one type, or cannot be written
        return b"", False
    return text, text.isascii() and np.count_nonzero(np.frombuffer(text, np.uint8) <= ord(" ")) == len(ids)


def _plain(text: str) -> bytes:
    return text.encode() if text.isascii() and min(text, default=" ") > " " else b""


def spans_to(lasts: Sequence[str], counts: Sequence[int]) -> I64:
    """Return n x 2 int64, the first and last number of trades that join `counts` fills, the last of them known.

    A last number that `whole` cannot read is 0; zeros all if a count is beyond int64.
    """
    n = len(lasts)
    spans = np.zeros((n, 2), np.int64)
    try:
        joined = np.fromiter(counts, np.int64, n)
    except OverflowError:
        return spans
    try:
        last = np.fromiter(_WHOLES.decode(f"[{','.join(lasts)}]"), np.int64)  # a third of the time of `int`
    except msgspec.MsgspecError:
        last = np.zeros(0, np.int64)
    if last.size != n:
        last = np.array([whole(each) for each in lasts], np.int64)
    spans[:, 0], spans[:, 1] = last - joined + 1, last
    return spans


def spans_of(ranges: Sequence[str]) -> I64:
    """Return n x 2 int64 for texts like `7-9`; 0 for what `whole` cannot read."""
    n = len(ranges)
    text = ",".join(ranges).encode(errors="replace")
    if text.translate(None, b"0123456789") == (b"-," * n)[:-1]:
        with suppress(msgspec.MsgspecError):
            return np.fromiter(_WHOLES.decode(b"[%b]" % text.replace(b"-", b",")), np.int64, 2 * n).reshape(n, 2)
    cut = [each.partition("-") for each in ranges]
    return np.array([(whole(first), whole(last)) for first, _, last in cut], np.int64).reshape(n, 2)


def whole(text: str) -> int:
    """Return a number written in digits; 0 if it is not one, or has more than 18."""
    return int(text) if len(text) < 19 and text.isascii() and text.isdigit() else 0


def all_of(passed: Bool) -> bool:
    """Return whether all passed."""
    return int(np.count_nonzero(passed)) == passed.size  # a third of what `all` takes on small arrays
