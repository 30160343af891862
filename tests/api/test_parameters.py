from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from api import parameters as take
from api.problems import Refusal

NOON = datetime(2026, 1, 31, 12, tzinfo=UTC)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("2026-01-31T12:00:00Z", NOON),
        ("2026-01-31T12:00", NOON),
        ("2026-01-31", NOON - timedelta(hours=12)),
        ("2026-01-31T17:30:00+05:30", NOON),
        ("2026-01-31T17:30:00 05:30", NOON),  # a + that URL decoding made a space
        ("2026-01-31T02:00:00-10:00", NOON),
        ("2026-01-31 12:00:00", NOON),
        ("1769860800", NOON),
        ("1769860800000", NOON),
        ("1769860800000000", NOON),
        ("1769860800000000000", NOON),
        ("1769860800000000001", NOON + timedelta(microseconds=1)),  # up: [start, end) keeps its meaning
        ("0", take.EPOCH),
    ],
)
def test_times_are_read(text: str, expected: datetime) -> None:
    moment = take.parse_time(text)
    assert moment == expected
    assert moment.tzinfo is UTC


@pytest.mark.parametrize("text", ["", "noon", "-1", "1.5", "2026-13-01", "9" * 21, "0001-01-01T00:00:00+14:00"])
def test_other_times_are_refused(text: str) -> None:
    with pytest.raises(ValueError, match=r".*"):
        take.parse_time(text)


@given(st.text(max_size=60))
def test_any_text_is_a_value_or_a_refusal(text: str) -> None:
    for parameter in (take.SYMBOL, take.START, take.ROWS_LIMIT, take.INTERVAL, take.VENUE_FILTER, take.WICK_ID):
        refused = None
        try:
            parameter.read(text)
        except Refusal as refusal:
            refused = refusal
        if refused is not None:
            assert refused.status == 400
            assert refused.detail.startswith(f"{parameter.name}=")
            assert parameter.allowed in refused.detail


@pytest.mark.parametrize("text", ["BTCUSDT", "BTC-USDT\x00", "BTC/USDT", "", "B" * 25 + "-USDT"])
def test_a_symbol_is_base_quote(text: str) -> None:
    with pytest.raises(Refusal, match="a symbol of the form BASE-QUOTE"):
        take.SYMBOL.read(text)


def test_a_symbol_may_be_written_in_lower_case() -> None:
    assert take.SYMBOL.read("btc-usdt") == "BTC-USDT"


def test_a_long_value_is_cut_in_the_message() -> None:
    with pytest.raises(Refusal) as caught:
        take.INTERVAL.read("x" * 10_000)
    assert len(caught.value.detail) < 250


def test_absent_parameters_have_their_defaults() -> None:
    values = take.read_all((take.SYMBOL, take.INTERVAL, take.START, take.ROWS_LIMIT), {"symbol": "A-B"}, [])
    assert values == {"symbol": "A-B", "interval": "1m", "start": None, "limit": 500}


@pytest.mark.parametrize(
    ("query", "detail"),
    [
        ([("intervall", "1m")], "'intervall' is not one; this route takes interval, start, end"),
        ([("symbol", "A-B")], "'symbol' is not one"),
        ([("interval", "1m"), ("interval", "5m")], "allowed is given once"),
        ([("start", "2"), ("end", "1")], "is after end"),
    ],
)
def test_queries_that_make_no_sense_are_refused(query: list[tuple[str, str]], detail: str) -> None:
    with pytest.raises(Refusal, match=detail):
        take.read_all((take.SYMBOL, take.INTERVAL, take.START, take.END), {"symbol": "A-B"}, query)
