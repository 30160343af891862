"""One port of one venue: HTTP requests and WebSocket connections on it.

Handshake and control frames are the `websockets` library's sans-I/O protocol; data frames are written past it, many
in one call, since its cost for each exceeds that of the message. Knows no venue's format.
"""

from __future__ import annotations

import asyncio
import math
import secrets
import time
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any, Final
from urllib.parse import parse_qsl, urlsplit

import msgspec
from websockets.frames import Frame, Opcode
from websockets.http11 import Request as Handshake
from websockets.protocol import Event, State
from websockets.server import ServerProtocol

from simulator.frames import HEADERS, frame, payload_of
from simulator.venues.base import NOT_FOUND, Reply, Request

if TYPE_CHECKING:
    from simulator.faults.control import Control
    from simulator.faults.rows import RowFault
    from simulator.listener import Listener
    from simulator.venues.base import Venue

MOST_BUFFERED_BYTES: Final = 8 * 2**20
"""A client that leaves so much unread is dropped."""
RESUME_BYTES: Final = 2**18
"""Above this an unpaced feed waits for the client."""
_MOST_HEAD_BYTES: Final = 2**16
_CLOSE_WITHIN_S: Final = 5.0
_TRY_AGAIN_LATER: Final = 1013
_LEAVES: Final = frozenset({1000, 1001, 1005})
"""Close codes of a client that goes by its own will; after any other its trades are owed to it."""
_PONG: Final = 0x8A
_REASONS: Final = {
    200: "OK", 400: "Bad Request", 403: "Forbidden", 404: "Not Found", 418: "I'm a teapot", 429: "Too Many Requests",
    503: "Service Unavailable",
}  # fmt: skip


class Port:
    """A venue's listening port: its venue, its connections, its counts.

    Attributes:
        venue: Whose port it is.
        clients: Open WebSocket connections.
        sent: Data frames written.
        trades: Trade rows in them.
        dropped: Connections closed because they read too slowly.
        ws: Base URL for WebSockets; `rest` for HTTP.
        control: Where faults are ordered; None without.
        listener: Its listening socket.
        row_faults: Faults that due rows pass through, in this order.
        refusals: HTTP refusals in force: (status, of upgrades, of REST); the last one counts.
        silent: How many faults keep it from answering new connections, and `resetting` to abort them.
        pong_delay_s: How late client pings are answered, `inf` = never; None without a fault.
    """

    def __init__(self, venue: Venue, stats: Callable[[], dict[str, Any]], *, paced: bool) -> None:
        self.venue = venue
        self.stats = stats
        self.paced = paced
        self.clients: set[Connection] = set()
        self.sent = 0
        self.trades = 0
        self.dropped = 0
        self.ws = ""
        self.rest = ""
        self.control: Control | None = None
        self.listener: Listener | None = None
        self.row_faults: list[RowFault] = []
        self.refusals: list[tuple[int, bool, bool]] = []
        self.silent = 0
        self.resetting = 0
        self.pong_delay_s: float | None = None

    def refused(self, *, upgrade: bool) -> Reply | None:
        """Return the refusal a fault demands of a request, None without one."""
        if not self.refusals:
            return None
        status, upgrades, rest = self.refusals[-1]
        if not (upgrades if upgrade else rest):
            return None
        return Reply(self.venue.refusal(status), status, {"Retry-After": "1"})

    def clients_of(self, symbol: int | None) -> list[Connection]:
        """Return the connections subscribed to a symbol, all with None."""
        return [
            client for client in self.clients if symbol is None or any(symbol == place for _, place in client.topics)
        ]

    def listening(self, port: int, *, tls: bool) -> None:
        """Note where the port listens."""
        end = "s" if tls else ""
        self.ws, self.rest = f"ws{end}://127.0.0.1:{port}", f"http{end}://127.0.0.1:{port}"


