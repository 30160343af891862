import asyncio
import gc
import json
import logging
import socket
import weakref

import numpy as np
import pytest

from connectors import collector as module
from connectors import rest
from connectors.collector import serve
from connectors.pipe import FLUSH_NS, BatchReader, CollectorConfig, Endpoint, Serve, Stop, encode_line
from connectors.venues import VENUES
from market.schema import END_OF_INPUT
from market.venues import VENUE_CODES
from operators.forge import QUANTUM_NS
from tests.connectors.feeds import NATIVES, SYMBOLS, check_promises, config, recorded, trade
from tests.connectors.peers import listening, passing, run, talking


class Reader:
    """The worker's side of a collector's socket, in the same loop."""

    def __init__(self):
        self.end, theirs = socket.socketpair()
        for end in (self.end, theirs):
            end.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 1 << 16)
        self.end.setblocking(False)
        self.batches = []
        self._reader = BatchReader()
        self.task = asyncio.create_task(serve(theirs))

    async def say(self, *words):
        for word in words:
            await asyncio.get_running_loop().sock_sendall(self.end, encode_line(word) + b"\n")

    async def read(self):
        data = await asyncio.get_running_loop().sock_recv(self.end, 1 << 16)
        self.batches += self._reader.feed(data)
        return bool(data)

    async def read_to_the_end(self):
        while await self.read():
            pass
        self.end.close()
        await asyncio.wait_for(self.task, 5)

    @property
    def trade_ids(self):
        return [int(number) for batch in self.batches for number in batch.ticks["trade_id"].tolist()]


def numbered(count):
    """Return a handler that acknowledges the first request, then sends numbered trades as fast as they are read."""

    async def push(peer):
        request = json.loads(await peer.recv())
        await peer.send(json.dumps({"result": None, "id": request["id"]}))
        for number in range(count):
            await peer.send(trade(number), text=True)
        push.done = True
        await peer.wait_closed()

    push.done = False
    return push


def test_stop_closes_the_links_and_sends_the_rest():
    async def check():
        async with listening(numbered(1_000)) as url:
            reader = Reader()
            await reader.say(config(url), Serve("binance"))
            while len(reader.trade_ids) < 1_000:
                assert await reader.read()
            await reader.say(Stop())
            await reader.read_to_the_end()
        assert reader.trade_ids == list(range(1_000))
        check_promises("binance", reader.batches)
        last = reader.batches[-1]
        assert (last.watermark_ns, last.status.state) == (END_OF_INPUT, "ended")

    run(check())


def test_our_end_of_stream_ends_it():
    async def check():
        async with listening(numbered(10)) as url:
            reader = Reader()
            await reader.say(config(url), Serve("binance"))
            while not reader.trade_ids:
                await reader.read()
            reader.end.close()
            await asyncio.wait_for(reader.task, 5)

    run(check())


@pytest.mark.parametrize("politely", [True, False])
def test_all_that_came_is_on_record_however_it_ends(tmp_path, politely):
    async def check():
        async with listening(numbered(100)) as url:
            reader = Reader()
            await reader.say(config(url, record_dir=str(tmp_path)), Serve("binance"))
            while len(reader.trade_ids) < 100:
                assert await reader.read()
            if politely:
                await reader.say(Stop())
                await reader.read_to_the_end()
            else:
                reader.end.close()
                await asyncio.wait_for(reader.task, 5)

    run(check())
    assert [frame for _, frame in recorded(tmp_path)][1:] == [trade(number) for number in range(100)]


def test_commands_may_come_in_any_pieces():
    async def check():
        async with listening(numbered(5)) as url:
            reader = Reader()
            for byte in encode_line(config(url)) + b"\n" + encode_line(Serve("binance")) + b"\n":
                await asyncio.get_running_loop().sock_sendall(reader.end, bytes([byte]))
                await asyncio.sleep(0)
            while len(reader.trade_ids) < 5:
                await reader.read()
            await reader.say(Stop())
            await reader.read_to_the_end()

    run(check())


