import asyncio
import json
import random
import time
from dataclasses import replace
from urllib.parse import parse_qs, urlsplit
from urllib.request import Request, urlopen

import numpy as np
import pytest

from connectors import backfill as module
from connectors import rest
from connectors.backfill import Backfill
from connectors.clock import ReceiveClock
from connectors.pipe import Serve, Stop
from connectors.route import rebase
from connectors.venue import Catalog, Hole
from connectors.venues import VENUES
from market.schema import BACKFILL, TRADE, join
from tests.connectors.feeds import check_promises, config_of
from tests.connectors.peers import passing, run, talking
from tests.connectors.test_collector import Reader

NATIVES = {"BTC-USDT": "BTCUSDT", "ETH-USDT": "ETHUSDT"}
CATALOG = Catalog(NATIVES, {"BTC-USDT": 0, "ETH-USDT": 1})
NUMBERED = ("binance", "okx", "kraken", "gateio")


def a_refill(venue="binance", catalog=CATALOG, base=None):
    return Backfill(VENUES[venue], catalog, clock=ReceiveClock(), rng=random.Random(1), base=base)


async def refilled(refill, *holes, gaps=None):
    """Return the ticks and gaps that come of holes, once there is a gap for each."""
    task = asyncio.create_task(refill.run())
    parts, found = [], []

    def all_there():
        ticks, more = refill.take()
        parts.extend(ticks)
        found.extend(more)
        return len(found) == (gaps or len(holes))

    for hole in holes:
        refill.ask(hole)
    await passing(all_there)
    task.cancel()
    return join(parts) if parts else None, found


# against the simulator


def history_of(simulator, name, native, catalog):
    """Return all that REST has of a symbol, oldest first, and its numbers."""
    venue = VENUES[name]
    wide = Hole(0, 10**15, time.time_ns(), 1, 2**62)
    path = venue.trades_path(native, wide, 0, None)
    got = venue.trades(rest.call(rebase(venue.REST_URL, simulator.endpoints[name]["rest"], path)), native, 7, catalog)
    assert got.rejects == []
    order = np.argsort(module.numbers_of(got))
    return got.ticks[order], module.numbers_of(got)[order]


@pytest.mark.parametrize("name", VENUES)
def test_a_hole_is_filled_with_exactly_what_is_missing(quiet_simulator, tmp_path, name):
    config = config_of(quiet_simulator, tmp_path, (name,), "top:3")
    codes = {symbol: code for code, symbol in enumerate(config.symbols)}
    catalog = Catalog(config.natives[name], codes)
    native = catalog.natives[config.symbols[1]]
    old, numbers = history_of(quiet_simulator, name, native, catalog)
    refill = a_refill(name, catalog, quiet_simulator.endpoints[name]["rest"])
    first, last = len(old) - 25, len(old) - 8
    hole = Hole(1, int(old["exchange_ns"][first]), int(old["exchange_ns"][last]))
    if name in NUMBERED:
        hole = Hole(1, hole.from_ns, hole.to_ns, int(numbers[first]), int(numbers[last]))
    before_ns = time.time_ns()
    ticks, (gap,) = run(refilled(refill, hole))
    assert (gap.symbol, gap.missing, gap.filled) == (1, 0, True)
    assert (gap.from_ns, gap.to_ns) == (hole.from_ns, hole.to_ns)
    missing = old[first + 1 : last]
    got = set(ticks["trade_id"].tolist())
    # Where only time tells, its two ends come too; they are known, and dropped as duplicates.
    beside = set() if name in NUMBERED else {old["trade_id"][first], old["trade_id"][last]}
    assert set(missing["trade_id"].tolist()) <= got
    assert name not in NUMBERED or got == set(missing["trade_id"].tolist()) | beside
    assert len(got) == ticks.size
    assert (np.diff(ticks["exchange_ns"]) >= 0).all()
    assert (ticks["flags"] & BACKFILL == BACKFILL).all()
    assert (ticks["receive_ns"] > before_ns).all()
    assert (ticks["kind"] == TRADE).all()


