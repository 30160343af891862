"""Faults of the link itself: dropped, half-open, refused, closed by the venue, unread; and of its token."""

from __future__ import annotations

import asyncio
import time
from typing import TYPE_CHECKING

from simulator.faults.order import Choice, Fault, Number
from simulator.venues.kucoin import TOKEN_LIFE_NS, Kucoin

if TYPE_CHECKING:
    from simulator.server import Connection


class Drop(Fault):
    """The process or the path is gone: what was not yet read by the client is lost."""

    SAYS = "abort the TCP connections, without a close frame"
    SYMBOL = "may"

    def begin(self) -> int:
        """Abort."""
        clients = self.clients()
        for client in clients:
            client.abort()
        return len(clients)


class HalfOpen(Fault):
    """The path is gone and nobody has said so. Only a client that minds silence gets over it."""

    SAYS = "stop sending and reading on the present connections, TCP stays open; at the end they are aborted"
    LASTS_S = 60.0
    SYMBOL = "may"
    _muted: list[Connection]

    def begin(self) -> int:
        """Mute."""
        self._muted = self.clients()
        for client in self._muted:
            client.mute()
        return len(self._muted)

    def end(self) -> None:
        """Abort what the client has not given up."""
        for client in self._muted:
            client.abort()


class Refuse(Fault):
    """New connections fail; the present ones live on. `/sim/` is still answered, except with `closed`."""

    SAYS = "refuse new connections: listening socket closed, reset on arrival, or accepted and never answered"
    PARAMS = {"mode": Choice(("closed", "reset", "silent"))}  # noqa: RUF012
    LASTS_S = 5.0

    def begin(self) -> None:
        """Shut the door."""
        self._set(1)

    def end(self) -> None:
        """Open it."""
        self._set(-1)

    def _set(self, step: int) -> None:
        if self.params["mode"] == "silent":
            self.port.silent += step
        elif self.params["mode"] == "reset" or self.port.listener is None:
            self.port.resetting += step
        else:
            self.port.listener.shut(step)


class Close(Fault):
    """The venue's own close, as after 24 hours or before an upgrade; announced where the venue announces it."""

    SAYS = "close the connections with a close frame, after the notice on venues that send one"
    PARAMS = {"notice_ms": Number(1000, 0, 60_000), "code": Number(0, 0, 4999)}  # noqa: RUF012
    SYMBOL = "may"

    def begin(self) -> int:
        """Announce, then close."""
        clients = self.clients()
        for client in clients:
            notice = self.venue.closing_notice(client, time.time_ns())
            if notice:
                client.send(notice)
                delay_s = self.params["notice_ms"] / 1000
                asyncio.get_running_loop().call_later(delay_s, self._close, client)
            else:
                self._close(client)
        return len(clients)

    def _close(self, client: Connection) -> None:
        code, reason = self.venue.CLOSE
        client.close(int(self.params["code"]) or code, reason)


class SlowRead(Fault):
    """The server does not read: pings and requests wait in buffers."""

    SAYS = "do not read what the clients send"
    LASTS_S = 5.0
    _unread: list[Connection]

    def begin(self) -> int:
        """Stop reading."""
        self._unread = self.clients()
        for client in self._unread:
            client.read(on=False)
        return len(self._unread)

    def end(self) -> None:
        """Read again."""
        for client in self._unread:
            client.read(on=True)


class TokenExpiry(Fault):
    """All tokens end at once; those given out meanwhile are born expired."""

    SAYS = "expire every token: error 401 and a close; tokens given out while it lasts are expired too"
    LASTS_S = 1.0
    VENUES = ("kucoin",)

    def begin(self) -> int:
        """Expire."""
        assert isinstance(self.venue, Kucoin)
        clients = self.clients()
        self.venue.token_life_ns = 0
        self.venue.expire_tokens(clients)
        return len(clients)

    def end(self) -> None:
        """Give out good tokens again."""
        assert isinstance(self.venue, Kucoin)
        self.venue.token_life_ns = TOKEN_LIFE_NS
