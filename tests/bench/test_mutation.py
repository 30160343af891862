import json
from random import Random

import pytest

from bench import mutation

FRAME = b'{"arg":{"channel":"trades","instId":"BTC-USDT"},"data":[{"px":"77708","sz":0.1,"ts":"1788416106000"}]}'
OTHERS = [FRAME, b'{"topic":"x.y","data":{"b":[["1","2"]],"a":[]}}', b"pong", b""]
CHANGES = sorted(set(mutation.CHANGES), key=lambda change: change.__name__)


@pytest.mark.parametrize("change", CHANGES, ids=lambda change: change.__name__)
def test_a_change_gives_bytes_for_any_frame_and_mostly_changes_it(change):
    chance = Random(1)
    for frame in OTHERS:
        assert all(isinstance(change(frame, chance, OTHERS), bytes) for _ in range(50))
    made = {change(FRAME, chance, OTHERS) for _ in range(200)}
    assert len(made - {FRAME}) > 3


def test_the_same_chance_gives_the_same_frames():
    def frames():
        chance = Random(7)
        return [mutation.changed(FRAME, chance, OTHERS) for _ in range(500)]

    assert frames() == frames()


def test_many_changed_frames_are_still_json_and_many_are_not():
    chance = Random(3)
    made = [mutation.changed(FRAME, chance, OTHERS) for _ in range(2000)]
    readable = sum(is_json(frame) for frame in made)
    assert 400 < readable < 1600
    assert max(map(len, made)) < 40_000 * len(b'{"data":') * 2


def is_json(frame):
    try:
        json.loads(frame)
    except (ValueError, RecursionError):
        return False
    return True


@pytest.mark.parametrize(
    ("change", "wanted"),
    [
        (mutation.set_value, [b'"px":NaN', b'"sz":1e999', b'"px":[]', b'"sz":null', b'"px":"\\ud800"', b'"sz":"-5"']),
        (mutation.quote_value, [b'"px":77708', b'"sz":"0.1"']),
        (mutation.drop_key, [b'{"sz":0.1,', b'"sz":0.1}', b'{"channel":"trades"}']),
        (mutation.repeat_key, [b'{"px":', b'{"ts":']),
        (mutation.rename_key, ['"é'.encode(), b'"px":0.1']),
        (mutation.nest, [b"[[[1]]]", b'{"data":{"data":{"data":1}}}', b"[" * 1100]),
        (mutation.change_structure, [b'"data":[]', b'"data":{"data":[', b'"arg":[]']),
    ],
    ids=lambda value: getattr(value, "__name__", None),
)
def test_what_a_change_is_for_happens(change, wanted):
    chance = Random(5)
    made = b"\n".join(change(FRAME, chance, OTHERS) for _ in range(2000))
    assert [part for part in wanted if part not in made] == []
