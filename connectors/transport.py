"""A WebSocket client link as the session sees it: open, frames in batches, send, close.

The protocol is `websockets`' sans-I/O core on an asyncio transport: one callback a TCP segment instead of one await a
frame, which costs two thirds of the library's own client. A faster library can stand in behind `open_link`.
"""

from __future__ import annotations

import asyncio
import ssl as tls
from collections.abc import Callable
from typing import Any, Final, cast

from websockets.client import ClientProtocol
from websockets.exceptions import InvalidHandshake, InvalidURI
from websockets.frames import Frame, Opcode
from websockets.http11 import Response
from websockets.protocol import State
from websockets.uri import parse_uri

from connectors.clock import Clock
from connectors.proxy import proxy_of, tunnel

OPEN_TIMEOUT_S: Final = 10.0
CLOSE_TIMEOUT_S: Final = 2.0
MAX_FRAME_BYTES: Final = 4 * 1024 * 1024
"""A longer message closes the link with code 1009."""

OnFrames = Callable[[list[bytes], int], None]
"""Called with the frames of one segment, in order, and their receive time in nanoseconds."""


class LinkError(Exception):
    """A link could not be opened or was lost.

    Attributes:
        code: WebSocket close code or HTTP status; 0 if the network gave none.
    """

    def __init__(self, text: str, code: int = 0) -> None:
        super().__init__(text)
        self.code = code


class Link(asyncio.Protocol):
    """One open connection. Made by `open_link`.

    Attributes:
        heard_s: Loop time when the peer last sent anything, protocol pings too.
    """

    def __init__(self, url: str, on_frames: OnFrames, clock: Clock) -> None:
        self._protocol = ClientProtocol(parse_uri(url), max_size=MAX_FRAME_BYTES)
        self._on_frames = on_frames
        self._clock = clock
        self._transport: asyncio.Transport | None = None
        self._parts: list[bytes] = []
        self._closing = False
        loop = asyncio.get_running_loop()
        self.heard_s = loop.time()
        self.opened: asyncio.Future[None] = loop.create_future()
        self.closed: asyncio.Future[LinkError] = loop.create_future()
        """Done when the connection is gone, with the reason; never raises."""

    # asyncio.Protocol

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Send the upgrade request."""
        self._transport = cast(asyncio.Transport, transport)
        self._protocol.send_request(self._protocol.connect())
        self._flush()

    def data_received(self, data: bytes) -> None:
        """Feed the protocol; hand on the messages it completes."""
        now_ns = self._clock()
        self.heard_s = asyncio.get_running_loop().time()
        self._protocol.receive_data(data)
        messages: list[bytes] = []
        for event in self._protocol.events_received():
            if isinstance(event, Frame):
                self._collect(event, messages)
            elif isinstance(event, Response):
                self._upgraded()
        self._flush()
        if messages:
            self._on_frames(messages, now_ns)
        if self._protocol.handshake_exc is not None:
            self._upgraded()

    def eof_received(self) -> None:
        """Tell the protocol; the transport closes itself."""
        self._protocol.receive_eof()
        self._flush()

    def connection_lost(self, exc: Exception | None) -> None:
        """Resolve `opened` and `closed`."""
        self._protocol.receive_eof()
        reason = self._reason(exc)
        if not self.opened.done():
            self.opened.set_exception(reason)
        if not self.closed.done():
            self.closed.set_result(reason)

    # the session's side

    @property
    def is_open(self) -> bool:
        """Whether messages can be sent."""
        return self._protocol.state is State.OPEN

    def send(self, frame: bytes) -> None:
        """Send a text message; silently nothing on a link that is closing."""
        if self.is_open:
            self._protocol.send_text(frame)
            self._flush()

    def pause(self) -> None:
        """Stop reading: the peer's sends back up (TCP back-pressure)."""
        if self._transport is not None:
            self._transport.pause_reading()

    def resume(self) -> None:
        """Read again."""
        if self._transport is not None:
            self._transport.resume_reading()

    async def close(self, code: int = 1000) -> None:
        """Close politely within CLOSE_TIMEOUT_S, else abruptly."""
        if self._transport is None or self.closed.done():
            return
        if self.is_open:
            self._protocol.send_close(code)
            self._flush()
            await asyncio.wait([self.closed], timeout=CLOSE_TIMEOUT_S)
        if not self.closed.done():
            self.abort()

    def abort(self) -> None:
        """Drop the connection at once."""
        if self._transport is not None:
            self._transport.abort()

    def _collect(self, frame: Frame, messages: list[bytes]) -> None:
        opcode = frame.opcode
        if opcode is Opcode.TEXT or opcode is Opcode.BINARY:
            if frame.fin:
                messages.append(bytes(frame.data))
            else:
                self._parts = [bytes(frame.data)]
        elif opcode is Opcode.CONT:
            self._parts.append(bytes(frame.data))
            if frame.fin:
                messages.append(b"".join(self._parts))
                self._parts = []

    def _upgraded(self) -> None:
        if self.opened.done():
            return
        error = self._protocol.handshake_exc
        if error is None:
            self.opened.set_result(None)
            return
        status = getattr(getattr(error, "response", None), "status_code", 0)
        kind = "refused the WebSocket" if isinstance(error, InvalidHandshake) else "is no WebSocket server"
        self.opened.set_exception(LinkError(f"{kind}: {error}", status))
        self.abort()

    def _flush(self) -> None:
        transport = self._transport
        if transport is None:
            return
        for data in self._protocol.data_to_send():
            if data:
                transport.write(data)
            elif transport.can_write_eof():
                transport.write_eof()
            else:
                transport.close()
        if self._protocol.close_expected() and not self._closing:
            self._closing = True  # the server drops the connection first; it gets this long for it
            asyncio.get_running_loop().call_later(CLOSE_TIMEOUT_S, self.abort)

    def _reason(self, exc: Exception | None) -> LinkError:
        close = self._protocol.close_rcvd or self._protocol.close_sent
        if close is not None:
            return LinkError(f"closed with {close.code} {close.reason}".rstrip(), close.code)
        return LinkError(f"connection lost: {exc}" if exc else "connection lost")


