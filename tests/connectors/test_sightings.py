import pytest

from connectors.sightings import LEAST_PART, MISSES, Sightings
from connectors.venue import Instrument


def pair(name, *, trading=True):
    return Instrument(f"{name}-USDT", f"{name}USDT", trading)


def names(pairs):
    return {pair.symbol.removesuffix("-USDT") for pair in pairs}


def test_a_pair_is_gone_once_two_lists_in_a_row_lack_it():
    sightings = Sightings([pair("A"), pair("B"), pair("C")])
    assert MISSES == 2
    assert names(sightings.see([pair("A"), pair("C")])) == {"A", "B", "C"}
    assert names(sightings.see([pair("A"), pair("C")])) == {"A", "C"}
    assert names(sightings.see([pair("A")])) == {"A", "C"}
    assert names(sightings.see([pair("A"), pair("C")])) == {"A", "C"}
    assert names(sightings.see([pair("A")])) == {"A", "C"}, "the misses before do not count"


def test_a_new_pair_and_a_halt_are_believed_at_once():
    sightings = Sightings([pair("A")])
    found = sightings.see([pair("A", trading=False), pair("B")])
    assert {each.symbol: each.trading for each in found} == {"A-USDT": False, "B-USDT": True}


@pytest.mark.parametrize("count", [0, 4])
def test_a_list_that_is_cut_short_changes_nothing(count):
    whole = [pair(f"C{number}") for number in range(10)]
    sightings = Sightings([])
    sightings.see(whole)
    for _ in range(3):
        with pytest.raises(ValueError, match=f"{count} pairs where 10 were listed before"):
            sightings.see(whole[:count])
    assert len(sightings.see(whole[: int(10 * LEAST_PART)])) == 10


def test_an_empty_list_is_never_one():
    with pytest.raises(ValueError, match="0 pairs where 0 were listed"):
        Sightings([]).see([])