def test_a_reader_that_is_behind_holds_the_venue_up_and_loses_nothing(monkeypatch, caplog):
    """Our backlog is bounded: what does not fit waits in the venue's own buffers."""
    monkeypatch.setattr(module, "BACKLOG_BYTES", 1 << 17)
    count = 150_000

    async def check():
        push = numbered(count)
        async with listening(push, write_limit=1 << 15) as url:
            reader = Reader()
            await reader.say(config(url), Serve("binance"))
            await passing(lambda: "MiB behind" in caplog.text)
            await asyncio.sleep(0.2)
            assert not push.done
            while len(reader.trade_ids) < count:
                for _ in range(50):
                    await reader.read()
            await reader.say(Stop())
            await reader.read_to_the_end()
        assert reader.trade_ids == list(range(count))
        check_promises("binance", reader.batches)
        states = [batch.status for batch in reader.batches if batch.status]
        assert states[-1].reconnects == 0

    run(check())


def test_the_venue_s_list_is_followed_without_a_restart(caplog):
    caplog.set_level(logging.INFO)
    halted = {"ETHUSDT"}
    asked = []

    def pairs():
        rows = [
            {"symbol": f"{base}USDT", "status": "BREAK" if f"{base}USDT" in halted else "TRADING", "baseAsset": base,
             "quoteAsset": "USDT"}
            for base in ("BTC", "ETH")
        ]  # fmt: skip
        return json.dumps({"symbols": rows}).encode()

    async def rest(reader, writer):
        await reader.readuntil(b"\r\n\r\n")
        body = pairs() if halted != {"*"} else b"[]"
        writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n" % len(body) + body)

    async def acknowledge(peer):
        async for frame in peer:
            request = json.loads(frame)
            asked.extend((request["method"], topic) for topic in request["params"] if topic.endswith("@trade"))
            await peer.send(json.dumps({"result": None, "id": request["id"]}))

    async def check():
        async with listening(acknowledge) as url, talking(rest) as port:
            reader = Reader()
            endpoints = {"binance": Endpoint(url, f"http://127.0.0.1:{port}")}
            await reader.say(CollectorConfig(SYMBOLS, NATIVES, endpoints, seed=1, refresh_s=0.1), Serve("binance"))
            draining = asyncio.create_task(reader.read_to_the_end())
            await passing(lambda: ("UNSUBSCRIBE", "ethusdt@trade") in asked)
            halted.clear()
            await passing(lambda: asked.count(("SUBSCRIBE", "ethusdt@trade")) == 2)
            halted.add("*")  # no list at all: a fault, and no reason to let go of anything
            await passing(lambda: "its list cannot be read" in caplog.text)
            assert asked.count(("SUBSCRIBE", "btcusdt@trade")) == 1
            assert ("UNSUBSCRIBE", "btcusdt@trade") not in asked
            await reader.say(Stop())
            await draining

    run(check())
    assert "binance: 1 symbols do not trade any more: ETH-USDT" in caplog.text
    assert "binance: 1 symbols trade now: ETH-USDT" in caplog.text


def test_a_bug_in_a_session_ends_the_process_and_not_just_the_venue(monkeypatch):
    async def check():
        def broken(*_):
            raise KeyError("topic")  # noqa: EM101 -- stands for any bug

        monkeypatch.setattr(VENUES["binance"], "endpoint", broken)
        async with listening(numbered(1)) as url:
            reader = Reader()
            await reader.say(config(url), Serve("binance"))
            with pytest.raises(KeyError):
                await asyncio.wait_for(reader.task, 5)
            while await reader.read():
                pass
            reader.end.close()
        assert all(batch.watermark_ns != END_OF_INPUT for batch in reader.batches)

    run(check())