@pytest.mark.parametrize("name", ["bybit", "kucoin"])
def test_a_hole_longer_than_the_reach_is_a_gap_up_to_the_oldest_trade_there_is(
    quiet_simulator, tmp_path, monkeypatch, name
):
    """Its history is one page, of 60 trades or 100; the simulator is too young for that many."""
    monkeypatch.setattr(VENUES[name], "REFILL", replace(VENUES[name].REFILL, page_rows=40))
    config = config_of(quiet_simulator, tmp_path, (name,), "top:3")
    catalog = Catalog(config.natives[name], {symbol: code for code, symbol in enumerate(config.symbols)})
    old, _ = history_of(quiet_simulator, name, catalog.natives[config.symbols[1]], catalog)
    oldest_ns, newest_ns = int(old["exchange_ns"][0]), int(old["exchange_ns"][-1])
    hole = Hole(1, oldest_ns - 1_000_000_000, newest_ns)
    refill = a_refill(name, catalog, quiet_simulator.endpoints[name]["rest"])
    ticks, (gap,) = run(refilled(refill, hole))
    assert (gap.filled, gap.from_ns, gap.to_ns) == (False, hole.from_ns, oldest_ns)
    assert set(ticks["trade_id"].tolist()) == set(old["trade_id"].tolist())


@pytest.mark.parametrize("pages", ["one page", "many"])
@pytest.mark.parametrize("name", VENUES)
def test_a_symbol_that_had_no_trade_is_looked_up_from_when_it_was_followed(
    quiet_simulator, tmp_path, monkeypatch, name, pages
):
    """No number is known before the hole: its begin is a time between two trades."""
    config = config_of(quiet_simulator, tmp_path, (name,), "top:3")
    codes = {symbol: code for code, symbol in enumerate(config.symbols)}
    catalog = Catalog(config.natives[name], codes)
    native = catalog.natives[config.symbols[2]]
    old, numbers = history_of(quiet_simulator, name, native, catalog)
    if pages == "many" and VENUES[name].REFILL.pages > 1:
        monkeypatch.setattr(VENUES[name], "REFILL", replace(VENUES[name].REFILL, page_rows=7))
    refill = a_refill(name, catalog, quiet_simulator.endpoints[name]["rest"])
    first, last = len(old) - 25, len(old) - 12
    since_ns = int(old["exchange_ns"][first - 1 : first + 1].mean())
    hole = Hole(2, since_ns, int(old["exchange_ns"][last]), 0, int(numbers[last]) if name in NUMBERED else 0)
    ticks, (gap,) = run(refilled(refill, hole))
    assert (gap.missing, gap.filled, gap.from_ns, gap.to_ns) == (0, True, hole.from_ns, hole.to_ns)
    ends = numbers < numbers[last] if name in NUMBERED else old["exchange_ns"] <= hole.to_ns
    missing = set(old["trade_id"][(old["exchange_ns"] >= since_ns) & ends].tolist())
    got = set(ticks["trade_id"].tolist())
    assert missing <= got
    # Where stamps of the history are cut, what is of the begin's unit comes too.
    assert got == missing or VENUES[name].REFILL.coarse_ns > 1


