import asyncio
import json
import logging
import socket

import numpy as np
import pytest

from connectors import collector as module
from connectors.clock import ReceiveClock
from connectors.collector import STALE_NS, VenueFeed, serve
from connectors.frame_files import read_frames
from connectors.pipe import BatchReader, CollectorConfig, Endpoint, Serve, Stop, encode_line
from connectors.recorder import BLOCK_FRAMES, BLOCK_NS, Recorder, RecordFolder
from market.schema import END_OF_INPUT
from tests.connectors.feeds import check_promises
from tests.connectors.peers import listening, passing, run, talking
from tests.connectors.ticks import START_NS

SYMBOLS = ["BTC-USDT", "ETH-USDT"]
NATIVES = {"binance": {"BTC-USDT": "BTCUSDT", "ETH-USDT": "ETHUSDT"}, "okx": {"BTC-USDT": "BTC-USDT"}}


def config(url="ws://127.0.0.1:9", **options):
    endpoints = {name: Endpoint(url, "http://127.0.0.1:9") for name in NATIVES}
    return CollectorConfig(SYMBOLS, NATIVES, endpoints, seed=1, **options)


def trade(number, native="BTCUSDT"):
    data = {
        "e": "trade", "E": 1790000000000, "s": native, "t": number, "p": "61837.63", "q": "0.02",
        "T": 1790000000000, "m": True, "M": True,
    }  # fmt: skip
    return json.dumps({"stream": f"{native.lower()}@trade", "data": data}, separators=(",", ":")).encode()


class Wall:
    """A wall clock moved by hand."""

    def __init__(self):
        self.now_ns = START_NS

    def __call__(self):
        return self.now_ns


def feed_of(name="binance", wall=None, **options):
    """Return a feed whose session is not started; frames are put in by hand."""

    async def build():
        return VenueFeed(name, config(**options), ReceiveClock(wall or Wall()), None)

    return run(build())


# one venue


def test_frames_become_ticks_with_their_receive_times():
    wall = Wall()
    feed = feed_of(wall=wall)
    feed.sessions[0].current.frames = [([trade(1), trade(2, "ETHUSDT")], START_NS + 5), ([trade(3)], START_NS + 9)]
    wall.now_ns = START_NS + 20
    batch = feed.flush()
    assert batch.ticks["receive_ns"].tolist() == [START_NS + 5, START_NS + 5, START_NS + 9]
    assert batch.ticks["trade_id"].tolist() == [b"1", b"2", b"3"]
    assert batch.ticks["symbol"].tolist() == [0, 1, 0]
    assert feed.sessions[0].current.frames == []
    assert START_NS + 9 <= batch.watermark_ns <= START_NS + 20


def test_a_watermark_covers_what_was_stamped_before_it_and_nothing_after_with_a_clock_that_stands():
    wall = Wall()

    async def check():
        clock = ReceiveClock(wall)
        feed = VenueFeed("binance", config(), clock, None)
        batches = []
        for number in range(5):
            feed.sessions[0].current.frames = [([trade(number)], clock())]
            batches.append(feed.flush())
            wall.now_ns -= 1_000_000  # the system's clock is being set back
        return batches

    check_promises("binance", run(check()))


def test_rejects_are_counted_and_a_sample_kept(caplog):
    feed = feed_of()
    junk = [b"{" + b"x" * 500] * 100
    feed.sessions[0].current.frames = [(junk, START_NS), ([trade(1, "DOGEUSDT"), trade(2)], START_NS)]
    batch = feed.flush()
    assert batch.ticks["trade_id"].tolist() == [b"2"]
    assert (feed.counters.rejects, feed.counters.unknown_symbols) == (100, 1)
    assert len(feed.rejected) == module.REJECT_SAMPLE
    assert feed.rejected[-1].reason == "unknown symbol"
    assert feed.counters.last_reject.startswith("unknown symbol: ")
    assert len([record for record in caplog.records if "first frame rejected" in record.message]) == 2


def test_counters_go_out_once_a_second():
    wall = Wall()
    feed = feed_of(wall=wall)
    given = []
    for _ in range(400):
        wall.now_ns += 5_000_000
        given.append(feed.flush().status is not None)
    assert sum(given) == 2
    assert given[0]


