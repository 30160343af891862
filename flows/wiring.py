"""From settings to a running flow: services, universe, source, sinks, and the way to stop.

Everything that can be wrong at the start ends here as one line on stderr and exit code 2 (settings, recording) or 1
(a store, a venue list).
"""

from __future__ import annotations

import atexit
import logging
import os
import shutil
import signal
import sys
from collections.abc import Callable, Mapping, Sequence
from types import FrameType
from typing import Any, Final, NoReturn

from connectors.importing import Imported, import_folder
from connectors.pipe import CollectorConfig, Endpoint
from connectors.recording import RecordingError, check_recording
from connectors.replay import ReplaySource
from connectors.source import VenueSource
from connectors.universe import UniverseError, find
from flows.mie import Studying, build
from flows.services import Services, ServicesError
from flows.warm import candles_by_group
from market.schema import Rows, VenueCounters
from market.settings import INTERVALS, SettingError, Settings
from market.symbols import SymbolTable
from market.venues import VENUE_CODES
from operators.forge import ForgePolicy
from sinks.archive import ArchiveSink
from sinks.outputs import HotSink, SpoolSink

OUR_LOGS: Final = ("mie", "sinks")
"""Loggers that MIE_LOG_LEVEL is for; libraries speak from warnings on."""

log = logging.getLogger("mie")


def start() -> Any:
    """Read the settings, start what they need, and return the dataflow."""
    try:
        settings = Settings.from_env()
        configure_log(settings)
        return _wire(settings)
    except (SettingError, RecordingError) as error:
        _fail(error, 2)
    except (ServicesError, UniverseError) as error:
        _fail(error, 1)


def configure_log(settings: Settings) -> None:
    """Send the log to stderr, one line an event."""
    logging.basicConfig(
        level=logging.WARNING, format="%(asctime)s %(levelname)s %(name)s %(message)s", stream=sys.stderr
    )
    for name in OUR_LOGS:
        logging.getLogger(name).setLevel(settings.log_level.upper())


def _wire(settings: Settings) -> Any:
    settings.data_dir.mkdir(parents=True, exist_ok=True)
    replay = None if settings.replay_path is None else _recording(settings)
    services = Services.start(settings)
    intervals_s = tuple(sorted({*settings.interval_seconds, INTERVALS[settings.correlation_interval]}))
    source: VenueSource | ReplaySource
    warm: dict[int, Rows] = {}
    if replay is None:
        source, table, venues, warm = _live(settings, services, intervals_s)
    else:  # its result is a function of the recording alone
        source, table, venues = replay
    policy = ForgePolicy(
        settings.forge_window_ms, settings.forge_min_witnesses, tuple(VENUE_CODES[name] for name in venues)
    )
    studying = Studying(
        intervals_s,
        INTERVALS[settings.correlation_interval],
        settings.correlation_window,
        warm,
    )
    _drain_on_signal(source.stop)
    atexit.register(services.finish, complete=replay is not None)
    return build(
        source,
        table,
        policy,
        studying,
        hot=HotSink(settings.data_dir, table.names),
        history=SpoolSink(settings.data_dir, table.names, settings.spool_max_mb),
        archive=ArchiveSink(settings.archive_dir, table.names) if settings.archive_dir else None,
    )


def _live(
    settings: Settings, services: Services, intervals_s: tuple[int, ...]
) -> tuple[VenueSource, SymbolTable, tuple[str, ...], dict[int, Rows]]:
    if settings.feed == "live" and is_cluster(sys.argv, os.environ) and ":" in (settings.symbols or "top:"):
        text = "MIE_SYMBOLS: a cluster on live venues needs a comma list, the same everywhere: top:N may differ by host"
        raise UniverseError(text)
    endpoints = {name: Endpoint(**at) for name, at in services.endpoints.items()}
    universe = find(settings.venues, settings.symbols, endpoints, settings.data_dir / "instruments" / settings.feed)
    table = SymbolTable(universe.symbols)
    venues = tuple(name for name in settings.venues if universe.natives.get(name))
    log.info("%d symbols on %d venues", len(table), len(venues))
    config = CollectorConfig(
        symbols=list(table.names),
        natives=universe.natives,
        endpoints=endpoints,
        seed=os.getpid(),
        refresh_s=settings.universe_refresh_s,
        record_dir=str(settings.record_dir) if settings.record_dir else None,
        record_max_mb=settings.record_max_mb,
    )
    warm: dict[int, Rows] = {}
    if settings.warm_candles:
        warm = candles_by_group(
            table,
            universe,
            intervals_s,
            settings.warm_candles,
            database_url=services.database_url,
            endpoints=endpoints,
        )
    return VenueSource(venues, config), table, venues, warm


