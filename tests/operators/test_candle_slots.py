"""Which trade sets open and close, and how a slot is shown."""

import numpy as np
import pytest

from market.schema import empty_ticks
from operators.candle_slots import UNUSED, by_id, candles_of, take_ends


def tick(event_ns, venue, ident, price):
    row = empty_ticks(1)
    row["event_ns"], row["venue"], row["trade_id"], row["price"] = event_ns, venue, ident, price
    return row


@pytest.mark.parametrize(
    ("first", "second"),
    [
        ((5, 3, b"900"), (6, 0, b"1")),
        ((5, 3, b"900"), (5, 4, b"1")),
        ((5, 3, b"99"), (5, 3, b"100")),
        ((5, 3, b"101"), (5, 3, b"102")),
        ((5, 3, b"a1"), (5, 3, b"b0")),
    ],
)
@pytest.mark.parametrize("swapped", [False, True])
def test_ends_go_by_event_time_venue_and_id_in_any_order_of_arrival(first, second, swapped):
    trades = [tick(*first, 10.0), tick(*second, 20.0)]
    slot = UNUSED.copy()
    for row in reversed(trades) if swapped else trades:
        take_ends(slot, row, np.array([0]), np.array([0]))
    assert (slot["open"][0], slot["close"][0]) == (10.0, 20.0)
    assert (slot["first_id"][0], slot["last_id"][0]) == (first[2], second[2])


def test_ids_of_digits_compare_as_numbers():
    ids = np.array([b"9", b"10", b"11"], "S40")
    assert by_id(ids[:-1], ids[1:])
    assert not by_id(ids[1:], ids[:-1])


def test_a_slot_without_trades_shows_the_close_it_carries():
    slot = UNUSED.copy()
    slot["close"], slot["wicks"] = 7.0, 2
    row = candles_of(slot)[0]
    assert [row[name] for name in ("open", "high", "low", "close", "vwap")] == [7.0] * 5
    assert (row["volume"], row["trades"], row["venues"], row["wicks"], row["revision"]) == (0.0, 0, 0, 2, 0)


def test_vwap_and_venues_of_a_traded_slot():
    slot = UNUSED.copy()
    for name, value in {
        "open": 1.0,
        "high": 3.0,
        "low": 1.0,
        "close": 3.0,
        "volume": 4.0,
        "quote_volume": 10.0,
    }.items():
        slot[name] = value
    slot["trades"], slot["venues"], slot["revision"] = 2, 0b1000001, 4
    row = candles_of(slot)[0]
    assert (row["vwap"], row["venues"], row["revision"]) == (2.5, 2, 5)
