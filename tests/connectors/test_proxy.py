import asyncio
import base64
import ssl
from contextlib import asynccontextmanager

import pytest

from connectors import proxy as module
from connectors.clock import ReceiveClock
from connectors.proxy import Proxy, ProxyError, proxy_of
from connectors.rest import RestError, call
from connectors.transport import LinkError, open_link
from tests.connectors.peers import TLS, listening, run, talking
from tests.connectors.test_rest import answering, http


@pytest.fixture(autouse=True)
def clean(monkeypatch):
    for name in ("http_proxy", "https_proxy", "no_proxy", "all_proxy"):
        monkeypatch.delenv(name, raising=False)
        monkeypatch.delenv(name.upper(), raising=False)


# which proxy


def test_the_scheme_chooses_and_loopback_and_exceptions_go_directly(monkeypatch):
    monkeypatch.setenv("HTTPS_PROXY", "http://secure:3128")
    monkeypatch.setenv("HTTP_PROXY", "plain:8080")
    monkeypatch.setenv("NO_PROXY", "intern.test")
    assert proxy_of("wss://venue.test:9443/ws") == proxy_of("https://venue.test") == Proxy("secure", 3128)
    assert proxy_of("ws://venue.test") == Proxy("plain", 8080)
    for host in ("127.0.0.1:80", "localhost", "[::1]:5", "intern.test", "a.intern.test:9"):
        assert proxy_of(f"wss://{host}/ws") is None


def test_without_a_setting_there_is_none():
    assert proxy_of("wss://venue.test") is None


def test_a_login_becomes_a_header(monkeypatch):
    monkeypatch.setenv("HTTPS_PROXY", "http://us%40er:p%3Ass@proxy:1")
    expected = base64.b64encode(b"us@er:p:ss").decode()
    assert proxy_of("wss://venue.test") == Proxy("proxy", 1, f"Basic {expected}")


@pytest.mark.parametrize("value", ["socks5://proxy:1", "https://proxy:1", "http://:1", "http://proxy:x"])
def test_what_is_no_http_proxy_is_one_line_without_the_value(value, monkeypatch):
    monkeypatch.setenv("HTTPS_PROXY", value)
    with pytest.raises(ProxyError, match=r"^HTTPS_PROXY is not of the form http://host:port$"):
        proxy_of("wss://venue.test")


# the tunnel


@asynccontextmanager
async def proxying(port, heads, answer=b"HTTP/1.1 200 Connection established\r\n\r\n"):
    """A CONNECT proxy on loopback that leads to a port here, whatever it was asked for; yields its URL."""

    async def pass_on(reader, writer):
        while data := await reader.read(65_536):
            writer.write(data)
        writer.close()

    async def handle(reader, writer):
        heads.append((await reader.readuntil(b"\r\n\r\n")).decode())
        writer.write(answer)
        if b" 200 " not in answer:
            return
        there, back = await asyncio.open_connection("127.0.0.1", port)
        await asyncio.gather(pass_on(reader, back), pass_on(there, writer))

    async with talking(handle) as at:
        yield f"http://user:secret@127.0.0.1:{at}"


async def greet(peer):
    await peer.send("hello")
    await peer.wait_closed()


async def first_message(url, context=None):
    received = asyncio.get_running_loop().create_future()
    link = await open_link(url, lambda messages, _: received.set_result(messages), ReceiveClock(), context)
    messages = await asyncio.wait_for(received, 5)
    await link.close()
    return messages


def test_a_websocket_goes_through_the_tunnel(monkeypatch):
    heads = []

    async def check():
        async with listening(greet) as url, proxying(int(url.rsplit(":", 1)[1]), heads) as proxy:
            monkeypatch.setenv("HTTP_PROXY", proxy)
            assert await first_message("ws://venue.test:9443/ws") == [b"hello"]

    run(check())
    (head,) = heads
    assert head.startswith("CONNECT venue.test:9443 HTTP/1.1\r\nHost: venue.test:9443\r\nProxy-Authorization: Basic ")


@pytest.mark.parametrize(("cert", "good"), [("localhost.pem", True), ("elsewhere.pem", False)])
def test_tls_is_verified_end_to_end(cert, good, monkeypatch):
    monkeypatch.setattr(module, "is_loopback", lambda host: False)
    context = ssl.create_default_context(cafile=TLS / "ca.pem")

    async def check():
        async with listening(greet, cert=cert) as url, proxying(int(url.rsplit(":", 1)[1]), []) as proxy:
            monkeypatch.setenv("HTTPS_PROXY", proxy)
            assert await first_message("wss://localhost:443/ws", context) == [b"hello"]

    if good:
        run(check())
    else:
        with pytest.raises(LinkError, match="certificate verify failed"):
            run(check())


@pytest.mark.parametrize(
    ("answer", "code", "text"),
    [
        (b"HTTP/1.1 407 Proxy Authentication Required\r\n\r\n", 407, "the proxy answers 'HTTP/1.1 407"),
        (b"HTTP/1.1 503 no\r\n\r\n", 503, "503"),
        (b"junk\r\n\r\n", 0, "'junk'"),
        (b"", 0, "no HTTP answer"),
        (b"x" * 20_000, 0, "no HTTP answer"),
    ],
)
def test_a_proxy_that_refuses_is_a_link_error_with_its_status(answer, code, text, monkeypatch):
    async def check():
        async with proxying(1, [], answer) as proxy:
            monkeypatch.setenv("HTTP_PROXY", proxy)
            with pytest.raises(LinkError, match=text) as caught:
                await first_message("ws://venue.test/ws")
            assert caught.value.code == code

    run(check())


def test_a_proxy_that_is_not_there_is_a_link_error(monkeypatch):
    monkeypatch.setenv("HTTP_PROXY", "http://127.0.0.1:9")
    with pytest.raises(LinkError):
        run(first_message("ws://venue.test/ws"))


# REST


def test_rest_goes_through_the_proxy_and_loopback_does_not(monkeypatch):
    requests = []
    with answering(http(b"through"), requests=requests) as proxy, answering(http(b"directly")) as here:
        monkeypatch.setenv("HTTP_PROXY", proxy)
        assert call("http://venue.test/list") == b"through"
        assert call(f"{here}/list") == b"directly"
    assert len(requests) == 1
    assert requests[0].startswith("GET http://venue.test/list")


def test_rest_without_its_proxy_is_an_error(monkeypatch):
    monkeypatch.setenv("HTTP_PROXY", "http://127.0.0.1:9")
    with pytest.raises(RestError):
        call("http://venue.test/list")
