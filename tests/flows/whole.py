"""Whole runs of the flow as a user starts them, and what they left in the stores."""

import os
import signal
import subprocess
import sys
import tempfile
import time
from contextlib import contextmanager, suppress
from pathlib import Path

import psutil
import psycopg
import redis

from sinks.embedded import embedded_stores
from sinks.paths import lock, run_dir

ROOT = Path(__file__).parents[2]
RUN_S = 60


@contextmanager
def new_data_dir():
    """A data directory, removed once everything that ran on it has ended: stores end a little after their last user.

    Not pytest's own folder: that is private, and PostgreSQL may run as another user.
    """
    with tempfile.TemporaryDirectory(prefix="mie-flow-") as folder:
        yield Path(folder, "mie")
        until(lambda: folder not in names_of(psutil.process_iter()))


def environment(data_dir, **settings):
    """Environment of a run: these MIE_ settings and no others."""
    ours = {f"MIE_{name.upper()}": str(value) for name, value in settings.items()}
    clean = {name: value for name, value in os.environ.items() if not name.startswith(("MIE_", "BYTEWAX_"))}
    return {**clean, "BYTEWAX_SNAPSHOT_INTERVAL": "1", "MIE_DATA_DIR": str(data_dir), **ours}


def command(*arguments, program="flows.mie"):
    """Command line of the flow, or of a module that changes it."""
    return [sys.executable, "-m", "bytewax.run", program, *arguments]


def run(data_dir, *arguments, **settings):
    """Run the flow to its end; return the finished process with its output as text."""
    return subprocess.run(
        command(*arguments),
        env=environment(data_dir, **settings),
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=RUN_S,
        check=False,
    )


@contextmanager
def running(data_dir, *arguments, program="flows.mie", **settings):
    """Run the flow in the background; end it if the test did not."""
    log = Path(data_dir).with_suffix(".log")
    with log.open("w") as output:
        flow = subprocess.Popen(
            command(*arguments, program=program),
            env=environment(data_dir, **settings),
            cwd=ROOT,
            stdout=output,
            stderr=output,
        )
        try:
            yield flow
        finally:
            if flow.poll() is None:
                flow.send_signal(signal.SIGTERM)
                flow.wait(RUN_S)


@contextmanager
def market(data_dir, *options):
    """A simulator that outlives the flows on this data directory, as venues do."""
    where = Path(data_dir, "sim")
    held = lock(run_dir(Path(data_dir)) / "simulator.lock")  # a flow takes it for another one's simulator
    with subprocess.Popen(
        [sys.executable, "-m", "simulator", "--data-dir", str(where), *options], cwd=ROOT, stdout=subprocess.DEVNULL
    ) as simulator:
        try:
            until((where / "endpoints.json").exists)
            yield simulator
        finally:
            simulator.terminate()
            simulator.wait(RUN_S)
            os.close(held)


def until(condition, seconds=RUN_S):
    """Wait until a condition holds; return its value."""
    deadline = time.monotonic() + seconds
    while True:
        value = condition()
        if value:
            return value
        assert time.monotonic() < deadline, f"not within {seconds} s: {condition}"
        time.sleep(0.05)


def family(pid):
    """All processes of a run: the flow and its descendants."""
    flow = psutil.Process(pid)
    return [flow, *flow.children(recursive=True)]


def names_of(processes):
    """Command lines of processes that still run, as one text."""
    names = []
    for process in processes:
        with suppress(psutil.Error):
            names.append(" ".join(process.cmdline()))
    return "\n".join(names)


@contextmanager
def stores(data_dir):
    """Connections to what a run left in its embedded stores."""
    with (
        embedded_stores(data_dir) as urls,
        psycopg.connect(urls.database) as history,
        redis.Redis.from_url(urls.redis, decode_responses=True) as hot,
    ):
        yield hot, history


def rows(data_dir, *queries):
    """Results of queries on what a run left in its history."""
    with stores(data_dir) as (_, history):
        return [history.execute(query).fetchall() for query in queries]
