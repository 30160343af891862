"""What holds for all venues alike."""

import json
import random
import re

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from connectors.venue import Catalog, OpenCatalog, Request
from connectors.venues import VENUES
from market import venues
from market.schema import TICK
from tests.connectors.venues import wire

NAMES = list(VENUES)
MUTATIONS = 20_000


def bitcoin(name):
    """Return a spot pair of Bitcoin that a venue's captures hold: our symbol and the venue's."""
    rows = (row for capture in wire.captures(name, "ticks") for row in capture.expected)
    return next((r["symbol"], r["venue_symbol"]) for r in rows if re.fullmatch(r"BTC-\w+", r["symbol"]))


def ticks_cases():
    return [pytest.param(name, c, id=f"{name}-{c.name}") for name in NAMES for c in wire.captures(name, "ticks")]


def other_cases():
    return [pytest.param(name, c, id=f"{name}-{c.name}") for name in NAMES for c in wire.captures(name, "other")]


def control_cases():
    return [pytest.param(name, c, id=f"{name}-{c.name}") for name in NAMES for c in wire.captures(name, "control")]


def test_the_table_is_in_code_order():
    assert tuple(VENUES) == venues.VENUES
    assert [module.NAME for module in VENUES.values()] == NAMES


@pytest.mark.parametrize(("name", "capture"), ticks_cases())
def test_captured_frames_mean_what_was_reviewed(name, capture):
    decoded, catalog = wire.decode(VENUES[name], capture.frames)
    assert wire.rows_of(decoded, catalog.names) == [wire.meaning_of(row) for row in capture.expected]
    assert decoded.rejects == []
    assert decoded.control == []
    assert decoded.ticks.dtype == TICK
    assert (decoded.ticks["venue"] == venues.VENUE_CODES[name]).all()
    wire.check_sound(decoded, capture.frames)


@pytest.mark.parametrize(("name", "capture"), ticks_cases())
def test_native_symbols_are_those_of_the_frames(name, capture):
    _, catalog = wire.decode(VENUES[name], capture.frames)
    natives = {row["symbol"]: row["venue_symbol"] for row in capture.expected}
    assert {symbol: native.rpartition("FUTURES/")[2] for symbol, native in catalog.natives.items()} == natives


@pytest.mark.parametrize(("name", "capture"), other_cases())
def test_other_channels_products_and_dialects_are_never_ticks(name, capture):
    decoded, _ = wire.decode(VENUES[name], capture.frames)
    assert decoded.ticks.size == 0
    assert set(wire.reasons(decoded)) <= {"unknown channel", "malformed"}
    assert len(decoded.rejects) + len(decoded.control) == len(capture.frames)


@pytest.mark.parametrize(("name", "capture"), control_cases())
def test_control_frames_are_handed_back_and_can_be_read(name, capture):
    module = VENUES[name]
    decoded, _ = wire.decode(module, capture.frames)
    assert decoded.control == capture.frames
    assert decoded.rejects == []
    kinds = {module.control(frame).kind for frame in decoded.control}
    assert kinds <= {"welcome", "ack", "refusal", "pong", "heartbeat", "notice", "error"}
    assert all(module.answer(frame) is None for frame in capture.frames)


@pytest.mark.parametrize("name", NAMES)
def test_any_split_of_a_batch_gives_the_same(name):
    module = VENUES[name]
    frames = wire.all_frames(name) + wire.all_frames(name, "control") + wire.all_frames(name, "other")
    random.Random(7).shuffle(frames)
    frames = frames[:600]
    catalog = OpenCatalog(module.symbol_of_native)
    receive_ns = np.arange(1, len(frames) + 1)
    whole = module.decode(frames, receive_ns, catalog)
    wire.check_sound(whole, frames)
    parts = [module.decode(frames[i : i + 1], receive_ns[i : i + 1], catalog) for i in range(len(frames))]
    assert np.concatenate([part.ticks for part in parts]).tobytes() == whole.ticks.tobytes()
    assert [reject for part in parts for reject in part.rejects] == whole.rejects
    assert [frame for part in parts for frame in part.control] == whole.control


@pytest.mark.parametrize("name", NAMES)
def test_symbols_that_the_catalog_does_not_hold_are_rejected(name):
    frames = wire.all_frames(name)
    decoded, _ = wire.decode(VENUES[name], frames, Catalog({}, {}))
    assert decoded.ticks.size == 0
    assert set(wire.reasons(decoded)) == {"unknown symbol"}
    assert {reject.receive_ns for reject in decoded.rejects} == set(range(1, len(frames) + 1))


