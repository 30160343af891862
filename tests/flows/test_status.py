import io
import json

import pytest
import redis
from rich.console import Console

from flows import status
from flows.watch import connect
from sinks import keys

VENUE = {
    "state": "live",
    "messages": 5_000,
    "rejects": 3,
    "reconnects": 1,
    "lag_ns": 2_500_000,
    "clock_offset_ns": -12_340_000,
    "last_receive_ns": 1_769_860_800_000_000_000,
}


def wick(symbol, deviation_bps):
    return {
        "symbol": symbol,
        "venue": "okx",
        "trade_id": "7",
        "wick": json.dumps(
            {
                "symbol": symbol,
                "venue": "okx",
                "price": 61_000.5,
                "reference": 60_000.0,
                "deviation_bps": deviation_bps,
                "evidence": {"kraken": {"vote": "did not follow"}},
            }
        ),
    }


def text_of(renderable):
    console = Console(width=120, file=io.StringIO())
    console.print(renderable)
    return console.file.getvalue()


def row(name="okx", messages=0, **fields):
    return status.VenueRow(
        **{
            "name": name,
            "state": "live",
            "messages": messages,
            "rejects": 0,
            "reconnects": 0,
            "lag_ns": 0,
            "clock_offset_ns": 0,
            "last_receive_ns": 0,
            **fields,
        }
    )


def test_an_empty_store_is_an_empty_snapshot(hot):
    assert status.read(hot, 1.5) == status.Snapshot(at_s=1.5)


def test_reads_what_the_writer_wrote(hot):
    hot.hset(keys.venue("okx"), mapping=VENUE)
    hot.hset(keys.venue("binance"), mapping={**VENUE, "state": "stale"})
    hot.hset(keys.WRITER, mapping={"candles": 120, "wicks": 4})
    for symbol in ("BTC-USDT", "ETH-USDT"):
        hot.hset(keys.ticker(symbol), "price", 1)
    hot.set("other:tk:", "not ours")
    found = status.read(hot, 0.0)
    assert [venue.name for venue in found.venues] == ["binance", "okx"]
    assert found.venues[1] == status.VenueRow("okx", **VENUE)
    assert found.live == 1
    assert (found.symbols, found.candles, found.wicks) == (2, 120, 4)


def test_the_newest_wicks_come_first_and_are_bounded(hot):
    for number in range(status.WICKS_SHOWN + 2):
        hot.xadd(keys.WICK_STREAM, wick(f"S{number}-USDT", number))
    wicks = status.read(hot, 0.0).last_wicks
    assert [row.symbol for row in wicks] == ["S6-USDT", "S5-USDT", "S4-USDT", "S3-USDT", "S2-USDT"]
    assert wicks[0] == status.WickRow("S6-USDT", "okx", 61_000.5, 60_000.0, 6.0)


def test_fields_of_another_version_do_not_end_the_display(hot):
    hot.hset(keys.venue("okx"), mapping={"state": "live", "messages": "many", "lag_ns": ""})
    hot.xadd(keys.WICK_STREAM, {"wick": "{"})
    found = status.read(hot, 0.0)
    assert found.venues[0].messages == 0
    assert found.last_wicks[0].symbol == "?"
    assert "okx" in text_of(status.table(found, {}))


def test_more_symbols_than_one_scan_step_holds(hot):
    symbols = 2 * status.SCAN_ROWS + 1
    with hot.pipeline() as pipeline:
        for number in range(symbols):
            pipeline.hset(keys.ticker(f"S{number}-USDT"), "price", 1)
        pipeline.execute()
    assert status.read(hot, 0.0).symbols == symbols


def test_a_store_that_is_away_is_an_error_of_redis(tmp_path):
    with connect(f"unix://{tmp_path}/none.sock") as away, pytest.raises(redis.RedisError):
        status.read(away, 0.0)


def test_rates_are_differences_over_time():
    before = status.Snapshot(10.0, (row("okx", 100), row("kraken", 50)))
    now = status.Snapshot(14.0, (row("okx", 500), row("kraken", 50), row("bybit", 9)))
    assert status.rates(before, now) == {"okx": 100.0, "kraken": 0.0}


def test_a_new_session_counts_from_zero():
    before = status.Snapshot(0.0, (row("okx", 1_000),))
    now = status.Snapshot(2.0, (row("okx", 40),))
    assert status.rates(before, now) == {"okx": 20.0}


@pytest.mark.parametrize("before", [None, status.Snapshot(2.0, (row("okx", 1),))])
def test_no_rate_without_time_between(before):
    assert status.rates(before, status.Snapshot(2.0, (row("okx", 5),))) == {}


def test_the_table_names_units_and_values(hot):
    hot.hset(keys.venue("okx"), mapping=VENUE)
    hot.hset(keys.WRITER, mapping={"candles": 1_200, "wicks": 1})
    hot.xadd(keys.WICK_STREAM, wick("BTC-USDT", 166.7))
    text = text_of(status.table(status.read(hot, 0.0), {"okx": 1_234.4}))
    assert "lag ms" in text
    assert "clock offset ms" in text
    assert [part for part in text.splitlines()[1].split() if part] == ["okx", "live", "1,234", "2.5", "-12.3", "3", "1"]
    assert "1,200 candles written" in text
    assert "wick BTC-USDT okx 61000.5, others 60000 (+167 bps)" in text


def test_the_line_holds_the_totals():
    rows = (row("okx", 5, rejects=2, lag_ns=1_500_000), row("kraken", state="down", rejects=1, lag_ns=500_000))
    line = status.line(status.Snapshot(0.0, rows, symbols=50, candles=7, wicks=1), {"okx": 1_500.0})
    assert line == ("1/2 venues live, 1,500 messages/s, lag 1.5 ms at most, 3 rejects, 50 symbols, 7 candles, 1 wicks")
