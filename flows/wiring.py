"""From settings to a running flow: services, universe, source, sinks, and the way to stop.

Everything that can be wrong at the start ends here as one line on stderr and exit code 2 (settings, recording) or 1
(a store, a venue list).
"""

from __future__ import annotations

import atexit
import gc
import logging
import os
import signal
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from types import FrameType
from typing import Any, Final, NoReturn

from connectors.pipe import CollectorConfig, Endpoint
from connectors.recording import RecordingError
from connectors.replay import ReplaySource
from connectors.roster import Roster
from connectors.source import VenueSource
from connectors.universe import UniverseError, find, top_of
from flows.mie import Studying, build
from flows.policies import policy_of
from flows.recorded import open_recording
from flows.services import Services, ServicesError
from flows.symbol_file import SymbolFile, recovery_dir
from flows.warm import candles_by_group
from market.schema import Rows
from market.settings import INTERVALS, SettingError, Settings
from market.symbols import SymbolTable
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
        flow = _wire(settings)
    except (SettingError, RecordingError) as error:
        _fail(error, 2)
    except (ServicesError, UniverseError) as error:
        _fail(error, 1)
    gc.freeze()  # what is loaded stays: a full collection would look through it for 50 ms
    return flow


def configure_log(settings: Settings) -> None:
    """Send the log to stderr, one line an event."""
    logging.basicConfig(
        level=logging.WARNING, format="%(asctime)s %(levelname)s %(name)s %(message)s", stream=sys.stderr
    )
    for name in OUR_LOGS:
        logging.getLogger(name).setLevel(settings.log_level.upper())


def _wire(settings: Settings) -> Any:
    settings.data_dir.mkdir(parents=True, exist_ok=True)
    symbols = SymbolFile(recovery_dir(sys.argv, os.environ))
    replay = None if settings.replay_path is None else _recording(settings, settings.replay_path, symbols)
    services = Services.start(settings)
    intervals_s = tuple(sorted({*settings.interval_seconds, INTERVALS[settings.correlation_interval]}))
    source: VenueSource | ReplaySource
    warm: dict[int, Rows] = {}
    if replay is None:
        source, table, venues, warm = _live(settings, services, symbols, intervals_s)
    else:  # its result is a function of the recording alone
        source, table, venues = replay
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
        policy_of(settings, venues),
        studying,
        hot=HotSink(settings.data_dir, table.names, live=replay is None),
        history=SpoolSink(settings.data_dir, table.names, settings.spool_max_mb),
        archive=ArchiveSink(settings.archive_dir, table.names) if settings.archive_dir else None,
    )


def _live(
    settings: Settings, services: Services, symbols: SymbolFile, intervals_s: tuple[int, ...]
) -> tuple[VenueSource, SymbolTable, tuple[str, ...], dict[int, Rows]]:
    top, cluster = top_of(settings.symbols), is_cluster(sys.argv, os.environ)
    if settings.feed == "live" and cluster and top is not None:
        text = "MIE_SYMBOLS: a cluster on live venues needs a comma list, the same everywhere: top:N may differ by host"
        raise UniverseError(text)
    endpoints = {name: Endpoint(**at) for name, at in services.endpoints.items()}
    cache = settings.data_dir / "instruments" / settings.feed
    universe = find(settings.venues, settings.symbols, endpoints, cache, kept=symbols.kept.symbols)
    venues = tuple(name for name in settings.venues if universe.natives.get(name))
    follows = top if settings.universe_refresh_s and not cluster else None
    table = symbols.fixed(universe.symbols) if follows is None else symbols.changing(universe.symbols, follows)
    log.info("%d symbols on %d venues", len(table.codes), len(venues))
    leaving = [] if follows is None else symbols.kept.leaving
    roster = Roster(table, venues, top=follows, listed=universe.turnover, leaving=leaving, save=symbols.write)
    config = CollectorConfig(
        symbols=list(table.names),
        natives=universe.natives,
        endpoints=endpoints,
        seed=os.getpid(),
        refresh_s=settings.universe_refresh_s,
        record_dir=str(settings.record_dir) if settings.record_dir else None,
        record_max_mb=settings.record_max_mb,
        ranks=follows is not None,
    )
    warm: dict[int, Rows] = {}
    if settings.warm_candles:
        warm = candles_by_group(
            table,
            replace(universe, symbols=tuple(table.names)),
            intervals_s,
            settings.warm_candles,
            database_url=services.database_url,
            endpoints=endpoints,
        )
    return VenueSource(venues, config, roster), table, venues, warm


def is_cluster(arguments: Sequence[str], environment: Mapping[str, str]) -> bool:
    """Return whether Bytewax runs several processes: by its options `-i` and `-a`, or their variables."""
    options = ("-a", "--addresses", "-i", "--process-id")
    return any(argument.startswith(options) for argument in arguments[1:]) or "BYTEWAX_ADDRESSES" in environment


def _recording(
    settings: Settings, path: Path, symbols: SymbolFile
) -> tuple[ReplaySource, SymbolTable, tuple[str, ...]]:
    found = open_recording(path, settings)
    table = symbols.fixed(found.table.names)
    log.info("replaying %d ticks of %d symbols on %d venues", found.rows, len(table.codes), len(found.venues))
    speed = None if settings.replay_speed == "max" else float(settings.replay_speed)
    return ReplaySource(found.path, table, found.venues, speed, found.counters), table, found.venues


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
