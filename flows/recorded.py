"""What a recording offers and what of it is wanted: the same for a replay and for judging it again.

A recording is a tick recording (Parquet), a folder of raw frames, or an archive; these two are made tick recordings in
`<data_dir>/replay` first, which go when the process does.
"""

from __future__ import annotations

import atexit
import logging
import shutil
from dataclasses import dataclass, field
from pathlib import Path

from connectors.archived import import_archive, is_archive, parts_of
from connectors.importing import Imported, import_folder
from connectors.recording import RecordingError, check_recording
from market.schema import VenueCounters
from market.settings import Settings
from market.symbols import SymbolTable

log = logging.getLogger("mie")


@dataclass(frozen=True, slots=True)
class Recorded:
    """A tick recording that was checked.

    Attributes:
        path: Where it is.
        table: The symbols wanted.
        venues: Names of the venues wanted that it has, in the order of their codes.
        rows: Its ticks, of all symbols and venues.
        counters: By venue, what was rejected where raw frames had to be decoded.
    """

    path: Path
    table: SymbolTable
    venues: tuple[str, ...]
    rows: int
    counters: dict[str, VenueCounters] = field(default_factory=dict)


def open_recording(path: Path, settings: Settings) -> Recorded:
    """Check a recording; the settings say which symbols and venues are wanted of it, and where there is room to work.

    Raises:
        RecordingError: It is missing, cannot be read, or has nothing of what is wanted.
    """
    given, counters = path, {}
    into = settings.data_dir / "replay"
    if is_archive(path):
        log.info("putting the archive %s in receive order", path)
        path = import_archive(path, into)
        atexit.register(shutil.rmtree, path, ignore_errors=True)
    elif path.is_dir() and not parts_of(path):
        log.info("decoding the raw frames in %s", path)
        path, found = import_folder(path, into)
        atexit.register(shutil.rmtree, path, ignore_errors=True)
        counters = counters_of(found)
    present, symbols, rows = check_recording(path)
    venues = tuple(name for name in present if name in settings.venues)
    if not venues:
        text = f"{given} has ticks of {', '.join(present) or 'no venue'}, MIE_VENUES={','.join(settings.venues)}"
        raise RecordingError(text)
    return Recorded(path, SymbolTable(_wanted(symbols, settings.symbols)), venues, rows, counters)


def _wanted(recorded: list[str], wanted: str | None) -> list[str]:
    """Return the symbols of a recording that are wanted, all by default."""
    if wanted is None or wanted.startswith("top:"):
        return recorded
    unknown = sorted(set(wanted.split(",")) - set(recorded))
    if unknown:
        text = f"MIE_SYMBOLS: {', '.join(unknown)} not in the recording"
        raise RecordingError(text)
    return wanted.split(",")


def counters_of(found: Imported) -> dict[str, VenueCounters]:
    """Return counters of each venue with what decoding its raw frames rejected; log what was read, a line a venue."""
    counters: dict[str, VenueCounters] = {}
    for venue, frames in found.frames.items():
        reasons = {reason: count for (name, reason), count in sorted(found.rejects.items()) if name == venue}
        rejects = ", ".join(f"{count} {reason}" for reason, count in reasons.items())
        level = logging.WARNING if rejects else logging.INFO
        log.log(level, "%s: %d frames, %d ticks, rejects: %s", venue, frames, found.ticks[venue], rejects or "none")
        counters[venue] = VenueCounters(rejects=sum(reasons.values()))
    return counters
