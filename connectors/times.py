"""Venue times to int64 UTC epoch nanoseconds, a column at a time, exactly.

A missing time (zero) becomes 0, one that does not fit or cannot be read becomes BAD_TIME. No binary float touches a
time: fractions are read digit by digit, and digits beyond the nanosecond are cut off. Texts of the common form are
read as one matrix of digits; a column that holds another form is read text by text.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from datetime import UTC, datetime, timedelta
from functools import lru_cache
from typing import Final

import numpy as np
import numpy.typing as npt

from market.schema import F64, I64

BAD_TIME: Final = -1
"""What stands in a column for a time that is negative, beyond int64 nanoseconds (year 2262), or unreadable."""

Digits = npt.NDArray[np.uint8]

_MAX_NS: Final = int(np.iinfo(np.int64).max)
_NS_PER_MS: Final = 1_000_000
_DAY_NS: Final = 86_400 * 10**9
_EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)
_US: Final = timedelta(microseconds=1)
_FORMS: Final = 256
"""Texts in a batch for which a form is laid out beforehand."""

_DECIMAL_MS: Final = re.compile(r"(\d{1,20})(?:\.(\d{1,32}))?", re.ASCII)
_RFC3339: Final = re.compile(r"(\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d)(?:\.(\d{1,32}))?(Z|[+-]\d\d:\d\d)", re.ASCII)


class _Form:
    """A fixed form of text: zeros where a digit stands, other characters as they are.

    Attributes:
        form: w uint8, _FORMS times: plain columns compare in half the time of broadcast rows.
        limits: As `form`, the greatest digit at each place; 0 at characters that must be as in the form.
        weights: w int64 or float64, what the digits count; 0 at other characters. Floats, a third of the time of
            integers, where all sums are below 2^53.
    """

    def __init__(self, form: bytes, limits: bytes, weights: I64 | F64) -> None:
        self.form: Digits = np.frombuffer(form * _FORMS, np.uint8)
        self.limits: Digits = np.frombuffer(limits * _FORMS, np.uint8) - ord("0")
        self.weights = weights

    def read(self, texts: Sequence[str]) -> I64 | None:
        """Return n int64, what the digits of each text count together; None if a text has another form."""
        joined = "".join(texts).encode(errors="replace")
        size = len(joined)
        if size != len(texts) * self.weights.size:
            return None
        form, limits = self.form[:size], self.limits[:size]
        if size > form.size:
            form, limits = np.resize(form, size), np.resize(limits, size)
        digits = np.frombuffer(joined, np.uint8) - form
        if np.count_nonzero(digits > limits):
            return None
        return (digits.reshape(len(texts), -1) @ self.weights).astype(np.int64, copy=False)


_MS_FORM: Final = _Form(
    form=b"0000000000000.000000",  # 13 digits of whole milliseconds: the years 2001 to 2286
    limits=b"89999999999990999999",
    weights=np.array([10**power for power in range(18, 5, -1)] + [0] + [10**power for power in range(5, -1, -1)]),
)
_TIME_OF_DAY: Final = np.array(
    [second * 1e9 for second in (36_000, 3_600, 0, 600, 60, 0, 10, 1)] + [0] + [1e8, 1e7, 1e6, 1e5, 1e4, 1e3]
)


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
    """Return n int64 nanoseconds for n decimal texts of milliseconds, `1619093543708.2642`; "" is a missing time."""
    times = _MS_FORM.read(texts)
    return _each(texts, _decimal_ms) if times is None else times


def from_rfc3339(texts: Sequence[str]) -> I64:
    """Return n int64 nanoseconds for n texts like `2026-08-23T13:40:09.726398Z`; "" is a missing time."""
    day = _day(texts[0][:10])
    if day is None:
        return _each(texts, _rfc3339)
    midnight_ns, form = day
    of_day = form.read(texts)
    if of_day is None or np.count_nonzero(of_day >= _DAY_NS):  # not all of one day, or another form
        return _each(texts, _rfc3339)
    return of_day + midnight_ns


@lru_cache(maxsize=8)
def _day(date: str) -> tuple[int, _Form] | None:
    """Return when a day begins, and the form of its stamps, which count from then; None if there is no such day."""
    midnight_ns = _rfc3339(f"{date}T00:00:00Z")
    if not 0 <= midnight_ns < _MAX_NS - _DAY_NS:
        return None
    form = f"{date}T00:00:00.000000Z".encode()
    return midnight_ns, _Form(form, limits=b"000000000002905905909999990", weights=np.pad(_TIME_OF_DAY, (11, 1)))


def _scaled(values: Sequence[int], factor: int) -> I64:
    try:
        times = np.fromiter(values, np.int64, len(values))
    except OverflowError:
        times = np.array([value if 0 <= value <= _MAX_NS else BAD_TIME for value in values], np.int64)
    wrong = times.view(np.uint64) > _MAX_NS // factor  # what is negative counts as beyond
    times *= factor
    if np.count_nonzero(wrong):
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
