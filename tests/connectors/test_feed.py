import asyncio
import json
import logging
import pickle

import pytest

from connectors.clock import ReceiveClock
from connectors.feed import LATE_NS, REJECT_SAMPLE, STALE_NS, VenueFeed
from connectors.pipe import CollectorConfig, Endpoint, News
from connectors.recorder import BLOCK_FRAMES, BLOCK_NS, Recorder, RecordFolder
from tests.connectors.feeds import NATIVES, SYMBOLS, Wall, check_promises, config, recorded, trade
from tests.connectors.peers import listening, passing, run
from tests.connectors.ticks import START_NS


def feed_of(name="binance", wall=None, **options):
    """Return a feed whose session is not started; frames are put in by hand."""

    async def build():
        return VenueFeed(name, config(**options), ReceiveClock(wall or Wall()), None)

    return run(build())


def test_frames_become_ticks_with_their_receive_times():
    wall = Wall()
    feed = feed_of(wall=wall)
    feed.sessions[0].current.frames = [([trade(1), trade(2, "ETHUSDT")], START_NS + 5), ([trade(3)], START_NS + 9)]
    wall.now_ns = START_NS + 20
    assert feed.waiting_frames == 3
    batch = feed.flush()
    assert feed.waiting_frames == 0
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
    assert len(feed.rejected) == REJECT_SAMPLE
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
        await passing(lambda: task.done() or "its trade history cannot be read" in caplog.text)
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


def test_a_venue_is_live_again_when_all_of_its_connections_are():
    wall = Wall()
    natives = {f"C{number}-USDT": f"C{number}USDT" for number in range(600)}

    async def check():
        many = CollectorConfig(sorted(natives), {"binance": natives}, {}, seed=1)
        feed = VenueFeed("binance", many, ReceiveClock(wall), None)
        first, second = feed.sessions
        shown = []
        for session, state in ((first, "down"), (second, "down"), (second, "live"), (first, "live")):
            session._state(state)
            wall.now_ns += 2_000_000_000
            shown.append(feed.flush().status.state)
        return shown

    assert run(check()) == ["down", "down", "down", "live"]


def test_the_first_trades_of_a_link_do_not_hide_what_was_lost_before_it():
    """Old and new come with one flush: Bybit's ids skip, so the time between them is the hole."""
    sent_ms = iter((1000, 2000, 5000))
    peers = []

    def row():
        at_ms = next(sent_ms)
        return {"i": str(at_ms), "T": at_ms, "p": "1.5", "v": "1", "S": "Buy", "s": "BTCUSDT", "BT": False}

    async def push(peer):
        peers.append(peer)
        request = json.loads(await peer.recv())
        answer = {
            "success": True,
            "ret_msg": "subscribe",
            "conn_id": "1",
            "req_id": request["req_id"],
            "op": "subscribe",
        }
        await peer.send(json.dumps(answer))
        for _ in range(2 if len(peers) == 1 else 1):
            await peer.send(json.dumps({"topic": "publicTrade.BTCUSDT", "ts": 1, "type": "snapshot", "data": [row()]}))
        await peer.wait_closed()

    async def check():
        async with listening(push) as url:
            known = CollectorConfig(SYMBOLS, {"bybit": {"BTC-USDT": "BTCUSDT"}}, {"bybit": Endpoint(url, url)}, seed=1)
            feed = VenueFeed("bybit", known, ReceiveClock(Wall()), None)
            running = asyncio.create_task(feed.sessions[0].run())
            await passing(lambda: feed.counters.messages == 3)
            peers[0].transport.abort()
            await passing(lambda: feed.counters.messages == 5)
            batch = feed.flush()
            feed.holes.give_up()
            gaps = feed.flush().gaps
            running.cancel()
            await asyncio.gather(running, return_exceptions=True)
        return batch.ticks["trade_id"].tolist(), [(gap.from_ns, gap.to_ns) for gap in gaps]

    ids, holes = run(check())
    assert ids == [b"1000", b"2000", b"5000"]
    assert holes == [(2_000_000_000, 5_000_000_000)]


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


