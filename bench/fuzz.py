"""Broken frames into every decoder: `make fuzz`, or `python -m bench.fuzz --frames 1000000 --venues okx --seed 7`.

Real frames, most of them changed at random, go through each venue's decoder in batches as small and large as they are
live, some also one by one. What must hold for every batch is `check`: nothing raises, and every frame is accounted for
in exactly one of these ways:

- control: handed back unread, and `Venue.control` can read it;
- otherwise ticks, one or more, a reject with a known reason, or both (good rows and bad ones in one frame).

No frame is dropped without a trace, and none is ignored by intention. Every tick is usable. Memory must not grow: the
resident set at the end is compared with the one at half time.
"""

from __future__ import annotations

import argparse
import json
import sys
import time
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from random import Random
from typing import Final

import numpy as np
import psutil
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TaskID, TextColumn, TimeRemainingColumn
from rich.table import Table

from bench.mutation import changed
from connectors.rows import REASONS
from connectors.venue import Catalog, Decoded, OpenCatalog, Venue
from connectors.venues import VENUES
from market.schema import BUY, F64, I64, QUOTE, SELL, TRADE, UNSTAMPED, Bool, Rows
from market.venues import VENUE_CODES

CAPTURES: Final = Path(__file__).parents[1] / "tests" / "captures"
SHARES: Final = {"ticks": 0.7, "control": 0.15, "other": 0.15}
"""What the frames are before they are changed, as the captures' `metadata.json` says: `other` is never a tick."""
FRAMES: Final = 1_000_000
LARGEST: Final = 4_000
"""Frames above this many bytes are left out: whole books, which cost time and show nothing."""
BATCHES: Final = (1, 2, 3, 5, 7, 7, 7, 10, 20, 40, 70, 200, 500)
"""Frames in a batch; live it is some 7 in 5 ms at 10,000 messages a second."""
UNCHANGED: Final = 0.25
"""Share of frames that stay as they are: a bad frame must not spoil its neighbours."""
SINGLY_EVERY: Final = 10
"""Of so many batches one is decoded frame by frame too, and must give the same."""
KINDS: Final = frozenset({"welcome", "ack", "refusal", "pong", "heartbeat", "notice", "error"})
MB: Final = 2**20
GROWTH_MB: Final = 4.0
"""More than this between half time and end is a leak."""

Captures = dict[str, list[list[bytes]]]
"""What a capture holds -> captures -> frames."""

console = Console(width=120)


class FuzzError(AssertionError):
    """A decoder broke its promise. Its text says which and how to have it again."""


@dataclass(slots=True)
class Score:
    """What became of a venue's frames.

    Attributes:
        ticks: Tick rows.
        ticked: Frames with a tick.
        control: Control frames.
        rejects: Rejects by reason; a frame with several bad rows has several.
        half_mb: Resident set at half time.
        end_mb: Resident set at the end.
        decode_s: CPU seconds in `decode` alone.
        total_s: Seconds in all.
    """

    frames: int = 0
    ticks: int = 0
    ticked: int = 0
    control: int = 0
    rejects: Counter[str] = field(default_factory=Counter)
    half_mb: float = 0.0
    end_mb: float = 0.0
    decode_s: float = 0.0
    total_s: float = 0.0


def captures_of(venue: str) -> Captures:
    """Return the captured frames of a venue, by what they hold and by capture."""
    folder = CAPTURES / venue
    found: Captures = {holds: [] for holds in SHARES}
    for entry in json.loads((folder / "metadata.json").read_text())["files"]:
        frames = [frame for frame in (folder / entry["file"]).read_bytes().splitlines() if len(frame) <= LARGEST]
        if frames:
            found[entry["holds"]].append(frames)
    return found


def catalog_of(module: Venue, captures: Captures) -> Catalog:
    """Return the catalog of all symbols in the captured ticks; it learns nothing from what comes later."""
    learned = OpenCatalog(module.symbol_of_native)
    for frames in captures["ticks"]:
        module.decode(frames, np.arange(1, len(frames) + 1), learned)
    return Catalog(learned.natives, {name: code for code, name in enumerate(learned.names)})


def batches(captures: Captures, total: int, chance: Random) -> Iterator[list[bytes]]:
    """Yield `total` frames in batches: real ones, most of them changed."""
    left = total
    while left > 0:
        size = min(left, chance.choice(BATCHES))
        left -= size
        yield [_frame(captures, chance) for _ in range(size)]


def _frame(captures: Captures, chance: Random) -> bytes:
    frame = chance.choice(_capture(captures, chance))
    return frame if chance.random() < UNCHANGED else changed(frame, chance, _capture(captures, chance))


