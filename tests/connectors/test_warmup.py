import time

import numpy as np
import pytest

from connectors import rest, warmup
from connectors.pipe import Endpoint
from connectors.route import rebase
from connectors.universe import Universe, find
from connectors.venue import Kline
from connectors.venues import VENUES
from connectors.warmup import candles_of, fetch, newest_closed_s
from market.schema import NS_PER_S

NOW_S = 1_790_000_000
MINUTE = 60


def kline(open_s, close=10.0, volume=2.0):
    return Kline(open_s, 9.0, 12.0, 8.0, close, volume, volume * 10.0)


# columns


def test_the_newest_closed_candle_ended_at_the_last_boundary():
    assert newest_closed_s(60, 120.0) == 60
    assert newest_closed_s(60, 179.9) == 60
    assert newest_closed_s(3600, NOW_S) == NOW_S // 3600 * 3600 - 3600


def test_candles_come_in_order_and_those_left_out_are_flat():
    rows = candles_of([kline(240), kline(60, close=11.0)], 5, MINUTE, 0, 300)
    assert (rows["open_ns"] // NS_PER_S).tolist() == [60, 120, 180, 240, 300]
    assert rows["close"].tolist() == [11.0, 11.0, 11.0, 10.0, 10.0]
    assert rows["high"].tolist() == [12.0, 11.0, 11.0, 12.0, 10.0]
    assert rows["volume"].tolist() == [2.0, 0.0, 0.0, 2.0, 0.0]
    assert rows["vwap"].tolist() == [10.0, 11.0, 11.0, 10.0, 10.0]
    assert set(rows["symbol"].tolist()) == {5}
    assert set(rows["interval_s"].tolist()) == {60}


def test_what_was_not_asked_for_or_makes_no_sense_is_left_out():
    odd = [
        kline(0),  # before the window
        kline(360),  # forming
        kline(90),  # of another grid
        Kline(120, 9.0, 12.0, 8.0, 13.0, 1.0, 1.0),  # closes above its high
        Kline(180, 9.0, 12.0, float("nan"), 10.0, 1.0, 1.0),
    ]
    assert candles_of(odd, 0, MINUTE, 60, 300).size == 0
    assert candles_of([], 0, MINUTE, 60, 300).size == 0


# the venues


@pytest.mark.parametrize("name", VENUES)
@pytest.mark.parametrize("interval_s", [60, 300, 3_600])
def test_every_venue_s_candles_are_those_asked_for(quiet_simulator, name, interval_s):
    venue, base = VENUES[name], quiet_simulator.endpoints[name]["rest"]
    native = {"gateio": "BTC_USDT", "okx": "BTC-USDT", "kucoin": "BTC-USDT", "kraken": "BTC/USDT"}.get(name, "BTCUSDT")
    end_s = newest_closed_s(interval_s, time.time())
    start_s = end_s - 99 * interval_s
    path = venue.klines_path(native, interval_s, start_s, end_s)
    rows = candles_of(venue.klines(rest.call(rebase(venue.REST_URL, base, path))), 0, interval_s, start_s, end_s)
    assert (rows["open_ns"] // NS_PER_S).tolist() == list(range(start_s, end_s + 1, interval_s))
    assert (rows["low"] <= rows["open"]).all()
    assert (rows["volume"] > 0).mean() > 0.9
    # volume is of the base currency, quote volume of the quote currency
    assert np.allclose(rows["vwap"], rows["close"], rtol=0.2)


@pytest.mark.parametrize("name", VENUES)
def test_a_list_of_candles_that_is_none_says_so(name):
    for body in (b"{}", b'{"code":"1","retCode":1,"error":["E"],"data":null}', b"null"):
        with pytest.raises(ValueError, match=f"{name}: the list of candles"):
            VENUES[name].klines(body)


# the whole


@pytest.fixture
def market(quiet_simulator, tmp_path):
    venues = tuple(VENUES)
    endpoints = {name: Endpoint(**quiet_simulator.endpoints[name]) for name in venues}
    return find(venues, "top:4", endpoints, tmp_path / "lists"), endpoints


def test_all_series_are_fetched_without_a_hole_up_to_now(market):
    universe, endpoints = market
    wanted = [(symbol, interval_s) for symbol in range(4) for interval_s in (60, 900)]
    told = []
    found = fetch(
        wanted, universe, count=120, now_s=time.time, endpoints=endpoints, progress=lambda *at: told.append(at)
    )
    assert set(found) == set(wanted)
    assert told == [(done, 8) for done in range(1, 9)]
    for (symbol, interval_s), rows in found.items():
        assert set(rows["symbol"].tolist()) == {symbol}
        assert rows.size == 120
        assert set(np.diff(rows["open_ns"]).tolist()) == {interval_s * NS_PER_S}
        assert rows["open_ns"][-1] // NS_PER_S >= newest_closed_s(interval_s, time.time() - 1)


def test_the_venue_with_the_largest_turnover_is_asked_first_and_the_next_if_it_does_not_answer(market, caplog):
    universe, endpoints = market
    natives = {name: universe.natives[name] for name in ("okx", "bybit")}
    symbol = universe.symbols[0]
    chosen = Universe(universe.symbols, natives, {"okx": {symbol: 9.0}, "bybit": {symbol: 1.0}})
    deaf = {**endpoints, "okx": Endpoint("ws://127.0.0.1:9", "http://127.0.0.1:9")}
    (rows,) = fetch([(0, 60)], chosen, count=5, now_s=time.time, endpoints=deaf).values()
    assert rows.size == 5
    assert [record.message.split(":")[0] for record in caplog.records] == ["okx"]


def test_a_series_of_which_a_candle_closed_meanwhile_is_fetched_again(market):
    universe, endpoints = market
    clock = iter([time.time() - 60] + [time.time()] * 9)
    (rows,) = fetch([(0, 60)], universe, count=5, now_s=lambda: next(clock), endpoints=endpoints).values()
    assert rows["open_ns"][-1] // NS_PER_S >= newest_closed_s(60, time.time() - 2)


def test_what_cannot_be_had_stays_cold(monkeypatch, caplog):
    universe = Universe(("BTC-USDT",), {"okx": {"BTC-USDT": "BTC-USDT"}})
    nowhere = {"okx": Endpoint("ws://127.0.0.1:9", "http://127.0.0.1:9")}
    assert fetch([(0, 60), (0, 7)], universe, count=5, now_s=time.time, endpoints=nowhere) == {}
    monkeypatch.setattr(warmup, "DEADLINE_S", 0.0)
    assert fetch([(0, 60)], universe, count=5, now_s=time.time, endpoints=nowhere) == {}
    assert "0 of 1 series within" in caplog.text