def fed(feed, wall, native, number):
    """Return what the feed makes of a trade."""
    feed.sessions[0].current.frames = [([trade(number, native)], wall.now_ns)]
    wall.now_ns += 1_000
    return feed.flush()


def test_a_symbol_that_the_run_lets_go_is_read_for_a_while_and_then_forgotten():
    wall = Wall()

    async def check():
        feed = VenueFeed("binance", config(version=4), ReceiveClock(wall), None)
        assert feed.news() == News(follows=4)
        fed(feed, wall, "ETHUSDT", 1)
        feed.follow(5, ["BTC-USDT", ""])
        assert feed.sessions[0].natives == {"BTCUSDT"}
        feed.update(NATIVES["binance"])  # a list that still has it
        assert feed.sessions[0].natives == {"BTCUSDT"}
        assert fed(feed, wall, "ETHUSDT", 2).ticks["symbol"].tolist() == [1]
        assert feed.news() is None
        wall.now_ns += LATE_NS
        assert fed(feed, wall, "ETHUSDT", 3).ticks.size == 0
        assert feed.news() == News(follows=5)
        assert feed.counters.unknown_symbols == 1
        # Its code's next owner starts with nothing.
        feed.listing.trading["NEW-USDT"] = "NEWUSDT"
        feed.follow(6, ["BTC-USDT", "NEW-USDT"])
        assert feed.news() == News(follows=6)
        assert feed.sessions[0].natives == {"BTCUSDT", "NEWUSDT"}
        batch = fed(feed, wall, "NEWUSDT", 9_000)
        assert batch.ticks["symbol"].tolist() == [1]
        wall.now_ns += 2_000_000_000
        feed.flush()
        assert feed.counters.gaps == 0
        return feed

    run(check())


def test_what_a_venue_lists_is_told_once():
    feed = feed_of()
    feed.news()
    feed.listing.turnover = {"BTC-USDT": 5.0}
    assert feed.news() == News(listed={"BTC-USDT": 5.0})
    assert feed.news() is None


def test_a_thousand_symbols_that_come_and_go_leave_nothing_behind():
    wall = Wall()

    async def check():
        endpoints = {"binance": Endpoint("ws://127.0.0.1:9", "http://127.0.0.1:9")}
        symbols = ["BTC-USDT", "", ""]
        feed = VenueFeed("binance", CollectorConfig(symbols, NATIVES, endpoints, seed=1), ReceiveClock(wall), None)
        sizes = []
        for number in range(1_000):
            name, code = f"C{number}-USDT", 1 + number % 2
            symbols = ["BTC-USDT", *("" if place != code else name for place in (1, 2))]
            feed.listing.trading = {"BTC-USDT": "BTCUSDT", name: f"C{number}USDT"}
            feed.follow(2 * number + 1, symbols)
            assert fed(feed, wall, f"C{number}USDT", 5).ticks["symbol"].tolist() == [code]
            fed(feed, wall, f"C{number}USDT", 9)  # with a hole
            feed.follow(2 * number + 2, ["BTC-USDT", "", ""])
            wall.now_ns += LATE_NS + 1_000
            assert len(feed.flush().gaps) == 1
            assert feed.news().follows == 2 * number + 2
            sizes.append(len(pickle.dumps((state_of(feed), vars(feed.holes._kernel)))))
        assert (feed.counters.gaps, len(feed.sessions)) == (1_000, 1)
        return sizes

    sizes = run(check())
    assert max(sizes[-10:]) <= max(sizes[:100])


def state_of(feed):
    """Return what a feed keeps by symbol, outside of its holes' kernel."""
    backfill, session = feed.holes._backfill, feed.sessions[0]
    return [
        feed._catalog.codes, feed._catalog.natives, feed._due, feed._leaving, feed._codes, feed._symbols,
        backfill._natives, backfill._catalog.codes, backfill.open, session.natives, session.native_of,
        session._refused, session._suspects, session.current.asked_ns, feed._silence.silent.tolist(),
    ]  # fmt: skip
