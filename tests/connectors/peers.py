"""Hand-made peers on loopback, an event loop that does not wait, and waiting with a deadline."""

import asyncio
import selectors
import ssl
import time
from contextlib import asynccontextmanager
from pathlib import Path

from websockets.asyncio.server import serve

TLS = Path(__file__).parent / "tls"
GRACE_S = 0.002
"""Real time a skipping loop gives the sockets before it takes them for quiet."""
DEADLINE_S = 20.0


class SkippingLoop(asyncio.SelectorEventLoop):
    """A loop whose clock jumps to the next timer once no socket has anything: minutes pass in milliseconds.

    Sockets are real. All peers must live in the loop, since what another thread is about to send looks quiet.
    """

    def __init__(self):
        self.skipped_s = 0.0
        super().__init__(_SkippingSelector(self))

    def time(self):
        return super().time() + self.skipped_s


class _SkippingSelector(selectors.DefaultSelector):
    def __init__(self, loop):
        super().__init__()
        self._loop = loop

    def select(self, timeout=None):
        if timeout is None or timeout <= GRACE_S:
            return super().select(timeout)
        ready = super().select(GRACE_S)
        if not ready:
            self._loop.skipped_s += timeout - GRACE_S
        return ready


def run(coroutine, *, skipping=False):
    """Run to the end, by the wall clock or skipping the time in which nothing happens."""
    with asyncio.Runner(loop_factory=SkippingLoop if skipping else None) as runner:
        return runner.run(coroutine)


@asynccontextmanager
async def listening(handler, *, cert=None, **options):
    """Serve WebSockets by `handler` on an ephemeral port; yields the base URL."""
    context = None
    if cert is not None:
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(TLS / cert)
    options = {"ping_interval": None, "compression": None, "close_timeout": 1, **options}
    async with serve(handler, "127.0.0.1", 0, ssl=context, **options) as server:
        port = server.sockets[0].getsockname()[1]
        yield f"{'wss' if cert else 'ws'}://127.0.0.1:{port}"


@asynccontextmanager
async def talking(handler):
    """Serve raw TCP by `handler(reader, writer)`; yields the port. Connections are closed with the handler."""

    async def closing(reader, writer):
        try:
            await handler(reader, writer)
        finally:
            writer.close()

    async with await asyncio.start_server(closing, "127.0.0.1", 0) as server:
        yield server.sockets[0].getsockname()[1]


async def passing(condition, within_s=DEADLINE_S, step_s=0.01):
    """Return the first true value of `condition` in a running loop, asked until the deadline."""
    loop = asyncio.get_running_loop()
    deadline_s = loop.time() + within_s
    while not (value := condition()):
        assert loop.time() < deadline_s, "nothing came of it"
        await asyncio.sleep(step_s)
    return value


def until(condition, within_s=DEADLINE_S, step_s=0.003):
    """Return the first true value of `condition`, asked until the deadline."""
    deadline_s = time.monotonic() + within_s
    while not (value := condition()):
        assert time.monotonic() < deadline_s, "nothing came of it"
        time.sleep(step_s)
    return value
