import json

import pytest

from connectors.pipe import Endpoint
from connectors.rest import RestError
from connectors.universe import (
    UniverseError,
    _Listed,
    _one_a_symbol,
    choose,
    find,
    natives_now,
    pairs,
    ranked,
    top_of,
    turnovers,
)
from connectors.venue import Instrument
from connectors.venues import VENUES
from market.venues import VENUES as NAMES

NOWHERE = Endpoint("ws://127.0.0.1:9", "http://127.0.0.1:9")


def listed(**venues):
    """Return lists of instruments: venue -> symbol -> turnover."""
    return {
        name: [_Listed(symbol.replace("_", "-"), symbol.replace("_", ""), volume) for symbol, volume in found.items()]
        for name, found in venues.items()
    }


# choose


def test_top_adds_up_dollars_over_venues():
    lists = listed(
        okx={"A_USDT": 10.0, "B_USDT": 60.0, "C_USDC": 50.0},
        bybit={"A_USDT": 10.0, "B_USDT": 1.0, "C_USDC": 50.0},
        kraken={"A_USDT": 90.0},
    )
    assert choose(lists, "top:1") == {"A-USDT"}
    assert choose(lists, "top:2") == {"A-USDT", "C-USDC"}
    assert choose(lists, "top:9") == {"A-USDT", "B-USDT", "C-USDC"}


def test_top_leaves_out_what_one_venue_alone_lists():
    lists = listed(okx={"A_USDT": 1.0, "B_USDT": 1e9}, bybit={"A_USDT": 1.0})
    assert choose(lists, "top:9") == {"A-USDT"}
    with pytest.raises(UniverseError, match="no symbol is listed by 2 of okx, bybit"):
        choose(listed(okx={"A_USDT": 1.0}, bybit={"B_USDT": 1.0}), "top:9")


def test_with_one_venue_there_is_nothing_to_share():
    assert choose(listed(okx={"A_USDT": 1.0, "B_USDT": 2.0}), "top:1") == {"B-USDT"}


def test_other_currencies_rank_behind_all_dollars_and_ties_by_name():
    both = {"A_KRW": 1e15, "B_USDT": 5.0, "C_USDT": 5.0, "D_BTC": 9.0}
    lists = listed(okx=both, bybit=both)
    assert choose(lists, "top:1") == {"B-USDT"}
    assert choose(lists, "top:2") == {"B-USDT", "C-USDT"}
    assert choose(lists, "top:3") == {"A-KRW", "B-USDT", "C-USDT"}


def test_named_symbols_are_taken_wherever_listed_and_unknown_ones_named():
    lists = listed(okx={"A_USDT": 1.0}, bybit={"B_USDT": 1.0})
    assert choose(lists, "A-USDT,B-USDT") == {"A-USDT", "B-USDT"}
    with pytest.raises(UniverseError) as caught:
        choose(lists, "A-USDT,X-USDT,W-USDT")
    assert str(caught.value) == "MIE_SYMBOLS: W-USDT, X-USDT listed by none of okx, bybit"


def test_two_pairs_of_a_venue_for_one_symbol_are_one():
    """An alias, BCH and BCHABC, is not a second venue; the pair that trades is the one meant."""
    pairs = [_Listed("BCH-USDT", "BCHUSDT", 5.0), _Listed("BCH-USDT", "BCHABCUSDT", 0.0), _Listed("A-USDT", "AUSDT", 1)]
    for order in (pairs, pairs[::-1]):
        found = _one_a_symbol(order)
        assert {pair.symbol: pair.native for pair in found} == {"BCH-USDT": "BCHUSDT", "A-USDT": "AUSDT"}


@pytest.mark.parametrize(("wanted", "top"), [(None, 50), ("top:7", 7), ("BTC-USDT,ETH-USDT", None)])
def test_the_n_of_a_top(wanted, top):
    assert top_of(wanted) == top


def test_what_two_venues_list_is_ranked():
    lists = {"okx": {"A-USDT": 1.0, "B-USDT": 9.0, "C-USDT": 5.0}, "bybit": {"A-USDT": 9.0, "C-USDT": 5.5}}
    assert ranked(lists) == ["C-USDT", "A-USDT"]
    assert ranked({"okx": lists["okx"]}) == ["B-USDT", "C-USDT", "A-USDT"]
    assert ranked({}) == []


# what is listed now


def test_what_trades_now_keeps_its_native_symbol():
    listed = [Instrument("A-USDT", "AUSDT", True), Instrument("BCH-USDT", "BCHABCUSDT", True)]
    listed.append(Instrument("BCH-USDT", "BCHUSDT", True))
    assert natives_now(listed, {"BCH-USDT": "BCHUSDT"}) == {"A-USDT": "AUSDT", "BCH-USDT": "BCHUSDT"}
    assert natives_now(listed[:2], {"BCH-USDT": "BCHUSDT"})["BCH-USDT"] == "BCHABCUSDT"


def test_the_pairs_of_each_venue_and_their_turnover(quiet_simulator):
    for name in NAMES:
        at = endpoints_of(quiet_simulator)[name]
        listed = pairs(name, at, None)
        found = natives_now(listed, {})
        assert VENUES[name].symbol_of_native(found["BTC-USDT"]) == "BTC-USDT"
        turnover = turnovers(name, listed, at, None)
        assert set(turnover) == set(found)
        assert min(turnover.values()) > 0
        assert turnover["BTC-USDT"] == max(turnover.values())


