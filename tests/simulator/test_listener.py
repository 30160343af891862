import asyncio

import pytest

from simulator.listener import HOST, Listener


class Greeter(asyncio.Protocol):
    def connection_made(self, transport):
        transport.write(b"hello")
        transport.close()


async def greeting(port):
    reader, writer = await asyncio.wait_for(asyncio.open_connection(HOST, port), 5)
    text = await asyncio.wait_for(reader.read(), 5)
    writer.close()
    await writer.wait_closed()
    return text


def test_it_can_be_shut_and_opened_again_on_its_port():
    async def play():
        listener = Listener(Greeter, None)
        await listener.open()
        assert await greeting(listener.port) == b"hello"
        listener.shut(1)
        listener.shut(1)
        with pytest.raises(ConnectionRefusedError):
            await greeting(listener.port)
        listener.shut(-1)
        with pytest.raises(ConnectionRefusedError):
            await greeting(listener.port)
        listener.shut(-1)
        await listener._opening
        assert await greeting(listener.port) == b"hello"
        listener.close()
        with pytest.raises(ConnectionRefusedError):
            await greeting(listener.port)

    asyncio.run(play())


def test_shut_before_it_was_open():
    async def play():
        listener = Listener(Greeter, None)
        listener.shut(1)
        await listener.open()
        with pytest.raises(ConnectionRefusedError):
            await greeting(listener.port)
        listener.close()

    asyncio.run(play())
