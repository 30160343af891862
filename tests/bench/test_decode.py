import sys

import numpy as np
import pytest

from bench import decode
from connectors.venues import VENUES


def test_every_venue_and_kind_is_measured():
    costs = decode.run(visits=1, batches=2)
    assert [(cost.venue, cost.kind) for cost in costs] == list(decode.CASES)
    assert all(cost.ours_us > 0 and cost.floor_us > 0 for cost in costs)


def test_frames_are_real_and_hold_one_tick_each():
    frames = decode.frames_of("kraken", "trade")
    assert len(frames) == decode.FRAMES
    assert all(frame.startswith(b'{"channel":"trade"') for frame in frames)


@pytest.mark.parametrize(("ours_us", "over_us", "verdict"), [(1.0, 0.1, "over"), (0.8, -0.1, "ok")])
def test_the_bound(ours_us, over_us, verdict):
    cost = decode.Cost("okx", "trade", ours_us=ours_us, floor_us=0.4)
    assert round(cost.bound_us, 9) == 0.9
    assert round(cost.over_us, 9) == over_us
    assert cost.verdict == verdict


def test_the_table_says_which_are_within(capsys, monkeypatch):
    costs = [decode.Cost("okx", "trade", 0.8, 0.4), decode.Cost("okx", "quote", 1.0, 0.4)]
    monkeypatch.setattr(decode, "run", lambda: costs)
    decode.main()
    _, _, first, second, last = capsys.readouterr().out.splitlines()
    assert first.split()[-2:] == ["-0.100", "ok"]
    assert second.split()[-2:] == ["+0.100", "over"]
    assert last == "1 of 2 within the bound"


@pytest.mark.parametrize(("venue", "kind"), decode.CASES)
def test_no_python_function_is_called_a_frame(venue, kind):
    """The shape that keeps decoding cheap: calls a batch, whatever its length."""
    frames = decode.frames_of(venue, kind)
    catalog = decode.catalog_of(venue, frames)
    assert calls_of(venue, frames[:20], catalog) == calls_of(venue, frames, catalog) < 60


def calls_of(venue, frames, catalog):
    receive_ns = np.arange(1, len(frames) + 1)
    VENUES[venue].decode(frames, receive_ns, catalog)  # fills caches
    calls = 0

    def count(frame, event, argument):
        nonlocal calls
        calls += event == "call"

    before = sys.getprofile()
    sys.setprofile(count)
    try:
        VENUES[venue].decode(frames, receive_ns, catalog)
    finally:
        sys.setprofile(before)
    return calls
