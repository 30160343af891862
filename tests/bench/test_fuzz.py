"""The fuzz bench is itself right: it passes sound decoders and catches every kind of broken promise."""

import json
from dataclasses import replace
from random import Random
from types import SimpleNamespace

import numpy as np
import pytest

from bench import fuzz
from connectors.venue import Control, Decoded, Reject
from connectors.venues import VENUES
from market.schema import UNSTAMPED

OKX = VENUES["okx"]
TRADE = (
    b'{"arg":{"channel":"trades","instId":"BTC-USDT"},"data":[{"instId":"BTC-USDT","tradeId":"1","px":"7","sz":"1",'
    b'"side":"buy","ts":"1788416106000"}]}'
)
QUOTE = (
    b'{"arg":{"channel":"bbo-tbt","instId":"BTC-USDT"},"data":[{"asks":[["8","1","0","1"]],"bids":[["7","2","0","1"]],'
    b'"ts":"1788416106000"}]}'
)
FRAMES = [TRADE, QUOTE, b"{", b"pong"]
CAPTURES = {"ticks": [[TRADE, QUOTE]], "control": [[b"pong"]], "other": []}


def decoded():
    catalog = fuzz.catalog_of(OKX, CAPTURES)
    return OKX.decode(FRAMES, np.arange(1, 5), catalog)


@pytest.mark.parametrize("name", VENUES)
def test_every_decoder_keeps_its_promises(name):
    done = []
    score = fuzz.fuzz(name, VENUES[name], fuzz.captures_of(name), 3000, 1, done.append)
    assert score.frames == sum(done) == 3000
    assert score.ticked > 500
    assert score.control > 50
    assert score.rejects["malformed"] > 300
    assert score.end_mb > score.half_mb / 2 > 0


def test_a_sound_batch_passes():
    assert fuzz.check(OKX, FRAMES, decoded(), symbols=1) == 2


def spoil(column, value, row=0):
    def change(result):
        result.ticks[column][row] = value

    return change


def shorter_ticks(result):
    result.ticks = result.ticks[1:]


def swapped_ticks(result):
    result.ticks = result.ticks[::-1]


def no_rejects(result):
    result.rejects.clear()


def no_control(result):
    result.control.clear()


def twice(result):
    result.rejects.append(Reject(4, "malformed", b"pong"))


def other_frame(result):
    result.rejects[0] = replace(result.rejects[0], frame=b"}")


def other_reason(result):
    result.rejects[0] = replace(result.rejects[0], reason="because")


@pytest.mark.parametrize(
    ("change", "says"),
    [
        (shorter_ticks, "neither ticks, reject nor control"),
        (no_rejects, "neither ticks, reject nor control"),
        (no_control, "neither ticks, reject nor control"),
        (twice, "more than one"),
        (swapped_ticks, "not in frame order"),
        (other_frame, "another frame"),
        (other_reason, "unknown reason"),
        (spoil("kind", 2), "neither trade nor quote"),
        (spoil("venue", 0), "another venue's code"),
        (spoil("symbol", 1), "symbol code"),
        (spoil("symbol", -1), "symbol code"),
        (spoil("exchange_ns", -1), "time before 1970"),
        (spoil("exchange_ns", 0), "flag for none"),
        (spoil("flags", UNSTAMPED), "flag for none"),
        (spoil("event_ns", 1), "event time"),
        (spoil("price", np.nan), "impossible price or size"),
        (spoil("price", np.inf), "impossible price or size"),
        (spoil("size", 0.0), "impossible price or size"),
        (spoil("side", 0), "without side"),
        (spoil("trade_id", b""), "impossible id"),
        (spoil("trade_id", b"7\x008"), "impossible id"),
        (spoil("bid", np.nan, row=1), "half a bid"),
        (spoil("ask_size", -1.0, row=1), "half an ask"),
    ],
)
def test_a_broken_promise_is_caught(change, says):
    result = decoded()
    change(result)
    with pytest.raises(fuzz.FuzzError, match=says):
        fuzz.check(OKX, FRAMES, result, symbols=1)


def test_control_that_cannot_be_read_is_caught():
    venue = SimpleNamespace(NAME="okx", control=lambda frame: None)
    with pytest.raises(fuzz.FuzzError, match="control frame cannot be read"):
        fuzz.check(venue, FRAMES, decoded(), symbols=1)


def stand_in(decode, control=OKX.control):
    return SimpleNamespace(
        NAME="okx", symbol_of_native=OKX.symbol_of_native, decode=decode, control=control, answer=OKX.answer
    )


def run(venue):
    return fuzz.fuzz("okx", venue, CAPTURES, 300, 1, lambda frames: None)


def test_what_a_decoder_raises_is_reported_with_the_frames():
    def decode(frames, receive_ns, catalog):
        if b"pong" in frames:
            json.loads("[" * 100_000)
        return OKX.decode(frames, receive_ns, catalog)

    with pytest.raises(fuzz.FuzzError, match=r"okx, seed 1, batch \d+: RecursionError: .*; frames: .*b'pong'"):
        run(stand_in(decode))


def test_a_decoder_that_remembers_is_caught():
    seen = []

    def decode(frames, receive_ns, catalog):
        seen.append(len(frames))
        result = OKX.decode(frames, receive_ns, catalog)
        if len(seen) > 1 and len(frames) == 1:
            result.ticks["price"] += 1
        return result

    with pytest.raises(fuzz.FuzzError, match="other ticks one by one"):
        run(stand_in(decode))


def test_control_of_any_frame_is_tried():
    def control(frame):
        return OKX.control(frame) or Control("surprise")

    with pytest.raises(fuzz.FuzzError, match=r"neither|unknown kind"):
        run(stand_in(OKX.decode, control))


def test_batches_are_small_and_large_and_add_up():
    sizes = [len(batch) for batch in fuzz.batches(CAPTURES, 5000, Random(1))]
    assert sum(sizes) == 5000
    assert {1, 7, 200} <= set(sizes)


def test_the_command_reports_and_its_exit_code_tells(capsys, monkeypatch):
    assert fuzz.main(["--frames", "200", "--venues", "okx", "kraken", "--seed", "3"]) == 0
    shown = capsys.readouterr().out
    assert "okx" in shown
    assert "reject: malformed" in shown
    empty = stand_in(lambda frames, receive_ns, catalog: Decoded(decoded().ticks[:0]))
    monkeypatch.setitem(fuzz.VENUES, "okx", empty)
    monkeypatch.setattr(fuzz, "catalog_of", lambda module, captures: SimpleNamespace(codes={}))
    assert fuzz.main(["--frames", "200", "--venues", "okx"]) == 1
    assert "failed: okx, seed 1, batch 0" in capsys.readouterr().out.replace("\n", " ")


def test_memory_that_grows_fails(capsys, monkeypatch):
    monkeypatch.setattr(fuzz, "GROWTH_MB", -1e6)
    assert fuzz.main(["--frames", "50", "--venues", "okx"]) == 1
    assert "memory grew" in capsys.readouterr().out
