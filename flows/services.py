"""The processes around a flow: embedded stores, the writer, the simulator. They end when the flow does.

The writer and the simulator hold our end of their stdin: its end is ours, however we end. The embedded stores are
stopped by their keeper when nobody uses them any more.
"""

from __future__ import annotations

import contextlib
import json
import logging
import os
import select
import subprocess
import sys
import threading
import time
from pathlib import Path
from typing import Any, Final

import psycopg

from market.settings import Settings
from sinks.embedded import StoreError, check_stores, release_stores, start_postgres, start_redis
from sinks.migrate import upgrade
from sinks.paths import lock, run_dir

START_S: Final = 30.0
"""How long a process may take to say that it is ready."""
FINISH_S: Final = 5.0
"""What the writer gets for its last rows when the flow was told to stop; the rest waits in the spool."""
KEEP_S: Final = 1.0
SIMULATOR_WHERE: Final = "sim"

log = logging.getLogger("mie.services")


class ServicesError(RuntimeError):
    """A process or store that the flow needs does not start. Its text is one line for the user."""


class Child:
    """One of our modules as a process that talks in lines and ends with its stdin.

    It has a session of its own: a terminal's Ctrl-C is for the flow, which drains.
    """

    def __init__(self, module: str, *arguments: str) -> None:
        self.name = module
        self._process = subprocess.Popen(
            [sys.executable, "-m", module, *arguments],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            start_new_session=True,
        )

    @property
    def has_ended(self) -> bool:
        """Whether the process is gone."""
        return self._process.poll() is not None

    def hears(self, wanted: str, timeout_s: float | None) -> bool:
        """Wait for a line; return False if the time is over or the process ends first."""
        assert self._process.stdout is not None
        descriptor = self._process.stdout.fileno()
        deadline = None if timeout_s is None else time.monotonic() + timeout_s
        held = b""
        while deadline is None or time.monotonic() < deadline:
            ready, _, _ = select.select([descriptor], [], [], 0.25)
            if not ready:
                continue
            data = os.read(descriptor, 4096)
            held += data
            if f"{wanted}\n".encode() in held:
                return True
            if not data:
                return False
        return False

    def tell(self, line: str) -> None:
        """Send a line."""
        assert self._process.stdin is not None
        with contextlib.suppress(BrokenPipeError):
            self._process.stdin.write(f"{line}\n".encode())
            self._process.stdin.flush()

    def end(self, timeout_s: float = FINISH_S) -> None:
        """End it by the end of its stdin; kill it if it does not follow."""
        assert self._process.stdin is not None
        with contextlib.suppress(BrokenPipeError):
            self._process.stdin.close()
        try:
            self._process.wait(timeout_s)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()
        assert self._process.stdout is not None
        self._process.stdout.close()


class Services:
    """What runs beside the flow.

    Attributes:
        endpoints: venue -> {"ws": base, "rest": base} of the simulator; empty for the live venues.
        database_url: Of the history, embedded or not.
    """

    def __init__(self, settings: Settings) -> None:
        self.endpoints: dict[str, dict[str, str]] = {}
        self.database_url = ""
        self._settings = settings
        self._simulator: Child | None = None
        self._writer: Child | None = None
        self._sim_lock: int | None = None
        self._finishing = threading.Event()

    @classmethod
    def start(cls, settings: Settings) -> Services:
        """Start what the settings leave to us and wait until it is ready; end it again if something does not start.

        Raises:
            ServicesError: Something does not start, or a configured store does not answer.
        """
        services = cls(settings)
        try:
            redis_url, database_url = services._stores()
            services.database_url = database_url
            services._start_writer(redis_url, database_url)
            if settings.feed == "sim":
                services._start_simulator()
        except (StoreError, psycopg.Error, OSError, ServicesError) as error:
            services.finish(complete=False)
            text = " ".join(str(error).split())
            raise ServicesError(text) from None
        return services

    def _stores(self) -> tuple[str, str]:
        settings = self._settings
        if settings.redis_url is None or settings.database_url is None:
            log.info("starting the embedded stores in %s", settings.data_dir)
        redis_url = settings.redis_url or start_redis(settings.data_dir)
        database_url = settings.database_url or start_postgres(settings.data_dir)
        check_stores(redis_url, database_url)
        upgrade(database_url)
        return redis_url, database_url

    def _start_writer(self, redis_url: str, database_url: str) -> None:
        place = ["--data-dir", str(self._settings.data_dir)]
        urls = ["--redis-url", redis_url, "--database-url", database_url]
        self._writer_options = ["--follow-parent", *place, *urls]
        self._writer = Child("sinks.writer", *self._writer_options)
        if not self._writer.hears("writer ready", START_S):
            text = "the writer did not start"
            raise ServicesError(text)
        threading.Thread(target=self._keep_writer, name="keep-writer", daemon=True).start()

    def _keep_writer(self) -> None:
        """Start another writer when one ends; the spool keeps the rows meanwhile."""
        while not self._finishing.wait(KEEP_S):
            if self._writer is not None and self._writer.has_ended:
                log.error("the writer ended: starting another")
                self._writer.end()
                self._writer = Child("sinks.writer", *self._writer_options)

    def _start_simulator(self) -> None:
        """Start the simulator, or use the one another process of the cluster runs on this data directory."""
        settings = self._settings
        where = settings.data_dir / SIMULATOR_WHERE
        addresses = where / "endpoints.json"
        where.mkdir(parents=True, exist_ok=True)
        self._sim_lock = lock(run_dir(settings.data_dir) / "simulator.lock")
        if self._sim_lock is not None:
            addresses.unlink(missing_ok=True)
            rate, seed = str(settings.sim_rate), str(settings.sim_seed)
            options = ["--rate", rate, "--seed", seed, "--venues", ",".join(settings.venues)]
            options += ["--ledger"] if settings.sim_ledger else []
            log.info("starting the simulator: %s messages/s, seed %s", rate, seed)
            self._simulator = Child("simulator", "--follow-parent", "--data-dir", str(where), *options)
        self.endpoints = _read_endpoints(addresses, self._simulator)

    def finish(self, *, complete: bool) -> None:
        """Let the writer write the last rows, then end everything.

        Args:
            complete: Wait for as long as the stores answer; else for FINISH_S.
        """
        self._finishing.set()
        if self._simulator is not None:
            self._simulator.end()
        if self._sim_lock is not None:
            os.close(self._sim_lock)
        if self._writer is not None:
            self._writer.tell("drain")
            if not self._writer.hears("drained", None if complete else FINISH_S):
                log.error("not everything is written yet: the rest is in %s", self._settings.data_dir / "spool")
            self._writer.end()
        release_stores(self._settings.data_dir)


def _read_endpoints(path: Path, process: Child | None) -> dict[str, dict[str, str]]:
    deadline = time.monotonic() + START_S
    while not path.exists():
        if time.monotonic() > deadline or (process is not None and process.has_ended):
            text = "the simulator did not start"
            raise ServicesError(text)
        time.sleep(0.02)
    found: dict[str, Any] = json.loads(path.read_text())
    return {name: {"ws": at["ws"], "rest": at["rest"]} for name, at in found.items() if "ws" in at}
