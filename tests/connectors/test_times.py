import random
from datetime import UTC, datetime, timedelta

import numpy as np
import pytest

from connectors import times
from connectors.times import BAD_TIME

MS = 1_790_359_171_119


def test_whole_milliseconds_and_nanoseconds():
    assert times.from_ms((MS, 0, 1)).tolist() == [MS * 10**6, 0, 10**6]
    assert times.from_ns((MS * 10**6 + 1, 0)).tolist() == [MS * 10**6 + 1, 0]
    assert times.from_ms(()).dtype == np.int64


@pytest.mark.parametrize("wrong", [-1, 2**63, 10**40, 2**63 // 10**6 + 1])
def test_what_does_not_fit_is_bad_and_leaves_the_others(wrong):
    assert times.from_ms((MS, wrong, 5)).tolist() == [MS * 10**6, BAD_TIME, 5 * 10**6]


def test_the_last_instants_of_int64():
    assert times.from_ns((2**63 - 1, 2**63)).tolist() == [2**63 - 1, BAD_TIME]
    assert times.from_ms((2**63 // 10**6,)).tolist() == [2**63 // 10**6 * 10**6]


def test_unstamped():
    assert times.unstamped(("a", "b")).tolist() == [0, 0]


DECIMALS = ["1790359171119.653000", "1790359171119.000001", "1790359171119.999999"]


def test_decimal_milliseconds_together_and_alone_are_the_same():
    together = times.from_decimal_ms(DECIMALS).tolist()
    assert together == [MS * 10**6 + 653_000, MS * 10**6 + 1, MS * 10**6 + 999_999]
    assert [int(times.from_decimal_ms([text])[0]) for text in DECIMALS] == together
    assert times.from_decimal_ms([*DECIMALS, "1.5", "", "x"]).tolist() == [*together, 1_500_000, 0, BAD_TIME]


@pytest.mark.parametrize(
    ("text", "ns"),
    [
        ("179035917111.6530000", 179_035_917_111_653_000),
        ("1790359171119.65300\0", BAD_TIME),
        ("é790359171119.653000", BAD_TIME),
        ("9999999999999.999999", BAD_TIME),
    ],
)
def test_an_odd_text_does_not_spoil_its_column(text, ns):
    good = MS * 10**6 + 653_000
    assert times.from_decimal_ms([DECIMALS[0], text, DECIMALS[0]]).tolist() == [good, ns, good]


def test_texts_that_fit_together_only_by_their_total_length():
    texts = ["1790359171119.65300", "1790359171119.6530001"]
    assert times.from_decimal_ms(texts).tolist() == [MS * 10**6 + 653_000, MS * 10**6 + 653_000]


def stamp(moment):
    return moment.strftime("%Y-%m-%dT%H:%M:%S.%fZ")


def ns(moment):
    return (moment - datetime(1970, 1, 1, tzinfo=UTC)) // timedelta(microseconds=1) * 1000


@pytest.mark.parametrize("spread", [timedelta(hours=20), timedelta(days=9000)])
def test_stamps_of_one_day_and_of_many(spread):
    chance = random.Random(3)
    start = datetime(2001, 2, 27, 2, tzinfo=UTC)
    moments = [start + spread * chance.random() for _ in range(300)]
    assert times.from_rfc3339([stamp(moment) for moment in moments]).tolist() == [ns(moment) for moment in moments]


@pytest.mark.parametrize(
    "text",
    [
        "2026-02-30T00:00:00.000000Z",
        "2026-08-23T24:00:00.000000Z",
        "2026-08-23T23:60:00.000000Z",
        "2026-08-23 23:59:00.000000Z",
        "2026-08-23T23:59:00.000000z",
        "1969-12-31T23:59:59.999999Z",
        "9999-12-31T23:59:59.999999Z",
        "now",
        "NaT",
        "\uff12026-08-23T23:59:00.000000Z",
    ],
)
def test_bad_stamps(text):
    good = "2026-08-23T13:40:09.726398Z"
    assert times.from_rfc3339([text]).tolist() == [BAD_TIME]
    assert times.from_rfc3339([good, text, good]).tolist() == [1787492409726398000, BAD_TIME, 1787492409726398000]


def test_other_forms_of_stamps():
    texts = ["2026-08-23T13:40:09Z", "2026-08-23T15:40:09.726398123999+02:00", ""]
    assert times.from_rfc3339(texts).tolist() == [1787492409000000000, 1787492409726398123, 0]
