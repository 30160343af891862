from itertools import islice, pairwise, takewhile

from bench.soak.orders import DOOR, FORCED_S, KNOCK_S, draw, kills
from connectors.venues import VENUES

SYMBOLS = {name: ["BTC-USDT", "ETH-USDT"] for name in VENUES}


def test_a_seed_draws_the_same_faults_in_the_order_of_time():
    first, again, other = (list(islice(draw(seed, 12.0, SYMBOLS), 300)) for seed in (1, 1, 2))
    assert first == again != other
    assert all(before[0] <= after[0] for before, after in pairwise(first))
    assert {order.venue for _, order in first} == set(VENUES)


def test_a_fault_of_the_door_is_followed_by_a_lost_link():
    drawn = list(islice(draw(3, 30.0, SYMBOLS), 400))
    door = [(at_s, order.venue) for at_s, order in drawn[:350] if order.fault in DOOR]
    drops = [(at_s, order.venue) for at_s, order in drawn if order.fault == "drop"]
    assert door
    assert {(at_s + KNOCK_S, venue) for at_s, venue in door} <= set(drops)


def test_what_nothing_in_the_stream_can_show_is_not_drawn():
    gaps = {order.venue for _, order in islice(draw(1, 60.0, SYMBOLS), 4000) if order.fault == "id_gap"}
    assert gaps == {name for name, venue in VENUES.items() if venue.REFILL.numbered}


def test_what_a_day_brings_once_comes_every_minute():
    hour = list(takewhile(lambda entry: entry[0] < 3600, draw(1, 0.001, SYMBOLS)))
    closes = [order for _, order in hour if order.fault == "close"]
    tokens = [order for _, order in hour if order.fault == "token_expiry"]
    assert abs(len(closes) - 3600 / FORCED_S) < 15
    assert abs(len(tokens) - 3600 / FORCED_S) < 15
    assert {order.params["notice_ms"] for order in closes} == {1_000, 20_000}
    assert {order.venue for order in tokens} == {"kucoin"}


def test_processes_are_killed_in_the_first_half_and_each_at_least_once():
    assert kills(1, 3600.0) == kills(1, 3600.0) != kills(2, 3600.0)
    assert 6 <= len(kills(1, 3600.0)) <= 10
    assert max(kills(1, 3600.0)) < (1800.0, "")
    assert {name for _, name in kills(1, 60.0)} == {"kill_collector", "kill_flow"}
