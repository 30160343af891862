"""Faults on demand. A new one is a class in a file here and a line in `CATALOGUE`."""

from __future__ import annotations

from typing import Final

from simulator.faults.answers import HttpError, LatePong, NoPong, PingTimes
from simulator.faults.frames import Garbage, HugeFrame, Truncated, UnknownChannel, WrongTypes
from simulator.faults.links import Close, Drop, HalfOpen, Refuse, SlowRead, TokenExpiry
from simulator.faults.listings import ClockStep, Delisted, Halted, Listed
from simulator.faults.order import Fault
from simulator.faults.rows import Duplicate, IdGap, OutOfOrder, Stall

CATALOGUE: Final[dict[str, type[Fault]]] = {
    "drop": Drop,
    "half_open": HalfOpen,
    "refuse": Refuse,
    "close": Close,
    "slow_read": SlowRead,
    "token_expiry": TokenExpiry,
    "http_error": HttpError,
    "late_pong": LatePong,
    "no_pong": NoPong,
    "ping_times": PingTimes,
    "garbage": Garbage,
    "truncated": Truncated,
    "unknown_channel": UnknownChannel,
    "wrong_types": WrongTypes,
    "huge_frame": HugeFrame,
    "duplicate": Duplicate,
    "out_of_order": OutOfOrder,
    "id_gap": IdGap,
    "stall": Stall,
    "clock_step": ClockStep,
    "halted": Halted,
    "delisted": Delisted,
    "listed": Listed,
}
"""Name -> class."""
