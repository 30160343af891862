"""The listening socket of a port, which can be shut and opened again without losing its number."""

from __future__ import annotations

import asyncio
import socket
import ssl
from collections.abc import Callable
from typing import Final

HOST: Final = "127.0.0.1"
_BACKLOG: Final = 512


class Listener:
    """A server on an ephemeral port of the loopback interface."""

    def __init__(self, factory: Callable[[], asyncio.Protocol], tls: ssl.SSLContext | None) -> None:
        self._factory = factory
        self._tls = tls
        self._server: asyncio.Server | None = None
        self._opening: asyncio.Task[None] | None = None
        self._shut = 0
        self._holder = socket.socket()
        self._holder.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
        self._holder.bind((HOST, 0))  # never listens; keeps the number from others while the server is away
        self.port: int = self._holder.getsockname()[1]

    async def open(self) -> None:
        """Listen, unless shut."""
        if self._shut:
            return
        server = await asyncio.get_running_loop().create_server(
            self._factory, HOST, self.port, ssl=self._tls, backlog=_BACKLOG, reuse_port=True
        )
        if self._shut:
            server.close()
        else:
            self._server = server

    def shut(self, step: int) -> None:
        """Add to the reasons not to listen, or take one away; connections refused meanwhile see a closed port."""
        self._shut += step
        if self._shut and self._server is not None:
            self._server.close()
            self._server = None
        elif not self._shut and self._server is None:
            self._opening = asyncio.get_running_loop().create_task(self.open())

    def close(self) -> None:
        """Stop listening for good."""
        self._shut += 1
        if self._opening is not None:
            self._opening.cancel()
        if self._server is not None:
            self._server.close()
        self._holder.close()
