"""Newest state from the workers' `HotSink`s into Redis: a thread that takes datagrams, conflates, writes.

While Redis is away it goes on taking and keeps the newest row a symbol, venue and worker: bounded by their number.
Symbols that have been let go meanwhile are bounded by GONE.
"""

from __future__ import annotations

import logging
import select
import socket
import threading
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, Final

import msgspec

from sinks.drain import AWAY, Connection
from sinks.encode import unpack
from sinks.redis_hot import RedisStore

log = logging.getLogger(__name__)

DATAGRAM_BYTES: Final = 1 << 18
STATUS_S: Final = 1.0
"""The writer's own state is written this often."""
IDLE_S: Final = 0.2
"""How long to wait for a datagram before looking at the clock; a datagram ends the wait."""
GONE: Final = 10_000
"""Symbols let go that are remembered until Redis is there; of more, the keys of the oldest stay."""
_DATAGRAMS: Final = 256
"""Datagrams taken before what they hold is written."""

Row = Mapping[str, Any]


class HotIntake(threading.Thread):
    """Owns the socket on which newest state comes in."""

    def __init__(self, path: Path, store: RedisStore, status: Callable[[], Row]) -> None:
        """Open the socket.

        Args:
            path: Where; a socket that a dead writer left there is replaced.
            store: Used by this thread alone from now on.
            status: The writer's state, asked for every STATUS_S.
        """
        super().__init__(name="hot", daemon=True)
        self.connection = Connection("redis (newest state)")
        self.written_rows = 0
        self._store = store
        self._status = status
        self._status_due_s = 0.0
        self._connected = False
        self._stopping = threading.Event()
        self._taking = threading.Lock()
        self._newest: dict[str, dict[str | int, Row]] = {kind: {} for kind in _KEYS}
        self._path = path
        path.unlink(missing_ok=True)
        self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        self._socket.bind(str(path))
        self._socket.setblocking(False)

    def run(self) -> None:
        """Take and write until stopped."""
        pause_until_s = 0.0
        while not self._stopping.is_set():
            self._take()
            if time.monotonic() < pause_until_s:
                self._stopping.wait(0.01)
                continue
            try:
                self._write()
                self.connection.up()
            except AWAY as error:
                self._connected = False
                self._store.close()
                pause_until_s = time.monotonic() + self.connection.down(error)
        self._store.close()
        self._socket.close()
        self._path.unlink(missing_ok=True)

    def is_drained(self) -> bool:
        """Return whether all that was sent is written. Any thread may call this."""
        with self._taking:
            readable, _, _ = select.select([self._socket], [], [], 0)
            return not readable and not any(self._newest.values())

    def stop(self) -> None:
        """Ask the thread to end."""
        self._stopping.set()

    def _take(self) -> None:
        """Wait a little for datagrams and fold what is there into the newest state."""
        select.select([self._socket], [], [], IDLE_S)
        with self._taking:
            for _ in range(_DATAGRAMS):
                try:
                    payload = self._socket.recv(DATAGRAM_BYTES)
                except BlockingIOError:
                    return
                self._fold(payload)

    def _fold(self, payload: bytes) -> None:
        try:
            message = unpack(payload)
            rows = message.rows()
        except (msgspec.MsgspecError, ValueError) as error:
            log.error("newest state that cannot be read: %s", error)
            return
        key = _KEYS.get(message.kind)
        if key is not None:
            self._newest[message.kind].update({row[key]: row for row in rows})
        if message.kind == "let_go":
            gone, hot = self._newest["let_go"], self._newest["hot"]
            for row in rows:
                hot.pop(row["symbol"], None)
            while len(gone) > GONE:
                del gone[next(iter(gone))]

    def _write(self) -> None:
        if not self._connected:
            self._store.connect()
            self._connected = True
        hot, venues, forge, gone = (self._newest[kind] for kind in _KEYS)
        if gone:
            self._store.delete_hot([str(symbol) for symbol in gone])
        if hot:
            self._store.write_hot(list(hot.values()))
            self.written_rows += len(hot)
        if venues:
            self._store.write_venues(list(venues.values()))
        if forge:
            self._store.write_forge(list(forge.values()))
        # Forgotten only now: a write that failed is tried again, with what is newest then.
        with self._taking:
            self._newest = {kind: {} for kind in _KEYS}
        if time.monotonic() >= self._status_due_s:
            self._status_due_s = time.monotonic() + STATUS_S
            self._store.write_status(self._status())


_KEYS: Final = {"hot": "symbol", "venues": "venue", "forge": "worker", "let_go": "symbol"}
"""Kind of message -> the column of which the newest row is kept."""
