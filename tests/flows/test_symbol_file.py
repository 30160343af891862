import json
from pathlib import Path

import pytest

from connectors.roster import REUSE_S
from connectors.universe import UniverseError
from flows.symbol_file import FILE, SymbolFile, recovery_dir, spare_codes
from market.schema import NS_PER_S
from market.symbols import KEY_GROUPS, SymbolTable, key_group
from operators.steps import SETTLE_NS

NAMES = ["BTC-USDT", "ETH-USDT", "SOL-USDT"]


def test_a_resumed_run_gives_each_symbol_its_code(tmp_path):
    table = SymbolFile(tmp_path).changing(NAMES, 50)
    table.take("XRP-USDT")
    SymbolFile(tmp_path).write(table, [1])
    again = SymbolFile(tmp_path)
    assert again.kept.leaving == [1]
    assert set(again.kept.symbols) == {*NAMES, "XRP-USDT"}
    resumed = again.changing(["ADA-USDT", "BTC-USDT", "SOL-USDT"], 50)
    assert {name: resumed.codes[name] for name in table.codes} == table.codes
    assert resumed.groups.tolist() == table.groups.tolist()
    assert resumed.groups[resumed.codes["ADA-USDT"]] == key_group("ADA-USDT")


def test_without_recovery_nothing_is_kept(tmp_path):
    nothing = SymbolFile(None)
    assert nothing.changing(NAMES, 50).names[:3] == NAMES
    assert nothing.fixed(NAMES).names == NAMES
    nothing.write(SymbolTable(NAMES), [])
    SymbolFile(tmp_path / "none").write(SymbolTable(NAMES), [])
    assert list(tmp_path.iterdir()) == []


def test_fixed_symbols_go_on_with_the_same_and_no_others(tmp_path):
    assert SymbolFile(tmp_path).fixed(NAMES).names == NAMES
    assert SymbolFile(tmp_path).fixed(NAMES[::-1]).names == NAMES
    with pytest.raises(UniverseError) as caught:
        SymbolFile(tmp_path).fixed(NAMES[:2])
    assert str(caught.value) == (
        f"MIE_SYMBOLS: the state in {tmp_path} is of BTC-USDT, ETH-USDT, SOL-USDT, not of BTC-USDT, ETH-USDT:"
        " go on with those, or begin with an empty recovery directory"
    )


def test_many_more_symbols_than_there_are_codes_are_refused(tmp_path):
    SymbolFile(tmp_path).fixed(NAMES)
    names = [f"C{number}-USDT" for number in range(8)]
    with pytest.raises(UniverseError, match=r"SOL-USDT, not of C0-USDT, .* and 3 more: go on"):
        SymbolFile(tmp_path).changing(names, 8)


def test_a_symbol_for_which_there_is_no_room_waits(tmp_path):
    full = [name for name in (f"C{number}-USDT" for number in range(400)) if key_group(name) == 0][:6]
    table = SymbolFile(tmp_path).changing(full[:1], 8)
    SymbolFile(tmp_path).write(table, [])
    resumed = SymbolFile(tmp_path).changing(full, 8)
    assert set(resumed.codes) == set(full[:5])


@pytest.mark.parametrize("content", ["", "[]", '{"names":["A-B"],"groups":[]}', '{"names":["A-B"],"groups":[99]}'])
def test_a_file_that_is_none_of_ours_is_one_line(tmp_path, content):
    (tmp_path / FILE).write_text(content)
    with pytest.raises(UniverseError, match=rf"{FILE} is not readable: [^\n]*$"):
        SymbolFile(tmp_path)


def test_the_file_is_replaced_whole(tmp_path):
    for leaving in ([], [2]):
        SymbolFile(tmp_path).write(SymbolTable(NAMES, spare=1), leaving)
    assert [path.name for path in tmp_path.iterdir()] == [FILE]
    assert json.loads((tmp_path / FILE).read_text())["leaving"] == [2]


@pytest.mark.parametrize(
    ("arguments", "environment", "found"),
    [
        (["-r", "state"], {}, "state"),
        (["-w", "2", "-rstate", "-s", "1", "-b", "60"], {}, "state"),
        (["--recovery-directory=state"], {}, "state"),
        ([], {"BYTEWAX_RECOVERY_DIRECTORY": "state"}, "state"),
        (["-r", "state"], {"BYTEWAX_RECOVERY_DIRECTORY": "other"}, "state"),
        (["-w", "2", "-i", "0", "-a", "a:1;b:1"], {}, None),
    ],
)
def test_where_bytewax_keeps_state(arguments, environment, found):
    assert recovery_dir(["run.py", "flows.mie", *arguments], environment) == (None if found is None else Path(found))


def test_half_as_many_codes_as_symbols_are_spare():
    for top in (1, 50, 333, 9_999):
        assert spare_codes(top) * KEY_GROUPS >= max(32, top / 2)


def test_a_code_is_used_again_long_after_the_flow_has_let_go_of_it():
    assert REUSE_S * NS_PER_S > 30 * SETTLE_NS
