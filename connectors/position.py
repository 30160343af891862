"""How far one venue's trades have been handed out, so that a successor asks for what came after.

A **position** is, for each symbol, the number (or id) and the stamp of its newest trade, and the holes that are still
open. The collector says with each batch what the batch changes, a **step**; the worker adds up the steps of the batches
it hands out. So the position is always exactly that of what has been handed out, and nothing is decoded before it is
wanted: steps are bytes.
"""

from __future__ import annotations

import logging
from collections.abc import Iterable, Sequence
from copy import deepcopy
from dataclasses import replace
from typing import Final

import msgspec
import numpy as np

from connectors.venue import Hole
from market.schema import I64

MOST_STEPS: Final = 4_096
"""Steps kept before they are added up, also if nobody asks."""
VERSION: Final = 1
"""Of the snapshot. Another one is not understood: then nothing is known, and the run starts with what comes next."""


class Known(msgspec.Struct, frozen=True):
    """A position in the codes of a run, as a collector takes it over."""

    rows: list[tuple[int, int, int]] = []
    """Symbol code; number or id of its newest trade, 0 if that is none; its stamp, UTC epoch nanoseconds. Of a symbol
    without a trade yet since when it is followed, negated."""
    holes: list[Hole] = []


class _Step(msgspec.Struct, array_like=True, frozen=True):
    moved: bytes
    """n x 3 int64: symbol code, number, stamp; a later row replaces an earlier one"""
    holes: bytes
    """All that are open now, encoded; nothing if they are as before"""


class _State(msgspec.Struct, array_like=True, frozen=True):
    version: int
    names: bytes
    numbers: bytes
    stamps: bytes
    holes: bytes


log = logging.getLogger("mie.source")

_encode = msgspec.msgpack.encode
_decode_step = msgspec.msgpack.Decoder(_Step).decode
_decode_state = msgspec.msgpack.Decoder(_State).decode
_decode_holes = msgspec.msgpack.Decoder(list[Hole]).decode
_NO_HOLES: Final = _encode([])


def encode_step(moved: bytes, holes: Sequence[Hole] | None) -> bytes:
    """Return a step; nothing if it changes nothing.

    Args:
        moved: n x 3 int64 rows of symbol code, number, stamp.
        holes: All open holes, None if they are as before.
    """
    if not moved and holes is None:
        return b""
    return _encode(_Step(moved, b"" if holes is None else _encode(holes)))


class Position:
    """The position of one venue in one worker.

    Memory: two numbers a symbol, the open holes, and at most MOST_STEPS steps.
    """

    def __init__(self, symbols: Sequence[str]) -> None:
        """Begin with nothing known; `symbols` are the run's, by code, "" where there is none."""
        self._symbols = list(symbols)
        self._numbers: I64 = np.zeros(len(symbols), np.int64)
        self._stamps: I64 = np.zeros(len(symbols), np.int64)
        self._holes = _NO_HOLES
        self._steps: list[bytes] = []

    def follow(self, symbols: Sequence[str]) -> None:
        """Go over to other symbols by code: of a code with another owner nothing is known."""
        self._fold()
        other = [code for code, symbol in enumerate(symbols) if symbol != self._symbols[code]]
        self._numbers[other] = self._stamps[other] = 0
        self._symbols = list(symbols)

    def add(self, step: bytes) -> None:
        """Add a batch's step, as it is handed out."""
        if step:
            self._steps.append(step)
            if len(self._steps) >= MOST_STEPS:
                self._fold()

    def _fold(self) -> None:
        if not self._steps:
            return
        steps = [_decode_step(step) for step in self._steps]
        self._steps = []
        rows = np.frombuffer(b"".join([step.moved for step in steps]), np.int64).reshape(-1, 3)
        codes = rows[:, 0]
        self._numbers[codes], self._stamps[codes] = rows[:, 1], rows[:, 2]  # where a code repeats the last row stays
        self._holes = next((step.holes for step in reversed(steps) if step.holes), self._holes)

    def known(self, ahead: Iterable[bytes] = ()) -> Known:
        """Return the position for a successor, `ahead` being the steps of batches that are still to be handed out."""
        later = deepcopy(self)
        for step in ahead:
            later.add(step)
        later._fold()
        codes = np.flatnonzero(later._stamps)
        columns = (codes.tolist(), later._numbers[codes].tolist(), later._stamps[codes].tolist())
        rows = [row for row in zip(*columns, strict=True) if later._symbols[row[0]]]
        return Known(rows, [hole for hole in _decode_holes(later._holes) if later._symbols[hole.symbol]])

    def snapshot(self) -> bytes:
        """Return the position by symbol names: another run may have other codes."""
        self._fold()
        names = "\n".join(self._symbols).encode()
        state = _State(VERSION, names, self._numbers.tobytes(), self._stamps.tobytes(), self._holes)
        return _encode(state)

    def restore(self, state: bytes) -> None:
        """Take over what `snapshot` returned, in this run or an earlier one; symbols that are not ours are left out."""
        try:
            kept = _decode_state(state)
        except msgspec.MsgspecError:
            kept = None
        if kept is None or kept.version != VERSION:
            log.warning("the resume state is of another version: trades made since are not asked for")
            return
        place = {name: code for code, name in enumerate(self._symbols) if name}
        codes = np.array([place.get(name, -1) for name in kept.names.decode().split("\n")])
        old = np.flatnonzero(codes >= 0)
        self._numbers[codes[old]] = np.frombuffer(kept.numbers, np.int64)[old]
        self._stamps[codes[old]] = np.frombuffer(kept.stamps, np.int64)[old]
        holes = [replace(hole, symbol=int(codes[hole.symbol])) for hole in _decode_holes(kept.holes)]
        self._holes = _encode([hole for hole in holes if hole.symbol >= 0])
