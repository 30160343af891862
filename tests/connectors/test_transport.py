import asyncio
import socket
import ssl
from http import HTTPStatus

import pytest
from websockets.exceptions import ConnectionClosed

from connectors.clock import ReceiveClock
from connectors.transport import MAX_FRAME_BYTES, LinkError, open_link
from tests.connectors.peers import TLS, listening, passing, run, talking


class Received:
    """What a link handed on."""

    def __init__(self):
        self.frames = []
        self.times = []

    def __call__(self, frames, receive_ns):
        assert frames
        self.frames += frames
        self.times.append(receive_ns)


def connect(url, received=None, context=None):
    return open_link(url, received or Received(), ReceiveClock(), context)


async def failure(url, context=None):
    with pytest.raises(LinkError) as caught:
        await connect(url, context=context)
    return caught.value


def trusting():
    return ssl.create_default_context(cafile=TLS / "ca.pem")


def test_frames_arrive_in_order_with_rising_times():
    sent = [f"frame {number}".encode() for number in range(2_000)]

    async def push(peer):
        for frame in sent:
            await peer.send(frame, text=True)
        await peer.wait_closed()

    async def check():
        received = Received()
        async with listening(push) as url:
            link = await connect(url, received)
            await passing(lambda: len(received.frames) == len(sent))
            await link.close()
        assert received.frames == sent
        assert received.times == sorted(set(received.times))
        assert len(received.times) < len(sent)  # many frames a segment, one call a segment

    run(check())


def test_a_fragmented_message_is_joined():
    async def push(peer):
        await peer.send(["a", "b" * 70_000, "c"])
        await peer.send([b"d", b"e"])
        await peer.send("f")
        await peer.wait_closed()

    async def check():
        received = Received()
        async with listening(push) as url:
            link = await connect(url, received)
            await passing(lambda: len(received.frames) == 3)
            await link.close()
        assert received.frames == [b"a" + b"b" * 70_000 + b"c", b"de", b"f"]

    run(check())


def test_a_protocol_ping_is_answered_and_counts_as_life():
    async def check():
        answered = asyncio.Event()

        async def ping(peer):
            await peer.recv()
            await (await peer.ping(b"1700000000000"))
            answered.set()
            await peer.wait_closed()

        received = Received()
        async with listening(ping) as url:
            link = await connect(url, received)
            opened_s = link.heard_s
            link.send(b"go")
            await asyncio.wait_for(answered.wait(), 5)
            assert link.heard_s > opened_s
            assert received.frames == []
            await link.close()

    run(check())


def test_what_is_sent_is_a_text_message_and_nothing_on_a_closed_link():
    async def check():
        heard = []

        async def listen(peer):
            heard.extend([message async for message in peer])

        async with listening(listen) as url:
            link = await connect(url)
            link.send(b'{"op":"ping"}')
            await link.close()
            link.send(b"too late")
            assert not link.is_open
        assert heard == ['{"op":"ping"}']

    run(check())


@pytest.mark.parametrize("bytes_over", [0, 1])
def test_a_message_over_the_limit_closes_with_1009(bytes_over):
    async def check():
        closes = []

        async def push(peer):
            try:
                await peer.send(b"x" * (MAX_FRAME_BYTES + bytes_over))
                await peer.recv()
            except ConnectionClosed as closed:
                closes.append(closed.rcvd.code)

        received = Received()
        async with listening(push, max_size=None) as url:
            link = await connect(url, received)
            if bytes_over:
                reason = await asyncio.wait_for(link.closed, 10)
                assert reason.code == 1009
                assert received.frames == []
            else:
                await passing(lambda: received.frames)
                await link.close()
        assert closes == [1009 if bytes_over else 1000]

    run(check())


@pytest.mark.parametrize("status", [403, 418, 429, 503])
def test_an_http_status_is_the_error_s_code(status):
    async def check():
        def refuse(connection, request):
            return connection.respond(HTTPStatus(status), "no")

        async with listening(lambda peer: peer.wait_closed(), process_request=refuse) as url:
            error = await failure(url)
        assert error.code == status

    run(check())


@pytest.mark.parametrize("answer", [b"220 mail.example ESMTP\r\n", b"\x00\x01\x02\r\n\r\n", b""])
def test_what_is_no_websocket_server_is_an_error(answer):
    async def say(reader, writer):
        await reader.readuntil(b"\r\n\r\n")
        writer.write(answer)
        await writer.drain()

    async def check():
        async with talking(say) as port:
            error = await failure(f"ws://127.0.0.1:{port}/")
        assert error.code == 0
        assert "\n" not in str(error)

    run(check())