@pytest.mark.parametrize("name", NAMES)
def test_no_frames_are_no_ticks(name):
    decoded, _ = wire.decode(VENUES[name], [])
    assert decoded.ticks.dtype == TICK
    assert (decoded.ticks.size, decoded.rejects, decoded.control) == (0, [], [])


@pytest.mark.parametrize("name", NAMES)
@settings(max_examples=60, deadline=None, derandomize=True)
@given(frames=st.lists(st.binary(max_size=60), max_size=5))
def test_arbitrary_bytes_never_raise(name, frames):
    decoded, _ = wire.decode(VENUES[name], frames)
    wire.check_sound(decoded, frames)


HOSTILE = [
    b"",
    b"\xff\xfe",
    b"null",
    b"[]",
    b"{}",
    b"0",
    b'"pong',
    b"[" * 100_000,
    b'{"data":' * 100_000,
    b'{"data":' + b"9" * 5000 + b"}",
    b'{"zz":"\\ud800"}',
    b'{"data":null,"arg":null,"result":null,"topic":null,"channel":null}',
]


@pytest.mark.parametrize("name", NAMES)
def test_hostile_frames_are_rejects(name):
    decoded, _ = wire.decode(VENUES[name], HOSTILE)
    assert len(decoded.rejects) == len(HOSTILE)
    assert set(wire.reasons(decoded)) <= {"malformed", "unknown channel"}


PIECES = [
    b"null", b"NaN", b"Infinity", b"-1", b"0", b'"0"', b'""', b"1e999", b'"1e999"', b'"inf"', b'"nan"', b"[]", b"{}",
    b"[[]]", b"true", b"1e308", b"9" * 30, b'"' + b"9" * 30 + b'"', b'"' + b"x" * 50 + b'"', b'"\xff"', b'"\\u00e9"',
    b"[" * 3000, b'"' + b"9" * 400 + b'"', b'"-5"', b'"2026-99-99T00:00:00.000000Z"',
]  # fmt: skip


def mutated(frame, chance):
    """Return a frame with a piece replaced, a stretch cut out or doubled, or some bytes changed."""
    kind = chance.random()
    a, b = sorted((chance.randrange(len(frame) + 1), chance.randrange(len(frame) + 1)))
    if kind < 0.5 and frame.count(b":"):
        fields = frame.split(b":")
        place = chance.randrange(1, len(fields))
        tail = fields[place]
        end = min((tail.index(mark) for mark in (b",", b"}", b"]") if mark in tail), default=len(tail))
        fields[place] = chance.choice(PIECES) + tail[end:]
        return b":".join(fields)
    if kind < 0.65:
        return frame[:a] + frame[b:]
    if kind < 0.75:
        return frame[:b] + frame[a:]
    changed = bytearray(frame)
    for _ in range(chance.randrange(1, 4)):
        changed[chance.randrange(len(changed))] = chance.randrange(256)
    return bytes(changed)


