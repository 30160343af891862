import logging
import random

import msgspec
import numpy as np

from connectors import position as module
from connectors.position import Known, Position, encode_step
from connectors.venue import Hole

SYMBOLS = ["ADA-USDT", "BTC-USDT", "ETH-USDT"]
HOLES = [Hole(1, 40, 60, 400, 600), Hole(2, 70, 90)]


def step(*rows, holes=None):
    return encode_step(np.array(rows, np.int64).tobytes(), holes)


def a_position(*steps):
    position = Position(SYMBOLS)
    for each in steps:
        position.add(each)
    return position


def resumed(state, symbols=SYMBOLS):
    position = Position(symbols)
    position.restore(state)
    return position.known()


def test_what_changes_nothing_is_nothing():
    assert encode_step(b"", None) == b""
    assert encode_step(b"", []) != b""
    assert a_position(b"").known() == Known()


def test_later_steps_replace_earlier_ones_symbol_by_symbol():
    position = a_position(step((1, 400, 40), (2, 7, 70)), step((1, 600, 60), (1, 601, 61)), b"")
    assert position.known() == Known([(1, 601, 61), (2, 7, 70)])
    position.add(step((0, 0, -5)))  # followed, no trade yet
    assert position.known().rows[0] == (0, 0, -5)


def test_holes_stay_until_others_replace_them():
    position = a_position(step((1, 600, 60), holes=HOLES), step((1, 700, 70)))
    assert position.known().holes == HOLES
    position.add(step(holes=HOLES[1:]))
    position.add(step((1, 800, 80)))
    assert position.known().holes == HOLES[1:]
    position.add(step(holes=[]))
    assert position.known().holes == []


def test_a_snapshot_is_what_was_handed_out_and_no_more():
    position = a_position(step((1, 600, 60), holes=HOLES))
    before = position.snapshot()
    ahead = [step((1, 700, 70)), step((0, 5, 50), holes=[])]
    assert position.known(ahead) == Known([(0, 5, 50), (1, 700, 70)])
    assert position.snapshot() == before
    assert resumed(before) == Known([(1, 600, 60)], HOLES)


def test_another_run_may_have_other_codes_and_other_symbols():
    position = a_position(step((0, 5, 50), (1, 600, 60), (2, 0, -9), holes=[*HOLES, Hole(0, 1, 2)]))
    known = resumed(position.snapshot(), ["BTC-USDT", "ADA-USDT", "SOL-USDT"])
    assert known == Known([(0, 600, 60), (1, 5, 50)], [Hole(0, 40, 60, 400, 600), Hole(1, 1, 2)])


def test_numbers_and_stamps_of_any_size_survive():
    most = 2**63 - 1
    assert resumed(a_position(step((1, most, most))).snapshot()).rows == [(1, most, most)]


def test_a_state_of_another_version_is_not_guessed_at(caplog):
    caplog.set_level(logging.WARNING)
    state = a_position(step((1, 600, 60))).snapshot()
    other = msgspec.msgpack.decode(state)
    other[0] = module.VERSION + 1
    for strange in (msgspec.msgpack.encode(other), b"junk"):
        assert resumed(strange) == Known()
    assert len(caplog.records) == 2


def test_steps_are_bounded_and_adding_them_up_early_changes_nothing(monkeypatch):
    rng = random.Random(3)
    steps = [
        step(
            *[(rng.randrange(3), rng.randrange(99), rng.randrange(1, 99)) for _ in range(rng.randrange(4))],
            holes=rng.choice([None, HOLES, []]),
        )
        for _ in range(100)
    ]
    at_once = a_position(*steps)
    monkeypatch.setattr(module, "MOST_STEPS", 7)
    bounded = Position(SYMBOLS)
    for each in steps:
        bounded.add(each)
        assert len(bounded._steps) < 7
    assert bounded.snapshot() == at_once.snapshot()


def test_of_a_code_with_another_owner_nothing_is_known():
    position = a_position(step((0, 5, 50), (1, 600, 60), (2, 7, 70), holes=HOLES))
    position.follow(["ADA-USDT", "", "ETH-USDT"])
    assert position.known() == Known([(0, 5, 50), (2, 7, 70)], HOLES[1:])
    position.add(step((1, 700, 70)))  # still under way
    assert position.known().rows == [(0, 5, 50), (2, 7, 70)]
    assert resumed(position.snapshot(), ["", "BTC-USDT", "ETH-USDT", ""]) == Known([(2, 7, 70)], HOLES[1:])
    position.follow(["ADA-USDT", "SOL-USDT", "ETH-USDT"])
    assert position.known().rows == [(0, 5, 50), (2, 7, 70)]
    position.add(step((1, 3, 80)))
    again = resumed(position.snapshot(), ["SOL-USDT", "BTC-USDT", "ETH-USDT"])
    assert again.rows == [(0, 3, 80), (2, 7, 70)]


def test_codes_without_an_owner_are_nobody_s():
    old = a_position(step((1, 600, 60)))
    old.follow(["", "BTC-USDT", ""])
    assert resumed(old.snapshot(), ["", "", "BTC-USDT"]).rows == [(2, 600, 60)]
    assert resumed(old.snapshot(), ["", "ETH-USDT", ""]).rows == []
