from itertools import islice

import pytest

from simulator.faults import CATALOGUE
from simulator.faults.order import Order, OrderError
from simulator.faults.schedule import random_orders, read_order, read_timeline

SYMBOLS = {"okx": ["BTC-USDT", "ETH-USDT"], "kraken": ["BTC-USDT"], "kucoin": ["XLM-USDT"]}


def test_an_order_is_completed():
    assert read_order({"fault": "drop", "venue": "okx"}) == Order("drop", "okx")
    assert read_order({"fault": "stall", "for_s": 0.5}, "kraken") == Order("stall", "kraken", for_s=0.5)
    order = read_order({"fault": "late_pong", "venue": "all"})
    assert (order.for_s, order.params) == (30.0, {"delay_ms": 5000})


@pytest.mark.parametrize(
    ("fields", "says"),
    [
        ([], "an order is an object"),
        ({"fault": "nope", "venue": "okx"}, "fault='nope': allowed is drop, half_open"),
        ({"fault": ["x"], "venue": "okx"}, "allowed is drop"),
        ({"fault": "drop"}, "venue='': allowed is binance, okx"),
        ({"fault": "token_expiry", "venue": "okx"}, "venue='okx': allowed is kucoin, all"),
        ({"fault": "halted", "venue": "okx"}, "halted needs a symbol"),
        ({"fault": "stall", "venue": "okx", "symbol": "BTC-USDT"}, "stall takes no symbol"),
        ({"fault": "drop", "venue": "okx", "for_s": 3}, "drop is over at once"),
        ({"fault": "stall", "venue": "okx", "for_s": 9999}, "for_s=9999: allowed is a number from 0 to 3600"),
        ({"fault": "stall", "venue": "okx", "delay_ms": 1}, "delay_ms: stall has no parameters"),
        ({"fault": "http_error", "venue": "okx", "status": 200}, "status=200: allowed is 429, 418"),
    ],
)
def test_a_bad_order_is_refused_in_one_line(fields, says):
    with pytest.raises(OrderError) as refused:
        read_order(fields)
    assert says in str(refused.value)
    assert "\n" not in str(refused.value)


def test_a_timeline_is_put_in_order(tmp_path):
    path = tmp_path / "faults.jsonl"
    path.write_text('{"at_s": 5, "fault": "drop", "venue": "okx"}\n\n{"at_s": 1.5, "fault": "stall", "venue": "all"}\n')
    assert [(at_s, order.fault) for at_s, order in read_timeline(path)] == [(1.5, "stall"), (5.0, "drop")]


@pytest.mark.parametrize(
    "line", ['{"at_s": -1, "fault": "drop", "venue": "okx"}', '{"fault": "drop", "venue": "okx"}', "{", "3"]
)
def test_a_bad_line_is_named(tmp_path, line):
    path = tmp_path / "faults.jsonl"
    path.write_text('{"at_s": 5, "fault": "drop", "venue": "okx"}\n' + line)
    with pytest.raises(OrderError, match=r"faults\.jsonl:2: "):
        read_timeline(path)


def test_random_faults_are_a_function_of_the_seed():
    first = list(islice(random_orders(7, 30.0, SYMBOLS), 600))
    assert first == list(islice(random_orders(7, 30.0, SYMBOLS), 600))
    assert first != list(islice(random_orders(8, 30.0, SYMBOLS), 600))
    assert {order.fault for _, order in first} == CATALOGUE.keys() - {"listed"}
    assert 0.8 < first[-1][0] / (600 * 2.0) < 1.2  # 30 a minute: one in 2 s
    assert all(order.symbol in ("", *SYMBOLS[order.venue]) for _, order in first)
