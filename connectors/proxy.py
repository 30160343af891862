"""The way through an HTTP proxy: which one the environment names for an address, and a tunnel through it.

`HTTPS_PROXY`, `HTTP_PROXY` and `NO_PROXY` as `urllib` reads them, so that WebSocket and REST agree; loopback addresses
are never proxied. Plain `http://` proxies only: what goes through the tunnel has its own TLS, end to end.
"""

from __future__ import annotations

import asyncio
import base64
import ipaddress
import socket
from dataclasses import dataclass
from typing import Final
from urllib.parse import unquote, urlsplit
from urllib.request import getproxies, proxy_bypass

MAX_HEAD_BYTES: Final = 16 * 1024
_SCHEMES: Final = {"wss": "https", "ws": "http"}
_DEFAULT_PORT: Final = 80


class ProxyError(OSError):
    """The proxy cannot be used, or will not connect.

    Attributes:
        status: HTTP status of its answer; 0 if it gave none.
    """

    def __init__(self, text: str, status: int = 0) -> None:
        super().__init__(text)
        self.status = status


@dataclass(frozen=True, slots=True)
class Proxy:
    """A proxy's address, and the value of the header that lets us in ("" for none)."""

    host: str
    port: int
    authorization: str = ""


def proxy_of(url: str) -> Proxy | None:
    """Return the proxy for an address, None to connect directly.

    Raises:
        ProxyError: The environment names something that is no `http://host:port`.
    """
    parts = urlsplit(url)
    scheme = _SCHEMES.get(parts.scheme, parts.scheme)
    named = getproxies().get(scheme)
    if not named or not parts.hostname or is_loopback(parts.hostname) or proxy_bypass(parts.hostname):
        return None
    at = urlsplit(named if "//" in named else f"//{named}")
    try:
        port = at.port or _DEFAULT_PORT
    except ValueError:
        port = 0
    if at.scheme not in ("", "http") or not at.hostname or not port:
        text = f"{scheme.upper()}_PROXY is not of the form http://host:port"
        raise ProxyError(text)
    login = f"{unquote(at.username)}:{unquote(at.password or '')}" if at.username else ""
    return Proxy(at.hostname, port, f"Basic {base64.b64encode(login.encode()).decode()}" if login else "")


def is_loopback(host: str) -> bool:
    """Return whether a host is this machine by its name or address."""
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"


async def tunnel(proxy: Proxy, host: str, port: int) -> socket.socket:
    """Return a connected socket that leads to `host:port` through a proxy. The caller bounds the time.

    Raises:
        OSError: The proxy cannot be reached; ProxyError if it refuses.
    """
    loop = asyncio.get_running_loop()
    found = await loop.getaddrinfo(proxy.host, proxy.port, type=socket.SOCK_STREAM)
    family, kind, protocol, _, address = found[0]
    end = socket.socket(family, kind, protocol)
    end.setblocking(False)
    try:
        await loop.sock_connect(end, address)
        await loop.sock_sendall(end, _request(proxy, host, port))
        _check(await _head(end))
    except BaseException:
        end.close()
        raise
    return end


def _request(proxy: Proxy, host: str, port: int) -> bytes:
    target = f"[{host}]:{port}" if ":" in host else f"{host}:{port}"
    login = f"Proxy-Authorization: {proxy.authorization}\r\n" if proxy.authorization else ""
    return f"CONNECT {target} HTTP/1.1\r\nHost: {target}\r\n{login}\r\n".encode()


async def _head(end: socket.socket) -> bytes:
    """Return the head of the answer. Nothing follows it unasked: in TLS and in HTTP the client speaks first."""
    loop = asyncio.get_running_loop()
    head = b""
    while b"\r\n\r\n" not in head:
        piece = await loop.sock_recv(end, 4096)
        head += piece
        if not piece or len(head) > MAX_HEAD_BYTES:
            text = "the proxy gives no HTTP answer"
            raise ProxyError(text)
    return head


def _check(head: bytes) -> None:
    line = head.split(b"\r\n", 1)[0].decode("latin-1")
    status = line.split(" ")[1] if line.startswith("HTTP/1.") and line.count(" ") else ""
    if status != "200":
        text = f"the proxy answers {line[:80]!r}"
        raise ProxyError(text, int(status) if status.isascii() and status.isdigit() else 0)
