import pytest
from websockets.frames import Frame, Opcode

from simulator.frames import HEADERS, PriceTexts, decimal_text, frame, padded, stripped


@pytest.mark.parametrize("length", [0, 1, 125, 126, 127, 65535, 65536, 200_000])
def test_a_frame_is_what_the_library_would_write(length):
    text = "x" * length
    assert frame(text).encode("latin-1") == Frame(Opcode.TEXT, text.encode()).serialize(mask=False)


def test_headers_are_made_once():
    assert HEADERS[77] is HEADERS[77]


@pytest.mark.parametrize(
    ("ticks", "decimals", "text"), [(806944, 1, "80694.4"), (5, 8, "0.00000005"), (42, 0, "42"), (100, 2, "1.00")]
)
def test_decimal_text(ticks, decimals, text):
    assert decimal_text(ticks, decimals) == text


def test_zeros_are_stripped_or_padded():
    assert (stripped("80682.00"), stripped("100"), stripped("0.10")) == ("80682", "100", "0.1")
    assert (padded("80682.1", 8), padded("3", 2)) == ("80682.10000000", "3.00")


def test_price_texts_stay_bounded():
    texts = PriceTexts(2)
    for ticks in range(1, 2 * PriceTexts.BOUND):
        assert float(texts[ticks]) * 100 == pytest.approx(ticks)
        assert len(texts) <= PriceTexts.BOUND
