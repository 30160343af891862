"""Spools into one store: a thread that reads on, writes in transactions, and starts over where the store says.

Each store has a drainer and positions of its own, so that one that is away never holds up the other.
"""

from __future__ import annotations

import logging
import os
import threading
import time
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Final, Protocol

import msgspec
import psycopg
import redis

from sinks import spool
from sinks.encode import Message, unpack
from sinks.paths import lock
from sinks.stores import StoreError

log = logging.getLogger(__name__)

BACKOFF_S: Final = (0.1, 5.0)
"""First and longest pause between attempts to reach a store."""
AWAY: Final = (redis.RedisError, psycopg.Error, OSError, StoreError)
"""What a store raises that is not there or refuses."""


class Store(Protocol):
    """What a drainer writes to."""

    name: str

    def connect(self) -> None:
        """Connect, or raise one of AWAY."""

    def close(self) -> None:
        """Close the connection."""

    def positions(self, spools: Sequence[str]) -> dict[str, int]:
        """Return how far each spool is in the store, 0 for one it does not know."""

    def write(self, spool: str, messages: Iterable[Message], position: int) -> None:
        """Write messages and the position behind them, all or nothing."""

    def forget(self, spool: str) -> None:
        """Delete the position of a spool that is no more."""


class OwnedSpool:
    """A spool that this writer drains, and no other: it holds the lock.

    Attributes:
        path: Its folder.
        name: Its name, the id under which stores keep its position.
        ended: Nobody appends to it any more.
    """

    def __init__(self, path: Path, descriptor: int) -> None:
        self.path = path
        self.name = path.name
        self.ended = spool.has_ended(path)
        self._descriptor = descriptor

    @classmethod
    def adopt(cls, path: Path) -> OwnedSpool | None:
        """Take a spool; None if another writer has it or it is gone."""
        try:
            descriptor = lock(path / "drain.lock")
        except FileNotFoundError:
            return None
        return None if descriptor is None else cls(path, descriptor)

    def release(self) -> None:
        """Let another writer take it."""
        os.close(self._descriptor)


class Connection:
    """State of the link to one store: back-off, and one log line a change.

    Attributes:
        state: `connecting`, `up` or `down`.
    """

    def __init__(self, name: str) -> None:
        self.state = "connecting"
        self.down_since_s: float | None = None
        self._name = name
        self._pause_s = BACKOFF_S[0]

    def up(self) -> None:
        """Note that the store answers."""
        if self.state == "down":
            log.warning("%s: up again", self._name)
        self.state, self.down_since_s, self._pause_s = "up", None, BACKOFF_S[0]

    def down(self, error: BaseException) -> float:
        """Note a failure; return how many seconds to wait before the next attempt."""
        if self.state != "down":
            log.error("%s: down: %s", self._name, " ".join(str(error).split()) or type(error).__name__)
            self.down_since_s = time.monotonic()
        self.state = "down"
        pause = self._pause_s
        self._pause_s = min(2 * pause, BACKOFF_S[1])
        return pause

    def down_s(self) -> float:
        """Return for how long the store has been away."""
        return 0.0 if self.down_since_s is None else time.monotonic() - self.down_since_s


class Drainer(threading.Thread):
    """Moves spools into one store until stopped."""

    def __init__(self, store: Store, idle_s: float, batch_bytes: int) -> None:
        """Prepare the thread.

        Args:
            store: Used by this thread alone from now on.
            idle_s: Pause after a round that found nothing.
            batch_bytes: About this much of a spool goes into one transaction.
        """
        super().__init__(name=f"drain {store.name}", daemon=True)
        self.connection = Connection(store.name)
        self.failed_messages = 0
        self.lost_bytes = 0
        self.written_rows: dict[str, int] = {"candles": 0, "wicks": 0}
        self._store = store
        self._idle_s = idle_s
        self._batch_bytes = batch_bytes
        self._spools: tuple[OwnedSpool, ...] = ()
        self._readers: dict[str, spool.Reader] = {}
        self._committed: dict[str, int] = {}
        self._finished: set[str] = set()
        self._connected = False
        self._stopping = threading.Event()

    @property
    def name_of_store(self) -> str:
        """Name of the store, for logs and the status."""
        return self._store.name

    def assign(self, spools: Sequence[OwnedSpool]) -> None:
        """Set the spools to drain, the oldest first. Any thread may call this."""
        self._spools = tuple(spools)

    def committed(self, name: str) -> int:
        """Return the position up to which the store has a spool. Any thread may call this."""
        return self._committed.get(name, 0)

    def has_finished(self, name: str) -> bool:
        """Return whether the store has all of a spool that has ended. Any thread may call this."""
        return name in self._finished

    def stop(self) -> None:
        """Ask the thread to end after the transaction it is in."""
        self._stopping.set()

    def run(self) -> None:
        """Drain until stopped."""
        while not self._stopping.is_set():
            try:
                moved = self._round()
                self.connection.up()
            except AWAY as error:
                self._disconnect()
                self._stopping.wait(self.connection.down(error))
            else:
                if not moved:
                    time.sleep(self._idle_s)  # A third cheaper than waiting for the event, and short.
        self._disconnect()

    def _round(self) -> bool:
        """Move one transaction's worth of every spool; return whether there was any."""
        spools = self._spools
        if not self._connected:
            self._store.connect()
            self._connected = True
        self._follow(spools)
        moved = False
        for owned in spools:
            found = self._move(owned)
            moved |= found
            if found and owned.ended:
                break  # What an earlier run left goes first: newer rows must stay the newest.
        return moved

    def _move(self, owned: OwnedSpool) -> bool:
        had_ended = owned.ended
        reader = self._readers[owned.name]
        lost = reader.lost_bytes
        payloads = reader.read(self._batch_bytes)
        if reader.lost_bytes > lost:
            self.lost_bytes += reader.lost_bytes - lost
            log.error("%s: %d bytes of %s are lost", self._store.name, reader.lost_bytes - lost, owned.name)
        if not payloads:
            if had_ended:
                self._finished.add(owned.name)
            return False
        messages = [message for payload in payloads if (message := self._unpacked(payload)) is not None]
        self._store.write(owned.name, messages, reader.position)
        self._committed[owned.name] = reader.position
        self._count(messages)
        return True

    def _follow(self, spools: Sequence[OwnedSpool]) -> None:
        """Open readers where the store says, and close those of spools that are no more."""
        new = [owned for owned in spools if owned.name not in self._readers]
        if new:
            positions = self._store.positions([owned.name for owned in new])
            for owned in new:
                self._readers[owned.name] = spool.Reader(owned.path, positions[owned.name])
                self._committed[owned.name] = positions[owned.name]
        for name in self._readers.keys() - {owned.name for owned in spools}:
            self._readers.pop(name).close()
            self._committed.pop(name)
            if name in self._finished:
                self._finished.discard(name)
                self._store.forget(name)

    def _unpacked(self, payload: bytes) -> Message | None:
        try:
            return unpack(payload)
        except msgspec.MsgspecError as error:
            self.failed_messages += 1
            log.error("%s: a spooled message cannot be read: %s", self._store.name, error)
            return None

    def _count(self, messages: Iterable[Message]) -> None:
        for message in messages:
            if message.kind in self.written_rows:
                self.written_rows[message.kind] += len(message.texts.get("symbol", ()))

    def _disconnect(self) -> None:
        self._store.close()
        self._connected = False
        for reader in self._readers.values():
            reader.close()
        self._readers.clear()
