import asyncio
import json

import pytest

from connectors.pipe import Endpoint
from connectors.relisting import Relisting
from connectors.retry import BANNED_S
from tests.connectors.peers import run, talking

NATIVES = {"A-USDT": "AUSDT", "B-USDT": "BUSDT"}


class Rest:
    """A venue's REST that answers as it is told."""

    def __init__(self):
        self.listed = {"A": "TRADING", "B": "TRADING"}
        self.volumes = {"A": 5.0, "B": 7.0}
        self.status, self.header = {}, ""

    async def __call__(self, reader, writer):
        path = (await reader.readuntil(b"\r\n\r\n")).split()[1].decode()
        what = "volumes" if "ticker" in path else "list"
        status = self.status.get(what, 200)
        body = json.dumps(self.answer(what)).encode()
        head = f"HTTP/1.1 {status} Said\r\nContent-Length: {len(body)}\r\n{self.header}\r\n"
        writer.write(head.encode() + body)
        await writer.drain()

    def answer(self, what):
        if what == "volumes":
            return [{"symbol": f"{base}USDT", "quoteVolume": str(volume)} for base, volume in self.volumes.items()]
        rows = [
            {"symbol": f"{base}USDT", "status": status, "baseAsset": base, "quoteAsset": "USDT"}
            for base, status in self.listed.items()
        ]
        return {"symbols": rows}


def play(act, **options):
    async def check():
        rest = Rest()
        async with asyncio.timeout(20), talking(rest) as port:
            at = Endpoint("ws://127.0.0.1:9", f"http://127.0.0.1:{port}")
            await act(rest, Relisting("binance", NATIVES, endpoint=at, **options))

    run(check())


def test_what_trades_now_and_with_what_turnover():
    async def act(rest, listing):
        assert (listing.trading, listing.turnover) == (NATIVES, None)
        rest.listed["C"], rest.volumes["C"] = "TRADING", 9.0
        rest.listed["B"] = "BREAK"
        assert await listing.read() == {"A-USDT": "AUSDT", "C-USDT": "CUSDT"}
        assert listing.turnover == {"A-USDT": 5.0, "B-USDT": 7.0, "C-USDT": 9.0}, "halted is listed all the same"

    play(act, ranks=True)


def test_turnovers_are_asked_for_only_where_they_are_wanted():
    async def act(rest, listing):
        rest.status["volumes"] = 500
        assert await listing.read() == NATIVES
        assert listing.turnover is None

    play(act)


def test_one_list_without_a_pair_is_no_proof():
    async def act(rest, listing):
        del rest.listed["B"]
        assert await listing.read() == NATIVES
        assert await listing.read() == {"A-USDT": "AUSDT"}

    play(act)


@pytest.mark.parametrize("fault", ["empty", "refused", "rubbish"])
def test_a_list_that_fails_changes_nothing_and_is_named_once(caplog, fault):
    async def act(rest, listing):
        assert await listing.read() == NATIVES
        if fault == "empty":
            rest.listed = {}
        elif fault == "refused":
            rest.status["list"] = 429
        else:
            rest.answer = lambda what: ["?"]
        for _ in range(4):
            assert await listing.read() is None
            assert listing.trading == NATIVES
        assert listing.hold_s == (BANNED_S if fault == "refused" else 0.0)

    play(act, ranks=True)
    assert caplog.text.count("binance: its list cannot be read") == 1


def test_a_venue_that_wants_to_be_left_alone_is():
    async def act(rest, listing):
        rest.status["list"], rest.header = 418, "Retry-After: 17\r\n"
        assert await listing.read() is None
        assert listing.hold_s == 17.0
        rest.status.clear()
        await listing.read()
        assert listing.hold_s == 0.0

    play(act)


def test_halts_are_followed_although_the_turnovers_fail(caplog):
    async def act(rest, listing):
        rest.status["volumes"] = 503
        rest.listed["B"] = "BREAK"
        assert await listing.read() == {"A-USDT": "AUSDT"}
        assert listing.turnover is None

    play(act, ranks=True)
    assert "its list cannot be read (HTTP 503)" in caplog.text