def _capture(captures: Captures, chance: Random) -> list[bytes]:
    (holds,) = chance.choices(list(SHARES), list(SHARES.values()))
    return chance.choice(captures[holds] or captures["ticks"])


def check(module: Venue, frames: Sequence[bytes], decoded: Decoded, symbols: int) -> int:
    """Check what must hold of a decoded batch whose frames arrived at 1, 2, 3, ...; return how many have a tick.

    Raises:
        FuzzError: It does not hold.
    """
    ticked = set(decoded.ticks["receive_ns"].tolist())
    rejected = [reject.receive_ns for reject in decoded.rejects]
    places = ticked | set(rejected)
    _hold(rejected == sorted(rejected), "rejects are not in frame order")
    for reject in decoded.rejects:
        _hold(reject.reason in REASONS, f"unknown reason {reject.reason!r}")
        _hold(0 < reject.receive_ns <= len(frames), "a reject of no frame")
        _hold(frames[reject.receive_ns - 1] is reject.frame, "a reject holds another frame")
    rest = [frame for at, frame in enumerate(frames, 1) if at not in places]
    _hold(decoded.control == rest, "a frame is neither ticks, reject nor control, or more than one of them")
    _hold(all(module.control(frame) is not None for frame in rest), "a control frame cannot be read")
    check_ticks(decoded.ticks, VENUE_CODES.get(module.NAME, -1), symbols, len(frames))
    return len(ticked)


def check_ticks(ticks: Rows, venue: int, symbols: int, frames: int) -> None:
    """Check that every tick can be used.

    Raises:
        FuzzError: One cannot.
    """
    trades, quotes = ticks[ticks["kind"] == TRADE], ticks[ticks["kind"] == QUOTE]
    _hold(len(trades) + len(quotes) == len(ticks), "a kind that is neither trade nor quote")
    _every(ticks["venue"] == venue, "another venue's code")
    _every((ticks["symbol"] >= 0) & (ticks["symbol"] < symbols), "a symbol code that is none")
    _every(ticks["exchange_ns"] >= 0, "a time before 1970 or after 2262")
    _every((ticks["exchange_ns"] == 0) == (ticks["flags"] & UNSTAMPED > 0), "a time and the flag for none")
    _every(ticks["event_ns"] == 0, "an event time before sequencing")
    _every((ticks["receive_ns"] > 0) & (ticks["receive_ns"] <= frames), "a receive time of no frame")
    _every(np.diff(ticks["receive_ns"]) >= 0, "ticks are not in frame order")
    _every(_positive(trades["price"]) & _positive(trades["size"]), "a trade with an impossible price or size")
    _every((trades["side"] == BUY) | (trades["side"] == SELL), "a trade without side")
    _hold(all(map(_identifies, trades["trade_id"].tolist())), "a trade with an impossible id")
    bid = _positive(quotes["bid"]) & _positive(quotes["bid_size"])
    ask = _positive(quotes["ask"]) & _positive(quotes["ask_size"])
    _every(bid | (np.isnan(quotes["bid"]) & np.isnan(quotes["bid_size"])), "half a bid, or an impossible one")
    _every(ask | (np.isnan(quotes["ask"]) & np.isnan(quotes["ask_size"])), "half an ask, or an impossible one")
    _every(bid | ask, "a quote without bid and ask")


def _positive(numbers: F64) -> Bool:
    positive: Bool = (numbers > 0) & (numbers < np.inf)
    return positive


def _identifies(trade_id: bytes) -> bool:
    return trade_id[:1].isalnum() and trade_id.isascii() and min(trade_id) > ord(" ")


def _every(held: Bool, otherwise: str) -> None:
    _hold(bool(held.all()), otherwise)


def _hold(held: bool, otherwise: str) -> None:
    if not held:
        raise FuzzError(otherwise)


def check_singly(module: Venue, frames: Sequence[bytes], receive_ns: I64, catalog: Catalog, whole: Decoded) -> None:
    """Check that frames decoded one by one give what they gave together, and that `control` and `answer` take any.

    Raises:
        FuzzError: They do not.
    """
    parts = [module.decode(frames[at : at + 1], receive_ns[at : at + 1], catalog) for at in range(len(frames))]
    _hold(b"".join(part.ticks.tobytes() for part in parts) == whole.ticks.tobytes(), "other ticks one by one")
    _hold([reject for part in parts for reject in part.rejects] == whole.rejects, "other rejects one by one")
    _hold([frame for part in parts for frame in part.control] == whole.control, "other control frames one by one")
    for frame in frames:
        control, answer = module.control(frame), module.answer(frame)
        _hold(control is None or control.kind in KINDS, "a control frame of an unknown kind")
        _hold(answer is None or isinstance(answer, bytes), "an answer that is no frame")