def test_venues_whose_rest_hangs_do_not_keep_another_from_its_token(monkeypatch):
    monkeypatch.setattr(rest, "TIMEOUT_S", 6.0)
    asked = []

    async def hanging(reader, writer):
        asked.append(await reader.readuntil(b"\r\n\r\n"))
        await reader.read()

    async def check():
        came = asyncio.Event()

        async def tokens(reader, writer):
            await reader.readuntil(b"\r\n\r\n")
            server = {"endpoint": url, "protocol": "websocket", "pingInterval": 18000, "pingTimeout": 10000}
            body = json.dumps({"code": "200000", "data": {"token": "abc", "instanceServers": [server]}}).encode()
            writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n" % len(body) + body)

        async def welcome(peer):
            came.set()
            await peer.wait_closed()

        others = [name for name in VENUES if name != "kucoin"]
        async with listening(welcome) as url, talking(hanging) as hung, talking(tokens) as good:
            endpoints = {name: Endpoint("ws://127.0.0.1:9", f"http://127.0.0.1:{hung}") for name in others}
            endpoints["kucoin"] = Endpoint(url, f"http://127.0.0.1:{good}")
            natives = {name: {"BTC-USDT": "BTC-USDT"} for name in VENUES}
            reader = Reader()
            known = CollectorConfig(["BTC-USDT"], natives, endpoints, seed=1, refresh_s=0.01)
            await reader.say(known, *(Serve(name) for name in others))
            await passing(lambda: len(asked) == len(others), 4.0)
            await reader.say(Serve("kucoin"))
            async with asyncio.timeout(4.0):
                await came.wait()
            reader.end.close()
            await asyncio.wait_for(reader.task, 5)

    run(check())


@pytest.mark.parametrize(
    ("now_ms", "due_ms"),
    [(100.0, 102.5), (100.05, 102.5), (104.999, 105), (105.0, 107.5), (107.8, 110), (110.2, 112.5)],
)
def test_flushes_are_due_at_the_ends_of_quanta_and_halfway(now_ms, due_ms):
    now_ns = round(now_ms * 1e6)
    due_ns = now_ns + round(module.until_flush_s(now_ns) * 1e9)
    assert due_ns == due_ms * 1_000_000 + module.PAST_NS


def test_a_flush_halfway_is_worth_it_only_if_there_is_much():
    whole_ns, half_ns = 7 * FLUSH_NS + module.PAST_NS, 7 * FLUSH_NS + FLUSH_NS // 2 + module.PAST_NS
    assert module.is_flush_due(whole_ns, 0)
    assert not module.is_flush_due(half_ns, module.MUCH_FRAMES - 1)
    assert module.is_flush_due(half_ns, module.MUCH_FRAMES)


def test_a_flush_ends_the_forges_quantum():
    assert FLUSH_NS == QUANTUM_NS


def test_the_venues_of_a_flush_arrive_together():
    async def check():
        async with listening(lambda peer: peer.wait_closed()) as url:
            reader = Reader()
            await reader.say(config(url), Serve("okx"), Serve("binance"))
            last = VENUE_CODES["binance"]
            while last not in {batch.venue for batch in reader.batches}:
                await reader.read()
            for _ in range(20):
                await reader.read()
                assert reader.batches[-1].venue == last
            await reader.say(Stop())
            await reader.read_to_the_end()

    run(check())


def test_what_links_leave_behind_is_collected_now_and_then(monkeypatch):
    monkeypatch.setattr(module, "TIDY_S", 0.05)

    class Link:
        pass

    async def check():
        reader = Reader()
        await reader.say(config())
        gc.disable()
        link = Link()
        link.itself, left = link, weakref.ref(link)
        del link
        await passing(lambda: left() is None)
        reader.end.close()
        await asyncio.wait_for(reader.task, 5)

    try:
        run(check())
    finally:
        gc.enable()


def test_watermarks_advance_without_any_frame():
    async def check():
        reader = Reader()
        await reader.say(config(), Serve("okx"))
        while len(reader.batches) < 20:
            await reader.read()
        await reader.say(Stop())
        await reader.read_to_the_end()
        marks = np.array([batch.watermark_ns for batch in reader.batches[:-1]])
        assert (np.diff(marks) > 0).all()

    run(check())
