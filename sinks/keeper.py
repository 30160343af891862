"""Stop the embedded stores when nobody uses them any more: a process that waits for a lock.

Every user holds a shared lock on `run/users.lock`; the kernel frees it however the user ends. This process waits
for the exclusive one, stops what runs and ends. It loads the standard library only (`python -I -S`): some 9 MB.
It must not live in the users' process group, or a Ctrl-C would stop the stores before the last rows are in.
"""

import contextlib
import fcntl
import json
import os
import signal
import socket
import subprocess
import sys
from typing import Any

STOP_S = 20


def note_pid(users_lock: int, pid: int) -> None:
    """Write the pid of Redis into the users' lock file: whoever has that open knows it, even if it is deleted."""
    os.pwrite(users_lock, b"%20d" % pid, 0)


def noted_pid(users_lock: int) -> int | None:
    """Return the pid of Redis that `note_pid` wrote, if any."""
    return int(os.pread(users_lock, 20, 0) or 0) or None


def stop_redis(path: str, pid: int | None) -> None:
    """Ask the server on this Unix socket to save and end; wait until it has.

    If the socket is gone, and so the data directory, the process is killed: it would refuse to end without saving.
    """
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as connection:
        connection.settimeout(STOP_S)
        try:
            connection.connect(path)
            connection.sendall(b"SHUTDOWN\r\n")
            while reply := connection.recv(4096):
                if reply.startswith(b"-"):  # The disk refuses the snapshot.
                    connection.sendall(b"SHUTDOWN NOSAVE\r\n")
        except FileNotFoundError:
            if pid is not None and is_redis(pid, path):
                os.kill(pid, signal.SIGKILL)
        except OSError:
            pass  # It does not run.


def is_redis(pid: int, path: str) -> bool:
    """Return whether this process is the Redis of this socket, and not one that has its pid now."""
    try:
        with open(f"/proc/{pid}/cmdline", "rb") as command:
            return os.fsencode(path) in command.read()
    except OSError:
        return False


def stop_postgres(pg_ctl: str, directory: str, user: str | None) -> None:
    """Stop the server of this data directory, if it runs."""
    if not os.path.exists(os.path.join(directory, "postmaster.pid")):
        return
    command = [pg_ctl, "-D", directory, "-m", "fast", "-w", "-t", str(STOP_S), "stop"]
    as_user: dict[str, Any] = {"user": user} if user else {}
    subprocess.run(
        command,
        check=False,
        cwd="/",
        stdin=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        timeout=2 * STOP_S,
        **as_user,
    )


def stop_all(plan: dict[str, Any], redis_pid: int | None) -> None:
    """Stop both stores and take back their addresses.

    Args:
        plan: `redis_socket`, `pg_ctl`, `pg_directory`, `pg_user` (null: our own), `addresses` (file to delete).
        redis_pid: From `noted_pid`.
    """
    with contextlib.suppress(FileNotFoundError):
        os.unlink(plan["addresses"])
    stop_redis(plan["redis_socket"], redis_pid)
    if plan["pg_ctl"]:
        stop_postgres(plan["pg_ctl"], plan["pg_directory"], plan["pg_user"])


def main() -> None:
    """Wait for the last user, then stop the stores: `keeper.py KEEPER_LOCK USERS_LOCK PLAN`.

    The first two are descriptors: of the locked file that says there is a keeper, and of the users' lock file.
    """
    keeper_lock, users = int(sys.argv[1]), int(sys.argv[2])
    fcntl.flock(users, fcntl.LOCK_EX)
    stop_all(json.loads(sys.argv[3]), noted_pid(users))
    os.close(keeper_lock)  # Before the users' lock: whoever holds the stores next finds that there is no keeper.


if __name__ == "__main__":
    main()
