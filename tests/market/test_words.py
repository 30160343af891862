from types import SimpleNamespace

import pytest

from market import words


@pytest.mark.parametrize(
    ("number", "text"),
    [
        (60000.0, "60000"),
        (0.1, "0.1"),
        (1.2345e-07, "0.00000012345"),
        (1e15, "1000000000000000"),
        (60588.25, "60588.25"),
    ],
)
def test_prices_in_words_have_no_exponent(number, text):
    assert words.plain(number) == text


def wick(**changes):
    fields = {
        "symbol": "BTC-USDT", "venue": "okx", "price": 59000.0, "reference": 60000.0, "deviation_bps": -168.1,
        "dispersion_bps": 2.0, "basis_bps": 0.3, "witnesses": 1, **changes,
    }  # fmt: skip
    return SimpleNamespace(**fields)


def test_the_verdict_says_what_was_measured():
    text = words.why(wick(), {"kraken": {"vote": "did not follow"}, "bybit": {"vote": "silent"}})
    assert text == (
        "okx alone traded BTC-USDT at 59000, 168.1 bps below the 60000 where 1 other live venue had it (kraken): they "
        "did not follow, and venues usually differ by 2.0 bps, okx's own premium of 0.3 bps allowed for."
    )


def test_several_witnesses_and_none_named():
    text = words.why(wick(price=61000.0, witnesses=3), None)
    assert "above the 60000 where 3 other live venues had it: " in text
