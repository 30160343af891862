"""Venue times to int64 UTC epoch nanoseconds, a column at a time, exactly.

A missing time (zero) becomes 0, one that does not fit or cannot be read becomes BAD_TIME. No binary float touches a
time: fractions are read digit by digit, and digits beyond the nanosecond are
cut off.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from datetime import UTC, datetime, timedelta
from typing import Final

import numpy as np

from market.schema import I64

BAD_TIME: Final = -1
"""What stands in a column for a time that is negative, beyond int64 nanoseconds (year 2262), or unreadable."""

_MAX_NS: Final = int(np.iinfo(np.int64).max)
_NS_PER_MS: Final = 1_000_000
_EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)
_US: Final = timedelta(microseconds=1)

_DECIMAL_MS: Final = re.compile(r"(\d{1,20})(?:\.(\d{1,32}))?", re.ASCII)
_RFC3339: Final = re.compile(r"(\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d)(?:\.(\d{1,32}))?(Z|[+-]\d\d:\d\d)", re.ASCII)

_MS_DIGITS: Final = 13
"""Digits of whole milliseconds between the years 2001 and 2286."""
_DECIMAL_DIGITS: Final = np.r_[0:_MS_DIGITS, _MS_DIGITS + 1 : _MS_DIGITS + 7]
_DECIMAL_PLACES: Final = 10 ** np.arange(len(_DECIMAL_DIGITS) - 1, -1, -1, dtype=np.int64)
_STAMP: Final = np.frombuffer(b"0000-00-00T00:00:00.000000Z\0", np.uint8)
_STAMP_MARKS: Final = np.flatnonzero(_STAMP - ord("0"))
_STAMP_DIGITS: Final = np.setdiff1d(np.arange(len(_STAMP)), _STAMP_MARKS)


def from_ns(values: Sequence[int]) -> I64:
    """Return n int64 nanoseconds for n times in nanoseconds."""
    return _scaled(values, 1)


def from_ms(values: Sequence[int]) -> I64:
    """Return n int64 nanoseconds for n times in whole milliseconds."""
    return _scaled(values, _NS_PER_MS)


def unstamped(values: Sequence[object]) -> I64:
    """Return n zeros: the venue gives these rows no usable time."""
    return np.zeros(len(values), np.int64)


def from_decimal_ms(texts: Sequence[str]) -> I64:
    """Return n int64 nanoseconds for n decimal texts of milliseconds, `1619093543708.2642`.

    The common form, 13 digits and 6 decimals, is read as one matrix of digits.
    """
    try:
        matrix = np.array(texts, f"S{_MS_DIGITS + 8}").view(np.uint8).reshape(len(texts), -1)
    except UnicodeEncodeError:
        return _each(texts, _decimal_ms)
    digits = matrix[:, _DECIMAL_DIGITS] - ord("0")
    regular = (digits <= 9).all() and (matrix[:, _MS_DIGITS] == ord(".")).all() and not matrix[:, -1].any()
    if not regular:
        return _each(texts, _decimal_ms)
    return digits @ _DECIMAL_PLACES


def from_rfc3339(texts: Sequence[str]) -> I64:
    """Return n int64 nanoseconds for n texts like `2026-08-23T13:40:09.726398Z`; "" is a missing time."""
    try:
        matrix = np.array(texts, f"S{len(_STAMP)}").view(np.uint8).reshape(len(texts), -1)
    except UnicodeEncodeError:
        return _each(texts, _rfc3339)
    marked = (matrix[:, _STAMP_MARKS] == _STAMP[_STAMP_MARKS]).all()
    if not marked or ((matrix[:, _STAMP_DIGITS] - ord("0")) > 9).any():
        return _each(texts, _rfc3339)
    stamps = np.ascontiguousarray(matrix[:, :26]).view("S26").ravel()
    try:
        times: I64 = stamps.astype("M8[ns]").view(np.int64)
    except ValueError:
        return _each(texts, _rfc3339)
    return times if (times >= 0).all() else _each(texts, _rfc3339)


def _scaled(values: Sequence[int], factor: int) -> I64:
    try:
        times = np.fromiter(values, np.int64, len(values))
    except OverflowError:
        times = np.array([value if 0 <= value <= _MAX_NS else BAD_TIME for value in values], np.int64)
    wrong = (times < 0) | (times > _MAX_NS // factor)
    times *= factor
    if wrong.any():
        times[wrong] = BAD_TIME
    return times


def _each(texts: Sequence[str], read: Callable[[str], int]) -> I64:
    times = [0 if text == "" else read(text) for text in texts]
    return np.array([time if 0 <= time <= _MAX_NS else BAD_TIME for time in times], np.int64)


def _decimal_ms(text: str) -> int:
    found = _DECIMAL_MS.fullmatch(text)
    if found is None:
        return BAD_TIME
    return int(found[1]) * _NS_PER_MS + int(f"{found[2] or '':0<6.6}")


def _rfc3339(text: str) -> int:
    found = _RFC3339.fullmatch(text)
    if found is None:
        return BAD_TIME
    try:
        whole = datetime.fromisoformat(found[1] + found[3]) - _EPOCH
    except ValueError:
        return BAD_TIME
    return whole // _US * 1000 + int(f"{found[2] or '':0<9.9}")