def is_cluster(arguments: Sequence[str], environment: Mapping[str, str]) -> bool:
    """Return whether Bytewax runs several processes: by its options `-i` and `-a`, or their variables."""
    options = ("-a", "--addresses", "-i", "--process-id")
    return any(argument.startswith(options) for argument in arguments[1:]) or "BYTEWAX_ADDRESSES" in environment


def _recording(settings: Settings) -> tuple[ReplaySource, SymbolTable, tuple[str, ...]]:
    path = settings.replay_path
    assert path is not None
    imported: dict[str, VenueCounters] = {}
    if path.is_dir():
        log.info("decoding the raw frames in %s", path)
        path, found = import_folder(path, settings.data_dir / "replay")
        atexit.register(shutil.rmtree, path, ignore_errors=True)
        imported = _counters(found)
    present, symbols, rows = check_recording(path)
    venues = tuple(name for name in present if name in settings.venues)
    if not venues:
        text = f"{path} has ticks of {', '.join(present) or 'no venue'}, MIE_VENUES={','.join(settings.venues)}"
        raise RecordingError(text)
    names = _wanted(symbols, settings.symbols)
    log.info("replaying %d ticks of %d symbols on %d venues", rows, len(names), len(venues))
    table = SymbolTable(names)
    speed = None if settings.replay_speed == "max" else float(settings.replay_speed)
    return ReplaySource(path, table, venues, speed, imported), table, venues


def _wanted(recorded: list[str], wanted: str | None) -> list[str]:
    """Return the symbols of a recording that are wanted, all by default."""
    if wanted is None or wanted.startswith("top:"):
        return recorded
    unknown = sorted(set(wanted.split(",")) - set(recorded))
    if unknown:
        text = f"MIE_SYMBOLS: {', '.join(unknown)} not in the recording"
        raise RecordingError(text)
    return wanted.split(",")


def _counters(found: Imported) -> dict[str, VenueCounters]:
    """Counters of each venue with what decoding its raw frames rejected; logs what was read, a line a venue."""
    counters: dict[str, VenueCounters] = {}
    for venue, frames in found.frames.items():
        reasons = {reason: count for (name, reason), count in sorted(found.rejects.items()) if name == venue}
        rejects = ", ".join(f"{count} {reason}" for reason, count in reasons.items())
        level = logging.WARNING if rejects else logging.INFO
        log.log(level, "%s: %d frames, %d ticks, rejects: %s", venue, frames, found.ticks[venue], rejects or "none")
        counters[venue] = VenueCounters(rejects=sum(reasons.values()))
    return counters


def _drain_on_signal(stop: Callable[[], None]) -> None:
    """Let SIGTERM and SIGINT end the input; what is held flows out and the process exits 0. A second one kills."""

    def drain(number: int, _frame: FrameType | None) -> None:
        log.info("%s: draining", signal.Signals(number).name)
        stop()
        signal.signal(signal.SIGINT, signal.SIG_DFL)
        signal.signal(signal.SIGTERM, signal.SIG_DFL)

    signal.signal(signal.SIGTERM, drain)
    signal.signal(signal.SIGINT, drain)


def _fail(error: Exception, code: int) -> NoReturn:
    sys.stderr.write(f"mie: {error}\n")
    raise SystemExit(code)