def test_a_connected_venue_without_ticks_is_stale_and_with_them_live_again():
    wall = Wall()
    feed = feed_of(wall=wall)

    def state_after(seconds, frames=()):
        wall.now_ns += int(seconds * 1e9)
        feed.sessions[0].current.frames = [(list(frames), wall.now_ns)] if frames else []
        return feed.flush().status.state

    feed.counters.state = "live"
    assert state_after(1, [trade(1)]) == "live"
    assert state_after(STALE_NS / 1e9 - 1) == "live"
    assert state_after(2, [b'{"result":null,"id":1}']) == "stale"  # an answer is no data
    assert state_after(1, [trade(2)]) == "live"
    assert state_after(16) == "stale"
    feed.counters.state = "down"
    assert state_after(60) == "down"
    feed.counters.state = "live"  # as the session says on a new link
    assert state_after(1) == "live"
    assert state_after(16) == "stale"


def test_a_venue_without_symbols_has_no_session():
    feed = feed_of("kraken")
    assert feed.sessions == []
    assert feed.flush().ticks.size == 0


def test_topics_are_spread_over_connections():
    """KuCoin takes 300 topics on one, a trade and a quote topic a symbol."""
    natives = {f"C{number}-USDT": f"C{number}-USDT" for number in range(400)}

    async def build():
        many = CollectorConfig(sorted(natives), {"kucoin": natives}, {}, seed=1)
        return VenueFeed("kucoin", many, ReceiveClock(), None)

    feed = run(build())
    assert [len(session.native_of) for session in feed.sessions] == [300, 300, 200]


def test_bybit_s_topics_are_spread_by_their_length_too():
    """All args of a connection together: at most 21,000 characters."""
    natives = {f"LONGESTNAME{number:09}-USDT": f"LONGESTNAME{number:09}USDT" for number in range(600)}

    async def build():
        many = CollectorConfig(sorted(natives), {"bybit": natives}, {}, seed=1)
        return VenueFeed("bybit", many, ReceiveClock(), None)

    feed = run(build())
    assert sum(len(session.natives) for session in feed.sessions) == 600
    assert len(feed.sessions) > 2
    for session in feed.sessions:
        assert len(session.native_of) <= 800
        assert len(json.dumps(list(session.native_of), separators=(",", ":"))) <= 21_000


def test_going_over_to_other_symbols_opens_and_ends_sessions():
    natives = {f"C{number}-USDT": f"C{number}USDT" for number in range(600)}

    async def check():
        many = CollectorConfig(sorted(natives), {"binance": natives}, {}, seed=1)
        feed = VenueFeed("binance", many, ReceiveClock(Wall()), None)
        first, second = feed.sessions
        started, ended = feed.update({s: n for s, n in natives.items() if n in first.natives})
        assert (started, ended, feed.sessions) == ([], [second], [first])
        (started,), ended = feed.update({**natives, "NEW-USDT": "NEWUSDT"})  # not of the run: left out
        assert (ended, feed.sessions) == ([], [first, started])
        assert first.natives | started.natives == set(natives.values())
        return feed

    feed = run(check())
    feed.sessions[0].current.frames = [([trade(1, "C1USDT"), trade(2, "NEWUSDT")], START_NS)]
    assert feed.flush().ticks["trade_id"].tolist() == [b"1"]


def test_holes_of_a_symbol_listed_during_the_run_are_refilled_too(caplog):
    wall = Wall()

    async def check():
        endpoints = {"binance": Endpoint("ws://127.0.0.1:9", "http://127.0.0.1:9")}
        one = CollectorConfig(SYMBOLS, {"binance": {"BTC-USDT": "BTCUSDT"}}, endpoints, seed=1)
        feed = VenueFeed("binance", one, ReceiveClock(wall), None)
        feed.update(NATIVES["binance"])
        feed.sessions[0].current.frames = [([trade(5, "ETHUSDT"), trade(9, "ETHUSDT")], START_NS)]
        feed.flush()
        wall.now_ns += 2_000_000_000
        feed.flush()
        task = asyncio.create_task(feed.holes.run())
        await passing(lambda: task.done() or "a hole is not refilled" in caplog.text)
        assert not task.done()
        task.cancel()

    run(check())