def test_a_plain_http_answer_is_an_error_with_its_status():
    async def say(reader, writer):
        await reader.readuntil(b"\r\n\r\n")
        writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nhi")
        await writer.drain()

    async def check():
        async with talking(say) as port:
            assert (await failure(f"ws://127.0.0.1:{port}/")).code == 200

    run(check())


def test_a_closed_port_and_a_bad_address_are_errors():
    with socket.socket() as held:
        held.bind(("127.0.0.1", 0))  # bound and not listening: nobody else can take it meanwhile
        port = held.getsockname()[1]
        assert "Connect call failed" in str(run(failure(f"ws://127.0.0.1:{port}/")))
    assert "http://127.0.0.1" in str(run(failure("http://127.0.0.1/")))


def test_a_silent_server_is_given_up():
    async def check():
        async with talking(lambda reader, writer: gone(reader)) as port:
            error = await failure(f"ws://127.0.0.1:{port}/")
            assert "no answer within 10 s" in str(error)
            await passing(lambda: ended)

    ended = []

    async def gone(reader):
        while await reader.read(1000):
            pass
        ended.append(True)

    run(check(), skipping=True)


def test_giving_up_an_opening_drops_the_connection():
    ended = []

    async def hold(reader, writer):
        while await reader.read(1000):
            pass
        ended.append(True)

    async def check():
        async with talking(hold) as port:
            opening = asyncio.create_task(connect(f"ws://127.0.0.1:{port}/"))
            await asyncio.sleep(0.05)
            opening.cancel()
            with pytest.raises(asyncio.CancelledError):
                await opening
            await passing(lambda: ended)

    run(check())


def test_the_server_s_close_is_the_reason():
    async def close(peer):
        await peer.close(4001, "maintenance")

    async def check():
        async with listening(close) as url:
            link = await connect(url)
            reason = await asyncio.wait_for(link.closed, 5)
        assert (reason.code, str(reason)) == (4001, "closed with 4001 maintenance")

    run(check())


def test_a_connection_that_breaks_off_has_no_code():
    async def drop(peer):
        peer.transport.abort()

    async def check():
        async with listening(drop) as url:
            link = await connect(url)
            reason = await asyncio.wait_for(link.closed, 5)
        assert reason.code == 0
        assert "connection lost" in str(reason)

    run(check())


def test_close_is_polite_and_bounded():
    async def check():
        codes = []

        async def note(peer):
            try:
                await peer.recv()
            except ConnectionClosed as closed:
                codes.append(closed.rcvd.code)

        async with listening(note) as url:
            link = await connect(url)
            await link.close()
            assert link.closed.done()
            await link.close()
        assert codes == [1000]

    run(check())


def test_close_does_not_wait_for_a_server_that_does_not_answer():
    async def check():
        asked = []

        async def hold(peer):
            peer.transport.pause_reading()
            asked.append(peer)
            await asyncio.sleep(30)

        async with listening(hold) as url:
            link = await connect(url)
            await passing(lambda: asked)
            loop = asyncio.get_running_loop()
            began_s = loop.time()
            await link.close()
            assert 1.5 < loop.time() - began_s < 5
            await asyncio.wait_for(link.closed, 1)
            asked[0].transport.abort()

    run(check(), skipping=True)


def test_a_paused_link_reads_nothing_and_loses_nothing():
    async def check():
        async def push(peer):
            await peer.recv()
            for number in range(100):
                await peer.send(str(number))
            await peer.wait_closed()

        received = Received()
        async with listening(push) as url:
            link = await connect(url, received)
            link.pause()
            link.send(b"go")
            await asyncio.sleep(0.1)
            assert received.frames == []
            link.resume()
            await passing(lambda: len(received.frames) == 100)
            await link.close()
        assert received.frames == [str(number).encode() for number in range(100)]

    run(check())


async def echo(peer):
    async for message in peer:
        await peer.send(message)


@pytest.mark.parametrize("host", ["127.0.0.1", "localhost"])
def test_tls_with_a_private_authority(host):
    async def check():
        received = Received()
        async with listening(echo, cert="localhost.pem") as url:
            link = await connect(url.replace("127.0.0.1", host), received, trusting())
            link.send(b"hello")
            await passing(lambda: received.frames)
            await link.close()
        assert received.frames == [b"hello"]

    run(check())


def test_tls_refuses_an_unknown_authority_and_another_host_s_certificate():
    async def check():
        async with listening(echo, cert="localhost.pem") as url:
            assert "CERTIFICATE_VERIFY_FAILED" in str(await failure(url))
        async with listening(echo, cert="elsewhere.pem") as url:
            assert "not valid for" in str(await failure(url, trusting()))

    run(check())


def test_tls_to_a_server_without_it_is_an_error():
    async def check():
        async with listening(echo) as url:
            assert await failure(url.replace("ws:", "wss:"), trusting())

    run(check())
