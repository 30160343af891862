"""Stop the embedded stores when nobody uses them any more: a process that waits for a lock.

Every user holds a shared lock on `run/users.lock`; the kernel frees it however the user ends. This process waits
for the exclusive one, stops what runs and ends. It loads the standard library only (`python -I -S`): some 9 MB.
It must not live in the users' process group, or a Ctrl-C would stop the stores before the last rows are in.
"""

import contextlib
import fcntl
import json
import os
import socket
import subprocess
import sys
from typing import Any

STOP_S = 20


def stop_redis(path: str) -> None:
    """Ask the server on this Unix socket to save and end; wait until it has."""
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as connection:
        connection.settimeout(STOP_S)
        try:
            connection.connect(path)
            connection.sendall(b"SHUTDOWN\r\n")
            while connection.recv(4096):
                pass
        except OSError:
            pass  # It does not run.


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


def stop_all(plan: dict[str, Any]) -> None:
    """Stop both stores and take back their addresses.

    Args:
        plan: `redis_socket`, `pg_ctl`, `pg_directory`, `pg_user` (null: our own), `addresses` (file to delete).
    """
    with contextlib.suppress(FileNotFoundError):
        os.unlink(plan["addresses"])
    stop_redis(plan["redis_socket"])
    if plan["pg_ctl"]:
        stop_postgres(plan["pg_ctl"], plan["pg_directory"], plan["pg_user"])


def main() -> None:
    """Wait for the last user, then stop the stores: `keeper.py KEEPER_LOCK USERS_LOCK PLAN`."""
    keeper_lock = os.open(sys.argv[1], os.O_RDWR | os.O_CREAT, 0o600)
    try:
        fcntl.flock(keeper_lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return  # There is one.
    users = os.open(sys.argv[2], os.O_RDWR | os.O_CREAT, 0o600)
    fcntl.flock(users, fcntl.LOCK_EX)
    stop_all(json.loads(sys.argv[3]))


if __name__ == "__main__":
    main()