class Connection(asyncio.Protocol):
    """A client: HTTP until it upgrades, then a WebSocket and a `Peer` to its venue."""

    def __init__(self, port: Port) -> None:
        self.port = port
        self.venue = port.venue
        self.tag = secrets.token_hex(16)
        self.topics: set[tuple[str, int]] = set()
        self.options: dict[str, Any] = {}
        self.changed = False
        """Set when the client has asked for something; whoever plans by topics resets it."""
        self.writable = asyncio.Event()
        self.writable.set()
        self._out: list[str] = []
        self.put = self._out.append
        self._head = bytearray()
        self._protocol: ServerProtocol | None = None
        self._closing = False
        self._extra: list[Callable[[str], str]] = []
        self.opened_s = self._sent_s = self._heard_s = time.monotonic()

    # asyncio.Protocol

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Start as HTTP."""
        assert isinstance(transport, asyncio.Transport)
        self._transport = transport
        if self.port.resetting:
            transport.abort()
            return
        transport.set_write_buffer_limits(high=RESUME_BYTES)

    def data_received(self, data: bytes) -> None:
        """Feed HTTP or WebSocket bytes."""
        if self._protocol is None:
            self._http_received(data)
        else:
            self._frames_received(data)

    def eof_received(self) -> None:
        """The client has closed its half."""
        if self._protocol is not None:
            self._protocol.receive_eof()

    def connection_lost(self, exc: Exception | None) -> None:
        """Forget the client."""
        self._closing = True
        self.writable.set()
        if self in self.port.clients:
            self.port.clients.discard(self)
            self.venue.closed(self, left=False)

    def pause_writing(self) -> None:
        """The client is behind."""
        self.writable.clear()

    def resume_writing(self) -> None:
        """The client has caught up."""
        self.writable.set()

    # Peer

    def send(self, text: str) -> None:
        """Send a control frame at once, after all that is queued."""
        self.flush()
        payload = text.encode()
        self._write((HEADERS[len(payload)]).encode("latin-1") + payload)

    def close(self, code: int, reason: str) -> None:
        """Send a close frame after all that is queued; the TCP connection ends within seconds whatever comes."""
        if self._closing or self._protocol is None:
            return
        self.flush()
        self._closing = True
        self.venue.closed(self, left=False)
        if self._protocol.state is State.OPEN:
            self._protocol.send_close(code, reason)
            self._protocol_to_wire()
        asyncio.get_running_loop().call_later(_CLOSE_WITHIN_S, self._transport.abort)

    def ping(self) -> None:
        """Send a protocol ping."""
        if self._protocol is not None and not self._closing:
            self._protocol.send_ping(str(time.time_ns() // 1_000_000).encode())
            self._protocol_to_wire()

    def flush(self) -> None:
        """Write the queued frames. A client whose buffer is full is dropped instead, so that memory stays bounded."""
        out = self._out
        if not out:
            return
        if self._extra:
            self._spoil(out)
        if not self._closing:
            self.port.sent += len(out)
            self._write("".join(out).encode("latin-1"))
        out.clear()

    # For faults

    def spoil(self, make: Callable[[str], str]) -> None:
        """Precede the next data frame by what `make` makes of its payload."""
        self._extra.append(make)

    def _spoil(self, out: list[str]) -> None:
        out[:0] = [frame(make(payload_of(out[0]))) for make in self._extra]
        self._extra.clear()

    def abort(self) -> None:
        """Drop the TCP connection at once."""
        self._transport.abort()

    def mute(self) -> None:
        """Never send or read again, and leave the TCP connection open."""
        self.flush()
        self._closing = True
        self.venue.closed(self, left=False)
        self.read(on=False)

    def read(self, *, on: bool) -> None:
        """Stop or go on reading from the socket."""
        if self._transport.is_closing() or self._transport.is_reading() == on:
            return
        (self._transport.resume_reading if on else self._transport.pause_reading)()

    def write_frames(self, data: bytes, frames: int) -> None:
        """Write data frames that were built elsewhere."""
        if not self._closing:
            self.port.sent += frames
            self._write(data)

    def beat(self, now_s: float, now_ns: int) -> None:
        """Do what is due once a second."""
        limit = self.venue.idle_s(self)
        if limit is not None and now_s - self._heard_s > limit:
            self.close(1000, "Bye")
        elif not self._closing:
            self.venue.beat(self, now_s - self._sent_s, int(now_s - self.opened_s), now_ns)

    def _write(self, data: bytes) -> None:
        if self._closing:
            return
        self._sent_s = time.monotonic()
        self._transport.write(data)
        if self.port.paced and self._transport.get_write_buffer_size() > MOST_BUFFERED_BYTES:
            self.port.dropped += 1
            self._out.clear()
            self.close(_TRY_AGAIN_LATER, "client too slow")

    # HTTP

    def _http_received(self, data: bytes) -> None:
        self._head += data
        while self._protocol is None:
            head, gap, rest = bytes(self._head).partition(b"\r\n\r\n")
            if not gap:
                if len(self._head) > _MOST_HEAD_BYTES:
                    self._transport.close()
                return
            lines = head.decode("latin-1").split("\r\n")
            headers = {
                name.strip().lower(): value.strip() for name, _, value in (line.partition(":") for line in lines[1:])
            }
            if self.port.silent and " /sim/" not in lines[0]:
                self._head.clear()
                return
            if headers.get("upgrade", "").lower() == "websocket":
                refused = self.port.refused(upgrade=True)
                if refused is None:
                    self._upgrade(bytes(self._head))
                else:
                    self._reply(refused, keep=False)
                return
            length = headers.get("content-length", "0")
            if not length.isdigit() or int(length) > _MOST_HEAD_BYTES:
                self._transport.close()
                return
            if len(rest) < int(length):
                return
            self._head = bytearray(rest[int(length) :])
            body = bytes(rest[: int(length)])
            self._answer(lines[0], body, keep=headers.get("connection", "").lower() != "close")

    def _answer(self, line: str, posted: bytes, *, keep: bool) -> None:
        method, _, target = line.partition(" ")
        url = urlsplit(target.partition(" ")[0])
        request = Request(method, url.path, dict(parse_qsl(url.query)), self.port.ws)
        if url.path.startswith("/sim/"):
            reply = self._about_simulator(method, url.path, posted)
        else:
            reply = self.port.refused(upgrade=False) or self.venue.answer(request, time.time_ns())
        self._reply(reply, keep=keep)

    def _about_simulator(self, method: str, path: str, posted: bytes) -> Reply:
        control = self.port.control
        if path == "/sim/stats":
            return Reply(self.port.stats())
        if path == "/sim/faults" and control is not None:
            return control.state()
        if path == "/sim/fault" and method == "POST" and control is not None:
            return control.ordered(self.port, posted)
        return NOT_FOUND

    def _reply(self, reply: Reply, *, keep: bool) -> None:
        body = msgspec.json.encode(reply.body)
        head = (
            f"HTTP/1.1 {reply.status} {_REASONS.get(reply.status, 'Error')}\r\nContent-Type: application/json\r\n"
            f"Content-Length: {len(body)}\r\nConnection: {'keep-alive' if keep else 'close'}\r\n"
        )
        head += "".join(f"{name}: {value}\r\n" for name, value in reply.headers.items()) + "\r\n"
        self._transport.write(head.encode() + body)
        if not keep:
            self._transport.close()

    # WebSocket

    def _upgrade(self, data: bytes) -> None:
        protocol = ServerProtocol(max_size=2**20)
        protocol.receive_data(data)
        events = protocol.events_received()
        request = events[0] if events else None
        if not isinstance(request, Handshake):
            self._transport.close()
            return
        url = urlsplit(request.path)
        right = url.path.rstrip("/") == self.venue.PATH.rstrip("/")
        protocol.send_response(protocol.accept(request) if right else protocol.reject(404, "no such path\n"))
        self._protocol, self._head = protocol, bytearray()
        self._protocol_to_wire()
        if protocol.state is State.OPEN:
            self.port.clients.add(self)
            self.changed = True
            self.venue.opened(self, dict(parse_qsl(url.query)), time.time_ns())
            self._handle(events[1:])

    def _frames_received(self, data: bytes) -> None:
        assert self._protocol is not None
        self._protocol.receive_data(data)
        self._heard_s = time.monotonic()
        self._handle(self._protocol.events_received())

    def _handle(self, events: Sequence[Event]) -> None:
        for event in events:
            if not isinstance(event, Frame) or self._closing:
                continue
            if event.opcode is Opcode.TEXT:
                self._received(bytes(event.data).decode("utf-8", "replace"))
            elif event.opcode is Opcode.CLOSE:
                self._client_closes()
        self.flush()
        self._protocol_to_wire()

    def _received(self, text: str) -> None:
        late_s = self.port.pong_delay_s
        if late_s is None or not self.venue.is_ping(text):
            self.venue.received(self, text, time.time_ns())
            self.changed = True
        elif late_s < math.inf:
            asyncio.get_running_loop().call_later(late_s, self.venue.received, self, text, time.time_ns())

    def _client_closes(self) -> None:
        assert self._protocol is not None
        code = self._protocol.close_rcvd.code if self._protocol.close_rcvd is not None else 0
        self.flush()
        self._closing = True
        self.venue.closed(self, left=code in _LEAVES)

    def _protocol_to_wire(self) -> None:
        assert self._protocol is not None
        for data in self._protocol.data_to_send():
            if not data:
                self._transport.close()
            elif self.port.pong_delay_s is None or data[0] != _PONG:
                self._transport.write(data)
            elif self.port.pong_delay_s < math.inf:
                asyncio.get_running_loop().call_later(self.port.pong_delay_s, self._transport.write, data)