async def open_link(url: str, on_frames: OnFrames, clock: Clock, context: tls.SSLContext | None = None) -> Link:
    """Connect and upgrade, through the proxy that the environment names for the address, if any.

    Args:
        url: `ws://` or `wss://`; the latter verifies certificate and host name.
        on_frames: Where messages go.
        clock: Stamps each segment.
        context: TLS settings; the system's trust store by default.

    Raises:
        LinkError: The venue cannot be reached, refuses, or takes longer than OPEN_TIMEOUT_S.
    """
    try:
        uri = parse_uri(url)
    except InvalidURI as error:
        raise LinkError(str(error)) from None
    secure = (context or tls.create_default_context()) if uri.secure else None
    loop = asyncio.get_running_loop()
    link: Link | None = None
    try:
        async with asyncio.timeout(OPEN_TIMEOUT_S):
            proxy = proxy_of(url)
            way: dict[str, Any] = {"host": uri.host, "port": uri.port}
            if proxy is not None:
                way = {"sock": await tunnel(proxy, uri.host, uri.port)}
            _, link = await loop.create_connection(
                lambda: Link(url, on_frames, clock),
                ssl=secure,
                server_hostname=uri.host if secure else None,
                **way,
            )
            await link.opened
    except TimeoutError:
        text = f"no answer within {OPEN_TIMEOUT_S:.0f} s"
        raise LinkError(text) from None
    except OSError as error:
        raise LinkError(str(error), getattr(error, "status", 0)) from None
    finally:
        if link is not None and not link.is_open:
            link.abort()
    return link
