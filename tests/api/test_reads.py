from datetime import UTC, datetime, timedelta

import msgspec
from hypothesis import given
from hypothesis import strategies as st

from api import models, reads
from api.parameters import split_wick_id

NOON = datetime(2026, 1, 31, 12, tzinfo=UTC)
TIMES = st.datetimes(datetime(1970, 1, 2), datetime(2200, 1, 1), timezones=st.just(UTC))  # noqa: DTZ001 - st adds UTC


def test_times_always_have_microseconds() -> None:
    assert reads.iso(NOON) == "2026-01-31T12:00:00.000000Z"
    assert reads.iso(NOON + timedelta(microseconds=7)) == "2026-01-31T12:00:00.000007Z"


@given(TIMES, st.sampled_from(["okx", "kraken"]), st.text(st.characters(min_codepoint=33, max_codepoint=126)))
def test_a_wick_id_gives_its_key_back(event_time: datetime, venue: str, trade_id: str) -> None:
    key = (event_time, venue, "BTC-USDT", trade_id)
    assert split_wick_id(reads.wick_id(*key)) == key


@given(TIMES)
def test_epoch_nanoseconds_are_exact(moment: datetime) -> None:
    whole, microseconds = divmod(reads.epoch_ns(moment), 1_000_000_000)
    rebuilt = datetime.fromtimestamp(whole, UTC) + timedelta(microseconds=microseconds // 1000)
    assert rebuilt == moment


def test_a_ticker_of_broken_fields_is_null_where_they_are() -> None:
    fields = {
        "price": "nan",
        "size": "",
        "bid": "x",
        "seq": "1.5",
        "event_ns": "0",
        "side": "buy",
        "venue": "",
        "ask": "inf",
    }
    ticker = msgspec.to_builtins(reads.ticker_of("A-B", fields))
    told = msgspec.json.decode(msgspec.json.encode(ticker))
    assert {name: value for name, value in told.items() if value is not None} == {"symbol": "A-B", "side": "buy"}


def test_a_venue_that_never_received_says_null() -> None:
    venue = reads.venue_of("okx", {"state": "connecting", "messages": "0", "last_receive_ns": "0"})
    assert (venue.state, venue.messages, venue.last_receive_ns, venue.last_receive_time) == (
        "connecting",
        0,
        None,
        None,
    )


def wick(**changes: object) -> models.Wick:
    fields = {
        "id": "", "event_time": "", "receive_time": "", "symbol": "BTC-USDT", "venue": "okx", "trade_id": "1",
        "price": 59000.0, "size": 1.0, "side": None, "reference": 60000.0, "deviation_bps": -168.1,
        "dispersion_bps": 2.0, "basis_bps": 0.3, "witnesses": 1, "readmitted_time": None, **changes,
    }  # fmt: skip
    return msgspec.convert(fields, models.Wick)


def test_the_verdict_says_what_was_measured() -> None:
    text = reads.why(wick(), {"kraken": {"vote": "did not follow"}, "bybit": {"vote": "silent"}})
    expected = "okx alone traded BTC-USDT at 59000, 168.1 bps below the 60000 where 1 other live venue had it (kraken)"
    assert text.startswith(expected)
    assert text.endswith("It is kept out of candles, indicators and the price.")


def test_the_verdict_says_when_it_was_taken_back() -> None:
    text = reads.why(wick(price=61000.0, witnesses=3, readmitted_time="2026-01-31T12:00:00.000000Z"), None)
    assert "above the 60000 where 3 other live venues had it: " in text
    assert text.endswith("Other venues confirmed it at 2026-01-31T12:00:00.000000Z, so it was let back in.")