def test_of_two_pairs_for_a_symbol_the_larger_counts(quiet_simulator):
    listed = pairs("binance", endpoints_of(quiet_simulator)["binance"], None)
    both = [*listed, Instrument("ETH-USDT", "BTCUSDT", True), Instrument("NEW-USDT", "NEWUSDT", True)]
    turnover = turnovers("binance", both, endpoints_of(quiet_simulator)["binance"], None)
    assert turnover["ETH-USDT"] == turnover["BTC-USDT"]
    assert turnover["NEW-USDT"] == 0.0


def test_without_a_list_nothing_is_said_to_be_listed(quiet_simulator):
    for ask in (pairs, lambda name, at, context: turnovers(name, [], at, context)):
        with pytest.raises(RestError):
            ask("okx", NOWHERE, None)
        with pytest.raises(RestError):
            ask("okx", endpoints_of(quiet_simulator)["bybit"], None)


# find


def endpoints_of(simulator, names=NAMES):
    return {name: Endpoint(**simulator.endpoints[name]) for name in names}


def test_against_the_simulator_s_rest(quiet_simulator, tmp_path):
    universe = find(NAMES, "top:5", endpoints_of(quiet_simulator), tmp_path)
    assert len(universe.symbols) == 5
    assert list(universe.symbols) == sorted(universe.symbols)
    assert "BTC-USDT" in universe.symbols
    assert set(universe.natives) == set(NAMES)
    assert universe.natives["kraken"]["BTC-USDT"] == "BTC/USDT"
    assert universe.natives["binance"]["BTC-USDT"] == "BTCUSDT"
    for name, natives in universe.natives.items():
        assert all(VENUES[name].symbol_of_native(native) == symbol for symbol, native in natives.items())
    assert {path.name for path in tmp_path.iterdir()} == {f"{name}.json" for name in NAMES}


def test_symbols_of_an_earlier_run_keep_their_native_names(quiet_simulator, tmp_path):
    wanted = find(NAMES, "top:2", endpoints_of(quiet_simulator), tmp_path)
    kept = find(NAMES, "top:2", endpoints_of(quiet_simulator), tmp_path, kept=["XRP-USDT", "GONE-USDT"])
    assert kept.symbols == wanted.symbols
    assert kept.natives["okx"] == {**wanted.natives["okx"], "XRP-USDT": "XRP-USDT"}
    assert kept.turnover["okx"]["XRP-USDT"] > 0


def test_the_default_is_top_50_and_a_symbol_may_be_listed_by_one(quiet_simulator, tmp_path):
    universe = find(NAMES, None, endpoints_of(quiet_simulator), tmp_path)
    assert 5 < len(universe.symbols) <= 50
    assert find(("okx",), "BTC-USDT", endpoints_of(quiet_simulator), tmp_path).symbols == ("BTC-USDT",)


def test_without_rest_the_cached_list_is_used(quiet_simulator, tmp_path, caplog):
    names = ("okx", "bybit")
    fresh = find(names, "top:5", endpoints_of(quiet_simulator, names), tmp_path)
    endpoints = {**endpoints_of(quiet_simulator, names), "okx": NOWHERE}
    assert find(names, "top:5", endpoints, tmp_path) == fresh
    assert "okx: no list of instruments" in caplog.text
    assert "using the cached list" in caplog.text


def test_without_rest_and_cache_a_venue_is_left_out(quiet_simulator, tmp_path, caplog):
    endpoints = {**endpoints_of(quiet_simulator), "okx": NOWHERE}
    universe = find(("okx", "bybit", "kraken"), "top:5", endpoints, tmp_path)
    assert set(universe.natives) == {"bybit", "kraken"}
    assert "left out" in caplog.text


def test_without_any_list_it_is_one_line(tmp_path):
    with pytest.raises(UniverseError, match=r"^no list of instruments from any of okx, bybit, and none in [^\n]*$"):
        find(("okx", "bybit"), "top:5", {"okx": NOWHERE, "bybit": NOWHERE}, tmp_path)


@pytest.mark.parametrize("content", ["", "[{", '[{"symbol":1}]'])
def test_a_cache_that_cannot_be_read_is_none(tmp_path, caplog, content):
    (tmp_path / "okx.json").write_text(content)
    with pytest.raises(UniverseError):
        find(("okx",), "top:5", {"okx": NOWHERE}, tmp_path)
    assert "not readable" in caplog.text


def test_another_venue_s_answer_is_no_list(quiet_simulator, tmp_path, caplog):
    """OKX's paths on Bybit's server."""
    at = Endpoint(**quiet_simulator.endpoints["bybit"])
    with pytest.raises(UniverseError):
        find(("okx",), "top:5", {"okx": at}, tmp_path)
    assert not (tmp_path / "okx.json").exists()


def test_the_cache_is_replaced_whole(quiet_simulator, tmp_path):
    find(("okx",), "top:5", endpoints_of(quiet_simulator), tmp_path)
    rows = json.loads((tmp_path / "okx.json").read_text())
    assert {"symbol", "native", "quote_volume"} == set(rows[0])
    assert [path.name for path in tmp_path.iterdir()] == ["okx.json"]
