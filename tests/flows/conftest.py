"""A real Redis for what the launcher reads, emptied for each test."""

import subprocess
import tempfile
import time
from pathlib import Path

import pytest

from flows.watch import connect
from market.settings import Settings
from sinks.embedded import redis_server

START_S = 20


@pytest.fixture(scope="module")
def redis_url():
    # Not pytest's own folder: its path may be too long for a Unix socket.
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder, "redis.sock")
        command = [redis_server(), "--port", "0", "--unixsocket", path, "--save", "", "--dir", folder]
        with subprocess.Popen(command, stdout=subprocess.DEVNULL) as server:
            deadline = time.monotonic() + START_S
            while not path.exists():
                assert server.poll() is None
                assert time.monotonic() < deadline
                time.sleep(0.01)
            yield f"unix://{path}"
            server.terminate()


@pytest.fixture
def hot(redis_url):
    """A connection to the empty store."""
    with connect(redis_url) as connection:
        connection.flushall()
        yield connection


@pytest.fixture
def settings_of(monkeypatch, tmp_path):
    """Set MIE's settings in the environment, and only these; return them read."""

    def read(**values):
        for name in Settings.model_fields:
            monkeypatch.delenv(f"MIE_{name.upper()}", raising=False)
        for name, value in {"data_dir": tmp_path, **values}.items():
            monkeypatch.setenv(f"MIE_{name.upper()}", str(value))
        return Settings.from_env()

    return read


@pytest.fixture
def data_dir():
    """A data directory of a run. Not pytest's own folder: that is private, and PostgreSQL may run as another user."""
    with tempfile.TemporaryDirectory(prefix="mie-flow-") as folder:
        yield Path(folder, "mie")