@pytest.mark.parametrize("name", NAMES)
def test_mutated_frames_never_raise_and_never_make_unusable_ticks(name):
    chance = random.Random(name)
    originals = [frame for frame in wire.all_frames(name) + wire.all_frames(name, "control") if len(frame) < 2000]
    originals = chance.sample(originals, min(len(originals), 400))
    module = VENUES[name]
    ticks = rejects = 0
    for _ in range(MUTATIONS // 200):
        frames = [mutated(chance.choice(originals), chance) for _ in range(200)]
        decoded, _ = wire.decode(module, frames)
        wire.check_sound(decoded, frames)
        ticks += decoded.ticks.size
        rejects += len(decoded.rejects)
    assert ticks > MUTATIONS // 20
    assert rejects > MUTATIONS // 20


@pytest.mark.parametrize("name", NAMES)
def test_a_bad_frame_does_not_touch_its_neighbours(name):
    frames = wire.all_frames(name)[:200]
    alone, _ = wire.decode(VENUES[name], frames)
    among = [frame for good in frames for frame in (good, b"{", b'{"a":')]
    decoded, _ = wire.decode(VENUES[name], among)
    ticks = decoded.ticks.copy()
    ticks["receive_ns"] = (ticks["receive_ns"] + 2) // 3
    assert ticks.tobytes() == alone.ticks.tobytes()
    assert wire.reasons(decoded) == ["malformed"] * (2 * len(frames))


@pytest.mark.parametrize("name", NAMES)
def test_topics_and_requests(name):
    module = VENUES[name]
    bases = [f"C{chr(65 + i // 26)}{chr(65 + i % 26)}" for i in range(300)]
    _, native = bitcoin(name)
    natives = [native.replace("BTC", base) for base in bases]
    topics = module.topics(natives)
    assert len(topics) == len(set(topics)) == 600
    requests = module.subscribe(topics, first_id=41)
    assert all(isinstance(request, Request) for request in requests)
    texts = [json.dumps(json.loads(request.frame)).upper() for request in requests]
    for native in natives:
        written = json.dumps(native.upper())[1:-1]
        assert sum(text.count(written) for text in texts) == 2
    keys = [request.key for request in requests]
    assert keys == [""] * len(keys) or keys == [str(41 + i) for i in range(len(keys))]
    for key, text in zip(keys, texts, strict=True):
        assert key in text
    assert all(len(request.frame) < 64 * 1024 for request in requests)
    assert sum(request.acks for request in requests) in (600, len(requests))
    assert module.subscribe([], first_id=1) == []


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("verb", ["subscribe", "unsubscribe"])
def test_requests_stay_within_the_venue_s_limits(name, verb):
    """With the longest names there are, and as many topics as a connection may have."""
    module, limits = VENUES[name], VENUES[name].LIMITS
    _, native = bitcoin(name)
    natives = [native.replace("BTC", f"LONGESTNAME{number:09}") for number in range(600)]
    topics = module.topics(natives)[: limits.topics_per_connection]
    requests = getattr(module, verb)(topics, first_id=1)
    assert [topic for request in requests for topic in request.topics] == topics
    assert all(len(request.topics) <= limits.topics_per_message for request in requests)
    assert all(request.acks in (1, len(request.topics)) for request in requests)
    assert all(len(request.frame) < (limits.request_bytes or 64 * 1024) for request in requests)
    assert len(requests) <= (limits.requests_per_hour or 1_000) / 3
    words = {word.decode() for request in requests for word in re.findall(rb"(?i)(?:un)?subscribe", request.frame)}
    assert {word.lower() for word in words} == {verb}


@pytest.mark.parametrize("name", NAMES)
def test_a_native_symbol_gives_ours(name):
    module = VENUES[name]
    symbol, native = bitcoin(name)
    assert module.symbol_of_native(native) == symbol
    for text in ("", " ", "-", "/", "_", "USDT", "BTC-", "-USDT", "BTC USDT", "x" * 100 + "USDT", "A/B/C"):
        assert module.symbol_of_native(text) is None


NOT_LISTS = [b"{", b"[]5", b"null", b'{"code":"1"}', b'{"symbols":[{"symbol":1}]}', b"\xff", b"[" * 100_000]


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("body", NOT_LISTS)
def test_a_list_that_is_not_as_documented_is_one_clear_error(name, body):
    module = VENUES[name]
    for read in (module.instruments, module.volumes):
        with pytest.raises(ValueError, match=rf"^{name}: the (list of pairs|24 h statistics) ") as caught:
            read(body)
        assert "\n" not in str(caught.value)


@pytest.mark.parametrize("name", NAMES)
def test_paths_and_urls(name):
    module = VENUES[name]
    assert module.WS_URL.startswith("wss://")
    assert module.REST_URL.startswith("https://")
    assert module.instruments_path().startswith("/")
    assert module.volumes_path().startswith("/")
    assert (module.handshake() is not None) == (name == "kucoin")
    assert module.waits_for_welcome() == (name == "kucoin")
    if name != "kucoin":
        assert module.endpoint("wss://here/path", None, ["t"]) == ("wss://here/path", module.HEARTBEAT)


@pytest.mark.parametrize("name", NAMES)
def test_our_pings_are_json_or_the_text_ping(name):
    ping = VENUES[name].HEARTBEAT.ping
    assert ping in (None, b"ping") or isinstance(json.loads(ping), dict)


@pytest.mark.parametrize("name", NAMES)
def test_every_capture_says_where_it_is_from(name):
    folder = wire.CAPTURES / name
    files = json.loads((folder / "metadata.json").read_text())["files"]
    data = {path.name for path in folder.glob("*.jsonl") if not path.name.endswith(".expected.jsonl")}
    assert {entry["file"] for entry in files} == data
    assert all(entry["origin"] and entry["lines"] for entry in files)
