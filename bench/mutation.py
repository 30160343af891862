"""Frames with something wrong: real ones, changed at random. Pure; the chance is an argument.

Changes to bytes give what a broken link or peer sends, changes to values and structure what a venue sends after a
change of its protocol. A changed frame may still be a good one: that is for the decoder to find out.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from random import Random
from typing import Any, Final

import msgspec

Change = Callable[[bytes, Random, Sequence[bytes]], bytes]
"""Returns a frame, changed; given the frame, the chance, and frames to take parts from."""

VALUES: Final = [
    b"null", b"true", b"false", b"0", b"-0", b"-1", b"1.5", b"1e-320", b"1e308", b"1e999", b"-1e999", b"NaN",
    b"-Infinity", b"Infinity", b"[]", b"{}", b"[[]]", b"[{}]", b"[null]", b'""', b'"0"', b'"-5"', b'"nan"', b'"inf"',
    b'"1e999"', b'"1_000"', b'" 1"', b'"0x10"', b'"1.2.3"', b'"buy"', b'"BTCUSDT"', b'"snapshot"', b"01", b"+1", b".5",
    b"9007199254740993", b"9223372036854775807", b"9223372036854775808", b"18446744073709551616",
    b"-9223372036854775809", b"9" * 30, b"9" * 5000, b'"%b"' % (b"9" * 30), b'"%b"' % (b"9" * 400), b"0." + b"3" * 400,
    b'"%b"' % (b"x" * 41), b'"\\u0000"', b'"7\\u0000"', b'"\\ud800"', b'"\\ud83d\\ude00"', b'"a\\nb"', b'"\xc3\xa9"',
    b'"\xef\xbc\x91"', b'"\xff"', b'"2026-99-99T00:00:00.000000Z"', b'"9999-12-31T23:59:59.999999Z"',
    b'"1969-12-31T23:59:59.999999Z"', b'"1790359171119.653000"', b'"9999999999999.999999"',
]  # fmt: skip
"""What may stand where a value stood: of every type, at every limit, and no JSON at all."""

DEPTHS: Final = (3, 60, 1100, 20_000)
"""How deep nesting goes: under and over what decoders take."""
REPEATS: Final = (2, 10, 60)
BYTES: Final = 20_000
"""Frames do not grow beyond this by repetition."""

_SCALAR: Final = re.compile(rb'(?<=":)\s*(?:"(?:[^"\\]|\\.)*"|[-+\w.]+)')
_KEYED: Final = re.compile(rb'("[^"\\]{1,40}":(?:"(?:[^"\\]|\\.)*"|[-+\w.]+)),?')
_KEY: Final = re.compile(rb'"([^"\\]{1,40})":')


def changed(frame: bytes, chance: Random, others: Sequence[bytes]) -> bytes:
    """Return a frame with one change in it, sometimes more."""
    while True:
        frame = chance.choice(CHANGES)(frame, chance, others)
        if chance.random() < 0.75:
            return frame


def flip_bits(frame: bytes, chance: Random, others: Sequence[bytes]) -> bytes:
    """Flip one to eight bits."""
    flipped = bytearray(frame)
    for _ in range(chance.randint(1, 8) if flipped else 0):
        flipped[chance.randrange(len(flipped))] ^= 1 << chance.randrange(8)
    return bytes(flipped)


def set_bytes(frame: bytes, chance: Random, others: Sequence[bytes]) -> bytes:
    """Replace one to three bytes, often by what has a meaning in JSON."""
    replaced = bytearray(frame)
    for _ in range(chance.randint(1, 3) if replaced else 0):
        byte = chance.choice(b'{}[]",:0-e.\\') if chance.random() < 0.5 else chance.randrange(256)
        replaced[chance.randrange(len(replaced))] = byte
    return bytes(replaced)


def cut(frame: bytes, chance: Random, others: Sequence[bytes]) -> bytes:
    """Take a stretch out, at the end or anywhere; all of it may go."""
    start = chance.randint(0, len(frame))
    return frame[:start] if chance.random() < 0.5 else frame[:start] + frame[chance.randint(start, len(frame)) :]


def double(frame: bytes, chance: Random, others: Sequence[bytes]) -> bytes:
    """Write a stretch twice, or the whole frame."""
    start = chance.randint(0, len(frame)) if chance.random() < 0.8 else 0
    stop = chance.randint(start, len(frame)) if start else len(frame)
    return frame[:stop] + frame[start:]


def splice(frame: bytes, chance: Random, others: Sequence[bytes]) -> bytes:
    """Join the head of a frame and the tail of another, where both have a comma if they do."""
    other = chance.choice(others)
    if chance.random() < 0.5 and b"," in frame and b"," in other:
        head, tail = frame.split(b","), other.split(b",")
        return b",".join(head[: chance.randrange(len(head)) + 1] + tail[chance.randrange(len(tail)) :])
    return frame[: chance.randint(0, len(frame))] + other[chance.randint(0, len(other)) :]


def set_value(frame: bytes, chance: Random, others: Sequence[bytes]) -> bytes:
    """Replace a value by any other, a number by a text as well as by no JSON."""
    return _replace(frame, chance, chance.choice(VALUES))


def borrow_value(frame: bytes, chance: Random, others: Sequence[bytes]) -> bytes:
    """Replace a value by one of this frame or of another."""
    found = _SCALAR.findall(chance.choice(others) if chance.random() < 0.5 else frame)
    return _replace(frame, chance, chance.choice(found)) if found else frame


def quote_value(frame: bytes, chance: Random, others: Sequence[bytes]) -> bytes:
    """Make a number of a text that holds one, or a text of a number."""
    found = list(_SCALAR.finditer(frame))
    if not found:
        return frame
    at = chance.choice(found)
    value = at[0].strip(b'"') if at[0].startswith(b'"') else b'"' + at[0] + b'"'
    return frame[: at.start()] + value + frame[at.end() :]


def repeat_key(frame: bytes, chance: Random, others: Sequence[bytes]) -> bytes:
    """Say a key of this frame once more, with a value of its own, at the start of any object."""
    keys, objects = _KEY.findall(frame), [at for at, byte in enumerate(frame) if byte == ord("{")]
    if not keys or not objects:
        return frame
    at = chance.choice(objects) + 1
    return b'%b"%b":%b,%b' % (frame[:at], chance.choice(keys), chance.choice(VALUES), frame[at:])


def drop_key(frame: bytes, chance: Random, others: Sequence[bytes]) -> bytes:
    """Leave a key and its value out."""
    found = list(_KEYED.finditer(frame))
    if not found:
        return frame
    at = chance.choice(found)
    return (frame[: at.start()] + frame[at.end() :]).replace(b",}", b"}")


def rename_key(frame: bytes, chance: Random, others: Sequence[bytes]) -> bytes:
    """Give a value the key of another, or a key that nobody knows."""
    found = list(_KEY.finditer(frame))
    if not found:
        return frame
    at = chance.choice(found)
    key = chance.choice(found)[1] if chance.random() < 0.7 else b"\xc3\xa9" * chance.randint(0, 30)
    return frame[: at.start(1)] + key + frame[at.end(1) :]


def nest(frame: bytes, chance: Random, others: Sequence[bytes]) -> bytes:
    """Put arrays or objects around a value or around the frame, or open some that nobody closes."""
    depth = chance.choices(DEPTHS, (60, 30, 9, 1))[0]
    opening, closing = chance.choice([(b"[", b"]"), (b'{"data":', b"}")])
    if chance.random() < 0.2:
        return opening * depth
    if chance.random() < 0.3:
        return opening * depth + frame + closing * depth
    return _replace(frame, chance, opening * depth + b"1" + closing * depth)


def change_structure(frame: bytes, chance: Random, others: Sequence[bytes]) -> bytes:
    """Empty, repeat, wrap or replace an array or object, or swap two values in it."""
    try:
        tree = msgspec.json.decode(frame)
    except (msgspec.MsgspecError, ValueError, RecursionError):
        return frame
    containers: list[Any] = []
    _collect(tree, containers)
    if not containers:
        return frame
    _edit(chance.choice(containers), chance)
    try:
        return msgspec.json.encode(tree)
    except (msgspec.MsgspecError, ValueError, OverflowError, RecursionError):
        return frame


def _replace(frame: bytes, chance: Random, value: bytes) -> bytes:
    found = list(_SCALAR.finditer(frame))
    if not found:
        return frame
    at = chance.choice(found)
    return frame[: at.start()] + value + frame[at.end() :]


def _collect(tree: Any, containers: list[Any], depth: int = 0) -> None:
    if isinstance(tree, (dict, list)) and tree and depth < 20:
        containers.append(tree)
        for child in tree.values() if isinstance(tree, dict) else tree:
            _collect(child, containers, depth + 1)


def _edit(container: Any, chance: Random) -> None:
    """Change a container that is not empty, in place."""
    places: list[Any] = list(container) if isinstance(container, dict) else list(range(len(container)))
    one, other = chance.choice(places), chance.choice(places)
    match chance.randrange(6):
        case 0:
            container.clear()
        case 1:
            container[one], container[other] = container[other], container[one]
        case 2:
            container[one] = [container[one]] * chance.choice(REPEATS)
        case 3:
            container[one] = {"data": container[one]}
        case 4:
            container[one] = chance.choice([[], {}, None, "", 0, -1.5, True, "x" * 50, [container[other]]])
        case _ if isinstance(container, list) and len(msgspec.json.encode(container)) < BYTES // REPEATS[-1]:
            container *= chance.choice(REPEATS)
        case _:
            del container[one]


CHANGES: Final[tuple[Change, ...]] = (
    flip_bits,
    set_bytes,
    cut,
    double,
    splice,
    set_value,
    set_value,
    borrow_value,
    quote_value,
    repeat_key,
    drop_key,
    rename_key,
    nest,
    change_structure,
    change_structure,
)
"""All changes, each with the chance of its share; those that keep a frame readable weigh more."""