def test_what_was_handed_out_with_the_last_trade_before_a_hole_is_not_given_again():
    """It may be longer ago than ids are remembered. Several trades share a stamp, and only the newer ids are new."""
    found = module.Found(
        Hole(0, 1_790_000_000_012_000_000, 10**19 // 5, 12), VENUES["bybit"].REFILL, random.Random(1), 0
    )
    fills = [
        {"execId": str(number), "symbol": "BTCUSDT", "price": "1", "size": "1", "side": "Buy", "time": str(stamp)}
        for number, stamp in [(15, 1790000000013), (14, 1790000000012), (12, 1790000000012), (11, 1790000000012)]
    ]
    body = json.dumps({"retCode": 0, "retMsg": "OK", "result": {"category": "spot", "list": fills}}).encode()
    found.add(VENUES["bybit"].trades(body, "BTCUSDT", 7, CATALOG))
    assert found.ticks()["trade_id"].tolist() == [b"14", b"15"]


def order(simulator, venue, **fault):
    request = Request(f"{simulator.endpoints[venue]['rest']}/sim/fault", data=json.dumps(fault).encode())
    with urlopen(request, timeout=5) as reply:
        return json.load(reply)


def ledger_of(simulator, symbols):
    """Return venue -> {(symbol, trade id)} of all trades that were owed to a client."""
    ledger = {}
    for line in (simulator.folder / "trades.csv").read_text().splitlines()[1:]:
        venue, symbol, trade_id, *_ = line.split(",")
        if symbol in symbols:
            ledger.setdefault(venue, []).append((symbol, int(trade_id)))
    return ledger


def test_trades_withheld_and_links_lost_leave_no_hole(start_simulator, tmp_path):
    """The whole collector: what the WebSocket never brought comes over REST, in receive order, each trade once."""
    simulator = start_simulator("--rate", "1500", "--symbols", "8", "--seed", "5", "--ledger")
    config = config_of(simulator, tmp_path, tuple(VENUES), "top:4")

    async def check():
        reader = Reader()
        await reader.say(config, *[Serve(name) for name in VENUES])
        rows = lambda: sum(batch.ticks.size for batch in reader.batches)  # noqa: E731

        async def until(condition):
            deadline_s = time.monotonic() + 20
            while not condition():
                assert time.monotonic() < deadline_s
                await reader.read()

        await until(lambda: rows() > 3_000)
        for name in VENUES:
            fault = {"fault": "id_gap", "count": 8} if name in NUMBERED else {"fault": "drop"}
            await asyncio.to_thread(order, simulator, name, **fault)
        gaps = lambda: {gap.venue for batch in reader.batches for gap in batch.gaps}  # noqa: E731
        await until(lambda: len(gaps()) == len(VENUES))
        enough = rows() + 4_000
        await until(lambda: rows() > enough)
        await reader.say(Stop())
        await reader.read_to_the_end()
        return reader.batches

    batches = run(check())
    assert simulator.end() == 0
    ledger = ledger_of(simulator, set(config.symbols))
    for code, name in enumerate(VENUES):
        mine = [batch for batch in batches if batch.venue == code]
        check_promises(name, mine)
        ticks = join([batch.ticks for batch in mine])
        ticks = ticks[ticks["kind"] == TRADE]
        assert (ticks["flags"] & BACKFILL).any()
        got, given_up = {}, set()
        for symbol, trade_id in zip(ticks["symbol"].tolist(), ticks["trade_id"].tolist(), strict=True):
            got.setdefault(config.symbols[symbol], set()).add(int(trade_id))
        for gap in [gap for batch in mine for gap in batch.gaps if not gap.filled]:
            given_up.add(config.symbols[gap.symbol])  # still open at the end
        lost = [
            (symbol, trade_id)
            for symbol, trade_id in ledger[name]
            if symbol in got and symbol not in given_up
            if min(got[symbol]) <= trade_id <= max(got[symbol]) and trade_id not in got[symbol]
        ]
        assert lost == [], name
        assert len(given_up) < len(got)


# against a hand-made REST


class Rest:
    """Binance's historicalTrades, by a script: an answer is a status, 0 for none at all, or the ids it has."""

    def __init__(self, *script):
        self.script = list(script)
        self.asked = []

    async def __call__(self, reader, writer):
        line = (await reader.readuntil(b"\r\n\r\n")).split(b" ")[1].decode()
        query = {key: values[0] for key, values in parse_qs(urlsplit(line).query).items()}
        self.asked.append((time.monotonic(), query["symbol"], int(query["fromId"])))
        answer = self.script.pop(0) if len(self.script) > 1 else self.script[0]
        if answer == 0:
            return
        status, headers, body = 200, "", "{}"
        if isinstance(answer, int):
            status, headers = answer, "Retry-After: 1\r\n"
        elif answer is not None:
            first, limit = int(query["fromId"]), int(query["limit"])
            body = json.dumps([self.fill(number) for number in answer if number >= first][:limit])
        text = f"HTTP/1.1 {status} X\r\n{headers}Content-Length: {len(body)}\r\nConnection: close\r\n\r\n{body}"
        writer.write(text.encode())
        await writer.drain()

    def fill(self, number):
        when = {"time": 1_790_000_000_000 + number, "isBuyerMaker": False, "isBestMatch": True}
        return {"id": number, "price": "1.5", "qty": "2.0", "quoteQty": "3.0", **when}


HOLE = Hole(0, 1, 2, 10, 20)


@pytest.fixture
def hasty(monkeypatch):
    """Waits between attempts of some milliseconds."""
    monkeypatch.setattr(module, "FIRST_WAIT_S", 0.01)
    monkeypatch.setattr(module, "CAP_S", 0.02)


def scripted(*script, holes=(HOLE,)):
    async def check():
        peer = Rest(*script)
        async with asyncio.timeout(20):
            async for port in _serving(peer):
                ticks, gaps = await refilled(a_refill(base=f"http://127.0.0.1:{port}"), *holes)
        return [] if ticks is None else [int(number) for number in ticks["trade_id"].tolist()], gaps, peer.asked

    return run(check())


async def _serving(peer):
    async with talking(peer) as port:
        yield port


def test_pages_are_read_to_the_hole_s_end(hasty, monkeypatch):
    monkeypatch.setattr(VENUES["binance"], "REFILL", module.Refill(True, 10, 1.0, 4, 10))
    ids, (gap,), asked = scripted(range(1, 100))
    assert ids == list(range(11, 20))
    assert [first for _, _, first in asked] == [11, 15, 19]
    assert gap.filled


def test_a_venue_that_has_had_enough_is_left_alone_for_as_long_as_it_says(hasty):
    ids, (gap,), asked = scripted(429, range(1, 100))
    assert ids == list(range(11, 20))
    assert gap.filled
    assert asked[1][0] - asked[0][0] >= 1.0


def test_an_outage_is_waited_out_and_costs_no_hole(hasty):
    ids, gaps, asked = scripted(*[0] * (module.ATTEMPTS + 1), range(1, 100), holes=(HOLE, Hole(1, 1, 2, 10, 20)))
    assert sorted(ids) == sorted([*range(11, 20)] * 2)
    assert [gap.filled for gap in gaps] == [True, True]
    assert len(asked) == module.ATTEMPTS + 3


def test_an_outage_that_does_not_end_makes_gaps(hasty, monkeypatch):
    monkeypatch.setattr(module, "OUTAGE_NS", 200_000_000)
    ids, (gap,), asked = scripted(0)
    assert (ids, gap.filled, gap.missing) == ([], False, 9)
    assert asked[-1][0] - asked[0][0] >= 0.2


def test_history_that_is_behind_is_asked_again(hasty):
    ids, (gap,), _ = scripted(range(1, 15), range(1, 16), range(1, 100))
    assert ids == list(range(11, 20))
    assert gap.filled


def test_what_stays_missing_is_a_gap_and_the_rest_is_given(hasty):
    ids, (gap,), asked = scripted([*range(1, 14), *range(16, 100)])
    assert ids == [11, 12, 13, 16, 17, 18, 19]
    assert (gap.missing, gap.filled, gap.from_ns, gap.to_ns) == (2, False, 1, 2)
    assert len({at for at, *_ in asked}) >= module.ATTEMPTS


@pytest.mark.parametrize("answer", [400, None], ids=["refused", "another shape"])
def test_what_asking_again_cannot_change_is_a_gap_at_once(hasty, answer):
    ids, (gap,), asked = scripted(answer)
    assert ids == []
    assert (gap.missing, gap.filled) == (9, False)
    assert len(asked) == 1


def test_a_hole_that_waits_holds_no_other_up(monkeypatch):
    monkeypatch.setattr(module, "FIRST_WAIT_S", 1.0)
    other = Hole(1, 1, 2, 30, 40)
    _, gaps, _ = scripted([], range(1, 100), holes=(HOLE, other))
    assert [gap.symbol for gap in gaps] == [1, 0]
    assert all(gap.filled for gap in gaps)


@pytest.mark.parametrize("before_it_is_read", [True, False])
def test_what_came_late_after_all_is_not_given_again(before_it_is_read):
    """The history lists one by one what came joined, so ids would not tell."""

    async def check():
        peer = Rest(range(1, 30))
        async with talking(peer) as port:
            refill = a_refill(base=f"http://127.0.0.1:{port}")
            refill.ask(HOLE)
            refill.ask(Hole(1, 1, 2, 10, 20))
            if not before_it_is_read:
                await refill._read(refill._waiting[0])
            refill.came(0, 12, 14)
            return await refilled(refill, gaps=2)

    ticks, gaps = run(check())
    numbers = [(row["symbol"], int(row["trade_id"])) for row in ticks]
    assert sorted(number for symbol, number in numbers if symbol == 0) == [11, 15, 16, 17, 18, 19]
    assert sum(symbol for symbol, _ in numbers) == 9
    assert all(gap.filled for gap in gaps)


def test_a_hole_whose_trades_all_came_late_is_filled():
    ticks, (gap,) = run(_all_late())
    assert (ticks, gap.filled, gap.missing) == (None, True, 0)


async def _all_late():
    async with talking(Rest(range(1, 30))) as port:
        refill = a_refill(base=f"http://127.0.0.1:{port}")
        refill.ask(HOLE)
        refill.came(0, 9, 25)
        return await refilled(refill, gaps=1)


def test_what_is_too_much_is_given_up_at_once(monkeypatch):
    monkeypatch.setattr(module, "MOST_HOLES", 2)

    async def check():
        refill = a_refill()
        refill.ask(Hole(0, 1, 2, 1, module.MOST_TRADES + 10))
        for _ in range(3):
            refill.ask(HOLE)
        return refill.take()[1]

    gaps = run(check())
    assert [gap.missing for gap in gaps] == [module.MOST_TRADES + 8, 9]
    assert not any(gap.filled for gap in gaps)


def test_holes_left_at_the_end_are_gaps():
    async def check():
        refill = a_refill()
        refill.ask(HOLE)
        refill.abandon()
        return refill.take(), refill.take()

    (ticks, gaps), nothing = run(check())
    assert (ticks, [gap.missing for gap in gaps], nothing) == ([], [9], ([], []))


def test_holes_of_a_symbol_let_go_are_gaps_at_once_and_the_others_go_on():
    """Also one that is being read."""
    peer = Rest([], range(1, 100))

    async def check():
        async with asyncio.timeout(20), talking(peer) as port:
            refill = a_refill(base=f"http://127.0.0.1:{port}")
            refill.ask(HOLE)
            refill.ask(Hole(1, 1, 2, 30, 40))
            running = asyncio.create_task(refill.run())
            await passing(lambda: peer.asked)
            refill.forget({0})
            gaps = []
            await passing(lambda: gaps.extend(refill.take()[1]) or len(gaps) == 2)
            assert not running.done()
            running.cancel()
            return gaps, refill

    gaps, refill = run(check())
    assert {(gap.symbol, gap.missing, gap.filled) for gap in gaps} == {(0, 9, False), (1, 0, True)}
    assert (refill.open, set(refill._natives), len(refill._catalog.codes)) == ([], {1}, 1)