def test_what_is_under_way_of_a_symbol_let_go_is_still_read():
    feed = feed_of()
    run(_update(feed, {"BTC-USDT": "BTCUSDT"}))
    feed.sessions[0].current.frames = [([trade(1, "ETHUSDT")], START_NS)]
    assert feed.flush().ticks["trade_id"].tolist() == [b"1"]
    run(_update(feed, {"BTC-USDT": "BTCUSDT"}))
    feed.sessions[0].current.frames = [([trade(2, "ETHUSDT")], START_NS)]
    assert feed.flush().ticks.size == 0
    assert feed.counters.unknown_symbols == 1


async def _update(feed, natives):
    return feed.update(natives)


def test_connections_of_a_venue_are_merged_in_receive_order():
    natives = {f"C{number}-USDT": f"C{number}USDT" for number in range(600)}

    async def build():
        many = CollectorConfig(sorted(natives), {"binance": natives}, {}, seed=1)
        return VenueFeed("binance", many, ReceiveClock(Wall()), None)

    feed = run(build())
    assert len(feed.sessions) == 2
    feed.sessions[0].current.frames = [([trade(1, "C1USDT")], START_NS + 1), ([trade(3, "C1USDT")], START_NS + 3)]
    feed.sessions[1].current.frames = [([trade(2, "C2USDT")], START_NS + 2)]
    assert feed.flush().ticks["trade_id"].tolist() == [b"1", b"2", b"3"]


def recording_feed(directory, name="binance", natives=None):
    """Return a feed that records."""

    async def build():
        recorder = Recorder(RecordFolder(directory, 64 << 20), name)
        known = {name: natives} if natives else NATIVES
        symbols = sorted(natives) if natives else SYMBOLS
        wanted = CollectorConfig(symbols, known, {}, seed=1)
        return VenueFeed(name, wanted, ReceiveClock(Wall()), None, recorder)

    return run(build())


def recorded(directory, name="binance"):
    """Return (receive time, frame) of all that is on disk."""
    return [
        pair
        for path in sorted((directory / name).iterdir())
        for chunk in read_frames(path)
        for pair in zip((chunk.receive_ns - START_NS).tolist(), chunk.frames, strict=True)
    ]


def test_raw_frames_are_recorded_as_received(tmp_path):
    feed = recording_feed(tmp_path)
    answer = b'{"result":null,"id":1}'
    feed.sessions[0].current.frames = [([trade(1), answer, b"junk"], START_NS + 5), ([trade(2)], START_NS + 9)]
    feed.flush()
    feed.sessions[0].current.frames = [([trade(3)], START_NS + 11)]  # not handed out any more: the worker is gone
    feed.close()
    assert recorded(tmp_path) == [(5, trade(1)), (5, answer), (5, b"junk"), (9, trade(2)), (11, trade(3))]


def test_frames_of_all_connections_are_recorded_in_receive_order(tmp_path):
    feed = recording_feed(tmp_path, natives={f"C{number}-USDT": f"C{number}USDT" for number in range(600)})
    for start in (0, 10):
        feed.sessions[0].current.frames = [([trade(start + number)], START_NS + start + number) for number in (1, 4)]
        feed.sessions[1].current.frames = [([trade(start + number)], START_NS + start + number) for number in (2, 3, 5)]
        feed.flush()
    feed.close()
    assert recorded(tmp_path) == [(number, trade(number)) for number in (1, 2, 3, 4, 5, 11, 12, 13, 14, 15)]


def test_a_recording_is_at_most_a_second_behind(tmp_path):
    feed = recording_feed(tmp_path)
    feed.sessions[0].current.frames = [([trade(1)], START_NS)]
    feed.flush()
    assert not (tmp_path / "binance").exists()
    feed._clock._wall_ns.now_ns += BLOCK_NS + 5_000_000
    feed.flush()
    assert recorded(tmp_path) == [(0, trade(1))]
    feed.close()


@pytest.mark.parametrize("frames", [1, BLOCK_FRAMES])
def test_a_recording_that_cannot_be_written_does_not_stop_the_market(tmp_path, caplog, frames):
    """One line, whether it shows while frames come or at the end."""
    (tmp_path / "binance").write_text("a file, not a folder")
    feed = recording_feed(tmp_path)
    for _ in range(2):
        feed.sessions[0].current.frames = [([trade(1)] * frames, START_NS)]
        assert feed.flush().ticks.size == frames
    feed.close()
    assert len([record for record in caplog.records if record.levelno == logging.ERROR]) == 1


# the whole, in this process


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
    count = 60_000

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

        monkeypatch.setattr(module.VENUES["binance"], "endpoint", broken)
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
