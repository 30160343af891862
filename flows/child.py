"""A command run as a child: its output in a bounded log, its end in the caller's hands.

Knows nothing of MIE. The child leads its own process group, so that a terminal's Ctrl-C reaches it once, from us.
"""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import threading
import time
from collections import deque
from collections.abc import Mapping, Sequence
from pathlib import Path
from types import TracebackType
from typing import IO, Final

LOG_BYTES: Final = 8 << 20
"""Size at which the log starts anew, as it does with each run; the one before is kept as `NAME.1`."""
TAIL_LINES: Final = 30
"""Lines kept in memory for a message about the child's death."""
LINE_BYTES: Final = 64 << 10
"""Longer lines are cut into pieces of this size."""
PUMP_S: Final = 2.0
"""How long after the child's end its last lines may take: its own children may still hold the pipe."""


class Child:
    """A running command. Its standard output and error both go to the log.

    Attributes:
        pid: Its process id, also of its group.
        tail: The newest TAIL_LINES lines.
        log: Path of the log.
    """

    def __init__(self, command: Sequence[str], log: Path, environment: Mapping[str, str]) -> None:
        """Start it.

        Args:
            command: Program and arguments.
            log: Where its output goes; the folder is made.
            environment: All of its environment.

        Raises:
            OSError: The log cannot be written or the program not started.
        """
        self.tail: deque[str] = deque(maxlen=TAIL_LINES)
        self.log = log
        self._writer = _BoundedLog(log, LOG_BYTES)
        self._process = subprocess.Popen(
            command,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            env=dict(environment),
            start_new_session=True,
        )
        self.pid = self._process.pid
        assert self._process.stdout is not None
        self._pump = threading.Thread(target=self._copy, args=(self._process.stdout,), name="child-log", daemon=True)
        self._pump.start()
        self._overdue_s = float("inf")

    def __enter__(self) -> Child:
        """Use as a context: leaving it ends the child, by force if it still runs."""
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._process.poll() is None:
            self.kill()
            self._process.wait()
        self._pump.join(PUMP_S)

    def wait(self, seconds: float) -> int | None:
        """Wait for the end at most so long; return the exit status (128 + signal if one ended it), else None.

        A child that was told to stop and is overdue is killed here.
        """
        if time.monotonic() >= self._overdue_s:
            self.kill()
        try:
            code = self._process.wait(seconds)
        except subprocess.TimeoutExpired:
            return None
        self._pump.join(PUMP_S)
        return code if code >= 0 else 128 - code

    @property
    def stopping(self) -> bool:
        """Whether it was told to stop."""
        return self._overdue_s < float("inf")

    def stop(self, number: int, within_s: float) -> None:
        """Send a signal to the child; if it has not ended so many seconds later, `wait` kills it. Again: kill now."""
        self._overdue_s = time.monotonic() + (0.0 if self.stopping else within_s)
        with contextlib.suppress(ProcessLookupError):
            self._process.send_signal(number)

    def kill(self) -> None:
        """Kill the child and what is left of its process group."""
        with contextlib.suppress(ProcessLookupError):
            os.killpg(self.pid, signal.SIGKILL)

    def _copy(self, output: IO[bytes]) -> None:
        with output:
            while piece := output.readline(LINE_BYTES):
                self._writer.write(piece)
                self.tail.append(piece.decode(errors="replace").rstrip())
        self._writer.close()


class _BoundedLog:
    def __init__(self, path: Path, limit_bytes: int) -> None:
        path.parent.mkdir(parents=True, exist_ok=True)
        self._path = path
        self._limit_bytes = limit_bytes
        self._begin()

    def _begin(self) -> None:
        if self._path.exists():
            self._path.replace(self._path.with_name(f"{self._path.name}.1"))
        self._file = self._path.open("wb", buffering=0)
        self._bytes = 0

    def write(self, piece: bytes) -> None:
        if self._bytes + len(piece) > self._limit_bytes:
            self._file.close()
            self._begin()
        # A full disk must not end the pump: the child would block on a pipe that nobody reads.
        with contextlib.suppress(OSError):
            self._file.write(piece)
        self._bytes += len(piece)

    def close(self) -> None:
        self._file.close()
