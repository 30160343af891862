import msgspec
import pytest

from connectors import listing
from connectors.venue import Instrument


class Body(msgspec.Struct):
    code: int


def test_a_body_as_documented():
    assert listing.read_list(msgspec.json.Decoder(Body), b'{"code":1,"more":2}', "acme", "list").code == 1


@pytest.mark.parametrize("body", [b"", b"<html>", b'{"code":"1"}', b"\xff", b"[" * 100_000])
def test_any_other_body_is_one_error(body):
    with pytest.raises(ValueError, match=r"^acme: the list is not what the venue documents: "):
        listing.read_list(msgspec.json.Decoder(Body), body, "acme", "list")


def test_a_bad_code_is_an_error():
    listing.check_code("0", "0", "", "acme", "list")
    with pytest.raises(ValueError, match=r"^acme: the list was refused with code '7': 'no'$"):
        listing.check_code("7", "0", "no", "acme", "list")


def test_instruments_take_aliases_and_leave_out_what_is_no_symbol():
    rows = [("XBT_USD", "xbt", "usd", True), ("A-B_C", "A-B", "C", True), ("x", "", "USD", True)]
    assert listing.instruments(rows) == [Instrument("BTC-USD", "XBT_USD", True)]


def test_turnovers_that_are_no_numbers_count_nothing():
    rows = [("a", "1.5"), ("b", 2.5), ("c", None), ("d", ""), ("e", "x"), ("f", "inf"), ("g", "nan")]
    assert listing.turnovers(rows) == {"a": 1.5, "b": 2.5, "c": 0, "d": 0, "e": 0, "f": 0, "g": 0}
