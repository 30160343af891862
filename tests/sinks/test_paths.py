import os
import subprocess
import sys
import time

import pytest

from sinks.paths import SOCKET_PATH_BYTES, hot_socket, lock, socket_path

HOLD = """
import sys, time
from pathlib import Path
from sinks.paths import lock
held = lock(Path(sys.argv[1]))
print("held", flush=True)
time.sleep(60)
"""


def test_a_socket_lies_in_the_run_folder_or_somewhere_short(tmp_path):
    assert hot_socket(tmp_path) == tmp_path.resolve() / "run" / "hot.sock"
    deep = tmp_path / ("d" * 100)
    path = socket_path(deep, "redis.sock")
    assert len(os.fsencode(path)) <= SOCKET_PATH_BYTES
    assert path == socket_path(deep, "redis.sock")
    assert path.parent != socket_path(tmp_path / ("e" * 100), "redis.sock").parent
    assert path.parent.stat().st_mode & 0o777 == 0o700
    path.parent.rmdir()


def test_a_lock_is_exclusive_or_shared(tmp_path):
    path = tmp_path / "lock"
    first = lock(path, shared=True)
    second = lock(path, shared=True)
    assert lock(path) is None
    os.close(first)
    os.close(second)
    third = lock(path)
    assert lock(path, shared=True) is None
    os.close(third)


def test_a_lock_ends_with_its_process(tmp_path):
    path = tmp_path / "lock"
    with subprocess.Popen([sys.executable, "-c", HOLD, path], stdout=subprocess.PIPE) as process:
        assert process.stdout.readline() == b"held\n"
        before = time.monotonic()
        assert lock(path, wait_s=0.05) is None
        assert time.monotonic() - before >= 0.05
        process.kill()
        descriptor = lock(path, wait_s=10)
    assert descriptor is not None
    os.close(descriptor)


def test_no_folder_no_lock(tmp_path):
    with pytest.raises(FileNotFoundError):
        lock(tmp_path / "gone" / "lock")
