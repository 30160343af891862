"""The writer process: spools and newest state into the stores. `python -m sinks.writer --help`.

One thread a store, one for newest state, and this one, which adopts spools, truncates behind the slower store and
talks to the parent: `writer ready` on stdout at the start; `drain` on stdin is answered by `drained` when everything
is in both stores. With `--follow-parent`, the end of stdin (the parent's end) means: drain, for FINISH_S at most,
and exit. SIGTERM and SIGINT mean the same without a parent.
"""

from __future__ import annotations

import argparse
import logging
import os
import select
import signal
import sys
import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from market.settings import SettingError, Settings
from sinks import spool
from sinks.drain import Drainer, OwnedSpool
from sinks.hot_intake import HotIntake
from sinks.paths import hot_socket, lock, run_dir, spool_root
from sinks.redis_hot import RedisStore
from sinks.stores import StoreError, read_stores, resolve_stores
from sinks.timescale import HistoryStore

log = logging.getLogger(__name__)

REDIS_IDLE_S: Final = 0.01
REDIS_BATCH_BYTES: Final = 1 << 17
"""Some 700 candles: Redis serves nobody else during a transaction."""
HISTORY_IDLE_S: Final = 0.1
HISTORY_BATCH_BYTES: Final = 1 << 20
"""History is asked for by people: fewer, larger transactions."""
SCAN_S: Final = 0.25
"""How often spools are adopted, truncated and removed."""
FINISH_S: Final = 8.0
"""What the last drain may take once the parent has ended."""
AWAY_S: Final = 30.0
"""A drain gives up on a store that has been away for this long."""
EXIT_UNREACHABLE: Final = 3


@dataclass(frozen=True, slots=True)
class Options:
    """What a writer needs to know."""

    redis_url: str
    database_url: str
    data_dir: Path
    follow_parent: bool = False


class Writer:
    """The spools it owns and the threads that drain them."""

    def __init__(self, options: Options) -> None:
        self._options = options
        self._root = spool_root(options.data_dir)
        self._root.mkdir(parents=True, exist_ok=True)
        self._owned: list[OwnedSpool] = []
        self._drainers = (
            Drainer(RedisStore(options.redis_url), REDIS_IDLE_S, REDIS_BATCH_BYTES),
            Drainer(HistoryStore(options.database_url), HISTORY_IDLE_S, HISTORY_BATCH_BYTES),
        )
        self._hot: HotIntake | None = None
        self._rate = _Rate()

    def start(self) -> None:
        """Adopt what is there and start all threads."""
        self.scan()
        for drainer in self._drainers:
            drainer.start()

    def scan(self) -> None:
        """Adopt new spools, truncate behind the slower store, remove spools that are done, take the hot socket."""
        known = {owned.path for owned in self._owned}
        for path in spool.spools(self._root):
            if path not in known and (owned := OwnedSpool.adopt(path)) is not None:
                self._owned.append(owned)
        for owned in list(self._owned):
            owned.ended = owned.ended or spool.has_ended(owned.path)
            if all(drainer.has_finished(owned.name) for drainer in self._drainers):
                spool.remove(owned.path)
                owned.release()
                self._owned.remove(owned)
            else:
                spool.truncate(owned.path, min(drainer.committed(owned.name) for drainer in self._drainers))
        for drainer in self._drainers:
            drainer.assign(self._owned)
        if self._hot is None:
            self._take_hot_socket()

    def is_drained(self) -> bool:
        """Return whether every spool and all newest state are in the stores.

        Spools that have ended are gone then, also those that another writer drains.
        """
        self.scan()
        behind = any(self._backlog(drainer) for drainer in self._drainers)
        ended = any(spool.has_ended(path) for path in spool.spools(self._root))
        return not behind and not ended and (self._hot is None or self._hot.is_drained())

    def unreachable(self) -> str | None:
        """Return the name of a store that has been away for AWAY_S."""
        for drainer in self._drainers:
            if drainer.connection.down_s() >= AWAY_S:
                return drainer.name_of_store
        return None

    def stop(self) -> None:
        """Stop all threads; none is waited for longer than a second."""
        threads: list[Drainer | HotIntake] = [*self._drainers, *([self._hot] if self._hot else [])]
        for thread in threads:
            thread.stop()
        for thread in threads:
            thread.join(1.0)

    def status(self) -> dict[str, Any]:
        """Return the writer's state: the fields of `mie:writer`."""
        redis, history = self._drainers
        rows = sum(history.written_rows.values())
        fields: dict[str, Any] = {
            "pid": os.getpid(),
            "time_ns": time.time_ns(),
            "candles": history.written_rows["candles"],
            "wicks": history.written_rows["wicks"],
            "hot_rows": self._hot.written_rows if self._hot else 0,
            "rows_per_s": self._rate.of(rows),
            "dropped_segments": spool.dropped_segments(self._root),
        }
        for drainer in (redis, history):
            store = drainer.name_of_store
            fields[f"{store}_state"] = drainer.connection.state
            fields[f"{store}_backlog_bytes"] = self._backlog(drainer)
            fields[f"{store}_lost_bytes"] = drainer.lost_bytes
            fields[f"{store}_failed_messages"] = drainer.failed_messages
        return fields

    def _backlog(self, drainer: Drainer) -> int:
        return sum(
            max(spool.end(owned.path) - drainer.committed(owned.name), 0)
            for owned in list(self._owned)
            if not drainer.has_finished(owned.name)
        )

    def _take_hot_socket(self) -> None:
        """Receive newest state, unless another writer of this data directory does."""
        self._hot_lock = lock(run_dir(self._options.data_dir) / "hot.lock")
        if self._hot_lock is None:
            return
        path = hot_socket(self._options.data_dir)
        self._hot = HotIntake(path, RedisStore(self._options.redis_url), self.status)
        self._hot.start()


