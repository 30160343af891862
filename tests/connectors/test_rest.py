import asyncio
import socket
import ssl
import threading
from contextlib import contextmanager

import pytest

from connectors import rest
from connectors.rest import RestError, call
from tests.connectors.peers import TLS


@contextmanager
def answering(answer, cert=None, requests=None):
    """Serve HTTP on loopback by raw bytes, or by pieces with pauses, in a thread; yields the base URL."""
    context = None
    if cert:
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(TLS / cert)
    loop = asyncio.new_event_loop()

    async def handle(reader, writer):
        try:
            head = await reader.readuntil(b"\r\n\r\n")
            if requests is not None:
                requests.append(head.decode())
            for piece in [answer] if isinstance(answer, bytes) else answer:
                writer.write(piece)
                await writer.drain()
                if not isinstance(answer, bytes):
                    await asyncio.sleep(0.02)
        except (ConnectionError, asyncio.IncompleteReadError):
            pass
        finally:
            writer.close()

    async def serve(ready):
        async with await asyncio.start_server(handle, "127.0.0.1", 0, ssl=context) as server:
            ready.append(server.sockets[0].getsockname()[1])
            listening.set()
            await stop.wait()

    async def ended():
        """Let every connection end, a refused TLS one too, and its transport close."""
        handlers = asyncio.all_tasks() - {asyncio.current_task()}
        if handlers:
            _, late = await asyncio.wait(handlers, timeout=5)
            for handler in late:
                handler.cancel()
            await asyncio.gather(*late, return_exceptions=True)
        await asyncio.sleep(0.05)

    listening, stop, ready = threading.Event(), asyncio.Event(), []
    thread = threading.Thread(target=loop.run_until_complete, args=(serve(ready),))
    thread.start()
    assert listening.wait(5)
    try:
        yield f"{'https' if cert else 'http'}://127.0.0.1:{ready[0]}"
    finally:
        loop.call_soon_threadsafe(stop.set)
        thread.join()
        loop.run_until_complete(ended())
        loop.close()


def http(body, status="200 OK", length=None):
    length = len(body) if length is None else length
    return f"HTTP/1.1 {status}\r\nContent-Length: {length}\r\n\r\n".encode() + body


def test_get_and_post():
    requests = []
    with answering(http(b'{"a":1}'), requests=requests) as url:
        assert call(f"{url}/list?limit=1") == b'{"a":1}'
        assert call(f"{url}/token", post=True) == b'{"a":1}'
    assert requests[0].startswith("GET /list?limit=1 HTTP/1.1\r\n")
    assert requests[1].startswith("POST /token HTTP/1.1\r\n")
    assert "Content-Length: 0\r\n" in requests[1]
    assert "User-Agent: mie/" in requests[0]


@pytest.mark.parametrize("status", [403, 404, 418, 429, 500])
def test_a_status_is_an_error(status):
    with answering(http(b"no", f"{status} No")) as url, pytest.raises(RestError, match=f"HTTP {status}") as caught:
        call(url)
    assert caught.value.status == status


@pytest.mark.parametrize("answer", [b"", b"SSH-2.0-OpenSSH\r\n", b"HTTP/1.1 abc\r\n\r\n"])
def test_what_is_no_http_is_an_error(answer):
    with answering(answer) as url, pytest.raises(RestError) as caught:
        call(url)
    assert caught.value.status == 0
    assert "\n" not in str(caught.value)


def test_a_broken_chunk_is_an_error():
    broken = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nab"
    with answering(broken) as url, pytest.raises(RestError):
        call(url)


def test_an_answer_may_come_in_pieces():
    with answering([http(b"abc", length=9), b"def", b"ghi"]) as url:
        assert call(url) == b"abcdefghi"


def test_a_body_is_bounded(monkeypatch):
    monkeypatch.setattr(rest, "MAX_BYTES", 1000)
    with answering(http(b"x" * 1001)) as url, pytest.raises(RestError, match="longer than 1000 bytes"):
        call(url)
    with answering(http(b"x" * 1000)) as url:
        assert len(call(url)) == 1000


def test_the_whole_answer_has_a_deadline(monkeypatch):
    monkeypatch.setattr(rest, "TIMEOUT_S", 0.3)
    drips = [http(b"", length=10_000), *[b"x"] * 10_000]
    with answering(drips) as url, pytest.raises(RestError, match="not complete within"):
        call(url)


def test_a_silent_or_closed_port_is_an_error(monkeypatch):
    monkeypatch.setattr(rest, "TIMEOUT_S", 0.1)
    with socket.socket() as held:
        held.bind(("127.0.0.1", 0))
        port = held.getsockname()[1]
        with pytest.raises(RestError, match="refused"):
            call(f"http://127.0.0.1:{port}/")
        held.listen()
        with pytest.raises(RestError, match="timed out"):
            call(f"http://127.0.0.1:{port}/")


def test_a_bad_url_is_an_error():
    with pytest.raises(RestError):
        call("http://127.0.0.1:port/")
    with pytest.raises(RestError):
        call("nothing")


def test_tls_verifies_authority_and_host():
    trusting = ssl.create_default_context(cafile=TLS / "ca.pem")
    with answering(http(b"secret"), cert="localhost.pem") as url:
        assert call(url, context=trusting) == b"secret"
        with pytest.raises(RestError, match="CERTIFICATE_VERIFY_FAILED"):
            call(url)
    with answering(http(b"secret"), cert="elsewhere.pem") as url, pytest.raises(RestError, match="not valid for"):
        call(url, context=trusting)


@pytest.mark.parametrize(("header", "wait_s"), [("Retry-After: 17\r\n", 17), ("", 0), ("Retry-After: Wed\r\n", 0)])
def test_how_long_to_stay_away_is_told(header, wait_s):
    answer = f"HTTP/1.1 429 X\r\n{header}Content-Length: 0\r\n\r\n".encode()
    with answering(answer) as base, pytest.raises(RestError) as raised:
        call(base)
    assert (raised.value.status, raised.value.retry_after_s) == (429, wait_s)