def fuzz(name: str, module: Venue, captures: Captures, frames: int, seed: int, advance: Callable[[int], None]) -> Score:
    """Put `frames` frames through a venue's decoder.

    Args:
        name: Venue name, part of the seed.
        module: The venue.
        captures: Frames to change, as `captures_of` returns them.
        frames: How many in all.
        seed: The same seed gives the same frames.
        advance: Called with the number of frames done since the last call.

    Raises:
        FuzzError: A promise was broken; the text names the batch and its frames.
    """
    chance, catalog, score = Random(f"{name}-{seed}"), catalog_of(module, captures), Score()
    started_s, process = time.monotonic(), psutil.Process()
    for number, batch in enumerate(batches(captures, frames, chance)):
        receive_ns = np.arange(1, len(batch) + 1)
        try:
            _one_batch(module, batch, receive_ns, catalog, score, singly=number % SINGLY_EVERY == 0)
        except Exception as error:
            text = f"{name}, seed {seed}, batch {number}: {type(error).__name__}: {error}; frames: {_shown(batch)}"
            raise FuzzError(text) from error
        if not score.half_mb and score.frames >= frames // 2:
            score.half_mb = process.memory_info().rss / MB
        advance(len(batch))
    score.end_mb, score.total_s = process.memory_info().rss / MB, time.monotonic() - started_s
    return score


def _one_batch(
    module: Venue, batch: list[bytes], receive_ns: I64, catalog: Catalog, score: Score, *, singly: bool
) -> None:
    before_s = time.process_time()
    decoded = module.decode(batch, receive_ns, catalog)
    score.decode_s += time.process_time() - before_s
    score.ticked += check(module, batch, decoded, len(catalog.codes))
    if singly:
        check_singly(module, batch, receive_ns, catalog, decoded)
    score.frames += len(batch)
    score.ticks += len(decoded.ticks)
    score.control += len(decoded.control)
    score.rejects.update(reject.reason for reject in decoded.rejects)


def _shown(batch: Sequence[bytes]) -> str:
    return repr([frame[:2000] for frame in batch[:20]])


def show(scores: dict[str, Score]) -> None:
    """Print what became of the frames, and what it cost."""
    table = Table("", *scores, title="Broken frames: none raised, every one accounted for")
    rows: list[tuple[str, Callable[[Score], str]]] = [
        ("frames", lambda score: f"{score.frames:,}"),
        ("with ticks", lambda score: f"{score.ticked:,}"),
        ("control", lambda score: f"{score.control:,}"),
        *((f"reject: {reason}", _rejects(reason)) for reason in sorted(REASONS)),
        ("seconds", lambda score: f"{score.total_s:.0f}"),
        ("decode, CPU µs a frame", lambda score: f"{score.decode_s / score.frames * 1e6:.2f}"),
        ("MB at half time", lambda score: f"{score.half_mb:.1f}"),
        ("MB at the end", lambda score: f"{score.end_mb:.1f}"),
    ]
    for title, cell in rows:
        table.add_row(title, *map(cell, scores.values()))
    console.print(table)


def _rejects(reason: str) -> Callable[[Score], str]:
    return lambda score: f"{score.rejects[reason]:,}"


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the venues asked for; return the exit code, 1 if a promise was broken."""
    parser = argparse.ArgumentParser(prog="python -m bench.fuzz", description="Broken frames into every decoder.")
    parser.add_argument("--frames", type=int, default=FRAMES, help=f"frames a venue (default {FRAMES:,})")
    parser.add_argument("--venues", nargs="+", choices=VENUES, default=list(VENUES), help="default: all")
    parser.add_argument("--seed", type=int, default=1, help="the same seed gives the same frames (default 1)")
    options = parser.parse_args(arguments)
    scores: dict[str, Score] = {}
    columns = (TextColumn("{task.description:8}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    try:
        with Progress(*columns, console=console) as progress:
            for name in options.venues:
                task = progress.add_task(name, total=options.frames)
                advance = _advance(progress, task)
                scores[name] = fuzz(name, VENUES[name], captures_of(name), options.frames, options.seed, advance)
    except FuzzError as error:
        console.print(f"failed: {error}", markup=False, style="red")
        return 1
    show(scores)
    grown = [name for name, score in scores.items() if score.end_mb - score.half_mb > GROWTH_MB]
    if grown:
        console.print(f"memory grew by more than {GROWTH_MB:.0f} MB after half time: {', '.join(grown)}", style="red")
    return 1 if grown else 0


def _advance(progress: Progress, task: TaskID) -> Callable[[int], None]:
    return lambda frames: progress.advance(task, frames)


if __name__ == "__main__":
    sys.exit(main())
