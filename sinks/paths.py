"""Where the sinks, the writer and the embedded stores meet on disk, and the locks they meet under.

Holds paths and file locks only; nobody here reads or writes data.
"""

from __future__ import annotations

import fcntl
import hashlib
import os
import tempfile
import time
from pathlib import Path
from typing import Final

SOCKET_PATH_BYTES: Final = 100
"""The kernel takes 107 bytes for a Unix socket path (103 on macOS); PostgreSQL adds its own file name."""


def spool_root(data_dir: Path) -> Path:
    """Return the folder of all spools."""
    return data_dir / "spool"


def run_dir(data_dir: Path) -> Path:
    """Return the folder of sockets, locks and addresses, made if it is not there."""
    path = data_dir / "run"
    path.mkdir(parents=True, exist_ok=True)
    return path


def socket_path(data_dir: Path, name: str) -> Path:
    """Return the path of a Unix socket: in the run folder, or in a short private folder if that path is too long.

    Raises:
        PermissionError: The short folder is there and belongs to somebody else.
    """
    path = run_dir(data_dir).resolve() / name
    if len(os.fsencode(path)) <= SOCKET_PATH_BYTES:
        return path
    digest = hashlib.sha256(os.fsencode(path.parent)).hexdigest()[:12]
    short = Path(tempfile.gettempdir()) / f"mie-{os.getuid()}-{digest}"
    short.mkdir(mode=0o700, exist_ok=True)
    if short.stat().st_uid != os.getuid():
        message = f"{short} belongs to another user"
        raise PermissionError(message)
    return short / name


def hot_socket(data_dir: Path) -> Path:
    """Return the socket on which the writer takes newest state."""
    return socket_path(data_dir, "hot.sock")


def lock(path: Path, *, shared: bool = False, wait_s: float = 0.0) -> int | None:
    """Lock a file that is made if needed; the kernel unlocks it when the process ends, however it ends.

    Args:
        path: The lock file.
        shared: Let other shared holders in.
        wait_s: How long to wait for other holders.

    Returns:
        A descriptor that holds the lock until it is closed, or None if somebody else holds it.
    """
    descriptor = os.open(path, os.O_RDWR | os.O_CREAT, 0o600)
    deadline = time.monotonic() + wait_s
    while True:
        try:
            fcntl.flock(descriptor, (fcntl.LOCK_SH if shared else fcntl.LOCK_EX) | fcntl.LOCK_NB)
        except BlockingIOError:
            if time.monotonic() >= deadline:
                os.close(descriptor)
                return None
            time.sleep(0.01)
        else:
            return descriptor
