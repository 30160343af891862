import zlib

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from market.symbols import ALIASES, KEY_GROUPS, QUOTES, SymbolTable, check_symbol, key_group, split_native, symbol_of


def test_key_groups_never_change():
    """State is kept by them: another value loses the state of a running system."""
    assert KEY_GROUPS == 8
    groups = {"BTC-USDT": 7, "ETH-USDT": 5, "SOL-USDT": 3, "XRP-USDT": 3, "DOGE-USDT": 4, "BTC-USDT-PERP": 6}
    assert {symbol: key_group(symbol) for symbol in groups} == groups


@settings(deadline=None)
@given(st.text(), st.integers(1, 64))
def test_a_key_group_is_the_checksum_of_the_name(symbol, groups):
    assert key_group(symbol, groups) == zlib.crc32(symbol.encode()) % groups


@pytest.mark.parametrize(
    ("native", "parts"),
    [
        ("BTCUSDT", ("BTC", "USDT")),
        ("btcusdt", ("BTC", "USDT")),
        ("ETHBTC", ("ETH", "BTC")),
        ("BTCFDUSD", ("BTC", "FDUSD")),
        ("USDCUSDT", ("USDC", "USDT")),
        ("USDTUSDC", ("USDT", "USDC")),
        ("1000SATSUSDT", ("1000SATS", "USDT")),
        ("BTCUSD", ("BTC", "USD")),
        ("BTCUSD1", ("BTC", "USD1")),
        ("TUSDT", ("T", "USDT")),
        ("USDT", None),
        ("BTC", None),
        ("BTCXYZ", None),
        ("", None),
    ],
)
def test_native_symbols_without_separator(native, parts):
    assert split_native(native) == parts


@settings(deadline=None)
@given(st.sampled_from(["BTC", "ETH", "1INCH", "PEPE"]), st.sampled_from(QUOTES))
def test_a_glued_pair_comes_apart_as_it_was(base, quote):
    assert split_native(base + quote) == (base, quote)


def test_aliases_are_applied_on_both_sides():
    assert symbol_of("xbt", "usd") == "BTC-USD"
    assert symbol_of("XDG", "XBT") == "DOGE-BTC"
    assert symbol_of("BTC", "USDT", perpetual=True) == "BTC-USDT-PERP"
    assert not set(ALIASES) & set(ALIASES.values())


@pytest.mark.parametrize("text", ["BTC-USDT", " btc-usdt\n", "1INCH-USD", "BTC-USDT-PERP", "\u5e01\u5b89-USDT"])
def test_good_symbols_are_upper_cased(text):
    assert check_symbol(text) == text.strip().upper()


@pytest.mark.parametrize(
    "text",
    ["", "BTC", "BTCUSDT", "BTC/USDT", "BTC_USDT", "BTC-", "-USDT", "BTC-USDT-X", "B C-USDT", "A" * 25 + "-USDT",
     "BTC-USDT\nETH-USDT"],
)  # fmt: skip
def test_bad_symbols_are_one_line(text):
    with pytest.raises(ValueError, match="is not a symbol of the form BASE-QUOTE") as caught:
        check_symbol(text)
    assert "\n" not in str(caught.value)


def test_a_table_gives_codes_in_sorted_order_whatever_the_order_given():
    table = SymbolTable(["XRP-USDT", "BTC-USDT", "ETH-USDT", "BTC-USDT"])
    assert table.names == ["BTC-USDT", "ETH-USDT", "XRP-USDT"]
    assert table.codes == {"BTC-USDT": 0, "ETH-USDT": 1, "XRP-USDT": 2}
    assert len(table) == 3


@settings(deadline=None)
@given(st.sets(st.from_regex(r"[A-Z]{2,5}-USDT", fullmatch=True), max_size=30))
def test_every_symbol_is_in_one_group(names):
    table = SymbolTable(names)
    of_groups = [table.of_group(group).tolist() for group in range(KEY_GROUPS)]
    assert sorted(code for codes in of_groups for code in codes) == list(range(len(names)))
    for group, codes in enumerate(of_groups):
        assert codes == sorted(codes)
        assert all(key_group(table.names[code]) == group for code in codes)


def names_of_group(group, count):
    """Return names that share a key group."""
    names = (f"COIN{number}-USDT" for number in range(10_000))
    return [name for name in names if key_group(name) == group][:count]


def test_spare_codes_follow_and_every_group_has_as_many():
    table = SymbolTable(["BTC-USDT", "ETH-USDT"], spare=3)
    assert table.names == ["BTC-USDT", "ETH-USDT", *[""] * 3 * KEY_GROUPS]
    own = {key_group("BTC-USDT"), key_group("ETH-USDT")}
    assert [len(table.of_group(group)) for group in range(KEY_GROUPS)] == [
        4 if group in own else 3 for group in range(KEY_GROUPS)
    ]


def test_a_symbol_takes_a_code_of_its_group_and_gives_it_back():
    table = SymbolTable(["BTC-USDT"], spare=1)
    code = table.take("ETH-USDT")
    assert (table.names[code], table.codes["ETH-USDT"]) == ("ETH-USDT", code)
    assert table.groups[code] == key_group("ETH-USDT")
    with pytest.raises(ValueError, match="ETH-USDT: has a code"):
        table.take("ETH-USDT")
    table.free(code)
    assert (table.names[code], table.codes) == ("", {"BTC-USDT": 0})


def test_a_group_without_a_free_code_takes_nobody():
    first, second, third = names_of_group(3, 3)
    table = SymbolTable([first], spare=1)
    assert table.take(second) == table.of_group(3)[-1]
    assert not table.has_room(third)
    with pytest.raises(ValueError, match="no code is free in its key group"):
        table.take(third)
    table.free(0)
    assert table.take(third) == 0


def test_the_code_that_was_free_for_longest_is_taken_first():
    names = names_of_group(5, 4)
    table = SymbolTable(names[:1], spare=2)
    spare = table.of_group(5)[1:].tolist()
    table.free(0)
    assert [table.take(name) for name in names[1:]] == [*spare, 0]


def test_owners_of_a_code_have_different_salts():
    first, second = names_of_group(0, 2)
    table = SymbolTable([first])
    before = table.salts.copy()
    table.free(0)
    table.take(second)
    assert table.salts[0] != before[0]


def test_a_table_is_as_it_was():
    table = SymbolTable(["BTC-USDT", "ETH-USDT", "SOL-USDT"], spare=2)
    table.free(1)
    table.take("XRP-USDT")
    again = SymbolTable.of(table.names, table.groups.tolist())
    assert (again.names, again.codes) == (table.names, table.codes)
    assert again.salts.tolist() == table.salts.tolist()
    assert all(again.of_group(group).tolist() == table.of_group(group).tolist() for group in range(KEY_GROUPS))


@pytest.mark.parametrize(("names", "groups"), [(["BTC-USDT"], [0]), (["BTC-USDT"] * 2, [7, 7])])
def test_what_is_no_table_is_refused(names, groups):
    with pytest.raises(ValueError, match="not a table of symbols"):
        SymbolTable.of(names, groups)