class _Rate:
    """Rows a second between two looks."""

    def __init__(self) -> None:
        self._rows = 0
        self._at_s = time.monotonic()

    def of(self, rows: int) -> float:
        now_s = time.monotonic()
        rate = (rows - self._rows) / max(now_s - self._at_s, 1e-3)
        self._rows, self._at_s = rows, now_s
        return round(rate, 1)


class _Parent:
    """The parent's lines on stdin and its end, without waiting longer than asked."""

    def __init__(self) -> None:
        self.has_ended = False
        self._held = b""

    def wait(self, seconds: float) -> list[str]:
        """Return the lines that came within `seconds`."""
        if self.has_ended:
            time.sleep(seconds)
            return []
        readable, _, _ = select.select([0], [], [], seconds)
        if not readable:
            return []
        data = os.read(0, 4096)
        self.has_ended = not data
        *lines, self._held = (self._held + data).split(b"\n")
        return [line.decode(errors="replace").strip() for line in lines]


def run(options: Options) -> int:
    """Run a writer until its parent ends or it is told to stop; return the exit code."""
    stopping = threading.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: stopping.set())
    writer = Writer(options)
    writer.start()
    _say("writer ready")
    parent = _Parent()
    code = 0
    while not code and not stopping.is_set() and not (options.follow_parent and parent.has_ended):
        for line in parent.wait(SCAN_S):
            if line == "drain":
                code = drain(writer, lambda: stopping.is_set() or (options.follow_parent and parent.has_ended))
        writer.scan()
    if not code:
        _finish(writer)
    writer.stop()
    return code


def drain(writer: Writer, is_over: Callable[[], bool]) -> int:
    """Wait until everything is written and say so; return EXIT_UNREACHABLE if a store stays away."""
    while not is_over():
        if writer.is_drained():
            _say("drained")
            return 0
        if (store := writer.unreachable()) is not None:
            log.error("cannot drain: %s has been away for %.0f s; the rows stay in the spool", store, AWAY_S)
            return EXIT_UNREACHABLE
        time.sleep(0.01)
    return 0


def _finish(writer: Writer) -> None:
    deadline = time.monotonic() + FINISH_S
    while not writer.is_drained():
        if time.monotonic() > deadline:
            log.warning("not everything was written within %.0f s; the rest stays in the spool", FINISH_S)
            return
        time.sleep(0.01)


def _end_process(failure: threading.ExceptHookArgs) -> None:
    """End the process when a thread of it fails: a writer that lives and writes nothing would go unnoticed."""
    log.critical("failed", exc_info=failure.exc_value)
    os._exit(1)


def _say(line: str) -> None:
    sys.stdout.write(line + "\n")
    sys.stdout.flush()


def parse(arguments: Sequence[str]) -> Options:
    """Return the options of a command line; what it leaves out comes from the settings.

    Raises:
        SettingError: A setting is unusable.
        StoreError: A store is neither set nor running.
    """
    parser = argparse.ArgumentParser(
        "python -m sinks.writer", description="Write spools and newest state to the stores."
    )
    parser.add_argument("--redis-url")
    parser.add_argument("--database-url")
    parser.add_argument("--data-dir", type=Path)
    parser.add_argument("--follow-parent", action="store_true", help="drain and exit when stdin ends")
    given = parser.parse_args(arguments)
    found = {name: value for name, value in vars(given).items() if value is not None and name != "follow_parent"}
    settings = Settings.from_env().model_copy(update=found)
    redis_url, database_url = resolve_stores(settings)
    return Options(redis_url, database_url, settings.data_dir, given.follow_parent)


def main(arguments: Sequence[str]) -> int:
    """Run a writer for a command line."""
    threading.excepthook = _end_process
    logging.basicConfig(level=logging.INFO, format="%(levelname)s writer: %(message)s", stream=sys.stderr)
    try:
        options = parse(arguments)
    except (SettingError, StoreError) as error:
        sys.stderr.write(f"{error}\n")
        return 2
    noted = read_stores(options.data_dir)
    if noted is not None and {noted.redis, noted.database} & {options.redis_url, options.database_url}:
        from sinks.embedded import hold_stores

        hold_stores(options.data_dir)  # So that they stay while the last rows are written, however the parent ended.
    return run(options)


if __name__ == "__main__":
    code = main(sys.argv[1:])
    # Not sys.exit: a thread that waits for a store which does not answer must not keep the process.
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(code)
