"""Recovery and clusters: however a replay is interrupted or spread, it leaves the rows of an undisturbed run."""

import socket
import subprocess
import sys
from contextlib import ExitStack

import pytest
import redis

from sinks.stores import read_stores
from tests.flows.markets import recording
from tests.flows.whole import ROOT, RUN_S, command, environment, new_data_dir, rows, run, running, until

QUERIES = (
    "SELECT * FROM candles ORDER BY symbol, interval, open_time",
    "SELECT * FROM indicators ORDER BY symbol, interval, open_time",
    "SELECT * FROM wicks ORDER BY event_time, symbol, venue, trade_id",
    "SELECT * FROM correlations ORDER BY interval, open_time, symbol_a, symbol_b",
)
SETTINGS = {"intervals": "1s,1m"}
KILL_AT = 60


@pytest.fixture(scope="module")
def undisturbed():
    """Path of a recording, and the rows of a run on it."""
    with new_data_dir() as data_dir:
        path = data_dir.with_name("market.parquet")
        recording(40, seed=11)[0].write_parquet(path)
        done = run(data_dir, feed=f"replay:{path}", **SETTINGS)
        assert done.returncode == 0, done.stderr
        yield path, rows(data_dir, *QUERIES)


def candles_written(data_dir):
    """How many candles a running flow has in its history, as the writer tells."""
    stores = read_stores(data_dir)
    if stores is None:
        return 0
    with redis.Redis.from_url(stores.redis) as hot:
        return int(hot.hget("mie:writer", "candles") or 0)


def free_ports(count):
    """Ports that nobody listens on."""
    with ExitStack() as stack:
        sockets = [stack.enter_context(socket.socket()) for _ in range(count)]
        for each in sockets:
            each.bind(("127.0.0.1", 0))
        return [each.getsockname()[1] for each in sockets]


@pytest.mark.parametrize("workers", [("1", "1"), ("1", "2"), ("2", "1")], ids="-".join)
def test_a_killed_run_resumes_as_if_it_had_not_stopped(undisturbed, data_dir, tmp_path, workers):
    path, expected = undisturbed
    subprocess.run([sys.executable, "-m", "bytewax.recovery", str(tmp_path), "2"], check=True)
    recovery = ["-r", str(tmp_path), "-s", "1", "-b", "60"]
    first, second = workers
    with running(data_dir, *recovery, "-w", first, feed=f"replay:{path}", replay_speed=8, **SETTINGS) as flow:
        until(lambda: candles_written(data_dir) > KILL_AT or flow.poll() is not None)
        assert flow.poll() is None
        flow.kill()
        flow.wait()
    done = run(data_dir, *recovery, "-w", second, feed=f"replay:{path}", replay_speed=40, **SETTINGS)
    assert done.returncode == 0, done.stderr
    assert rows(data_dir, *QUERIES) == expected


def test_a_cluster_of_two_writes_the_rows_of_one(undisturbed, data_dir):
    path, expected = undisturbed
    settings = environment(data_dir, feed=f"replay:{path}", **SETTINGS)
    addresses = ";".join(f"127.0.0.1:{port}" for port in free_ports(2))
    both = [
        subprocess.Popen(
            command("-i", number, "-a", addresses), env=settings, cwd=ROOT, stderr=subprocess.PIPE, text=True
        )
        for number in ("0", "1")
    ]
    try:
        for process in both:
            _, said = process.communicate(timeout=RUN_S)
            assert process.returncode == 0, said
    finally:
        for process in both:
            process.kill()
            process.communicate()
    assert rows(data_dir, *QUERIES) == expected
