"""Every fault on every venue, against the simulator's real sockets, by the real collector.

All cells of the matrix run in one go: each venue goes through the faults one after another and begins with another
one, so that at any time seven are in force. A cell's counters must rise by exactly what its own fault costs: what
another venue's fault does to it would show.
"""

import asyncio
from dataclasses import dataclass, replace
from functools import partial

import msgspec
import pytest

from connectors import rest, transport
from connectors.venues import VENUES
from tests.connectors.feeds import config_of
from tests.connectors.hurried import CELL_S, COUNTED, Consumer, Records, follow, hurry
from tests.connectors.peers import passing, run
from tests.simulator.client import Running

NUMBERED = tuple(name for name, venue in VENUES.items() if venue.REFILL.numbered)
PINGED = tuple(name for name, venue in VENUES.items() if venue.HEARTBEAT.ping)
NOTICED = ("binance", "okx")
REST_S = 1.0
LIFE_S = 4.0


@dataclass(frozen=True)
class Case:
    """A fault and what it must cost.

    Attributes:
        order: What is posted.
        then: What is posted after it: a lost link lets a fault of the door be noticed.
        reconnects: How often the venue connects anew, exactly; None is twice or more.
        rejects: Frames rejected, exactly.
        reason: Of the rejects.
        says: What a line of the log says after the venue's name.
        state: What `venue:*` shows meanwhile.
        lasts: Whether it is ended once its effect is there; else it ends by itself.
        venues: Where it makes sense.
    """

    order: dict
    then: str = ""
    reconnects: int | None = 0
    rejects: int = 0
    reason: str = ""
    says: str = ""
    state: str = ""
    lasts: bool = False
    venues: tuple = tuple(VENUES)


def a_case(fault, /, **fields):
    """Return a case; what is no attribute of one is a parameter of the fault."""
    known = {name: fields.pop(name) for name in tuple(fields) if name in Case.__dataclass_fields__}
    return Case(order={"fault": fault, **fields}, **known)


DOOR = {"then": "drop", "reconnects": None, "says": " is down: ", "state": "down", "lasts": True, "for_s": 60}
CASES = {
    "drop": a_case("drop", reconnects=1, says=" is down: "),
    "half_open": a_case("half_open", for_s=60, reconnects=1, says=" is down: no ", lasts=True),
    "refuse_closed": a_case("refuse", mode="closed", **DOOR),
    "refuse_reset": a_case("refuse", mode="reset", **DOOR),
    "refuse_silent": a_case("refuse", mode="silent", **DOOR),
    "http_429": a_case("http_error", status=429, **DOOR),
    "http_418": a_case("http_error", status=418, **DOOR),
    "http_503": a_case("http_error", status=503, **DOOR),
    "no_pong": a_case(
        "no_pong", for_s=60, reconnects=1, says=" is down: no answer to a ping", lasts=True, venues=PINGED
    ),
    "late_pong": a_case("late_pong", for_s=1.5, delay_ms=600),
    "close_noticed": a_case("close", notice_ms=6000, says=": a new connection has taken over", venues=NOTICED),
    "garbage": a_case("garbage", count=6, rejects=6, reason="malformed"),
    "truncated": a_case("truncated", count=2, rejects=2, reason="malformed"),
    "unknown_channel": a_case("unknown_channel", count=2, rejects=2, reason="unknown channel"),
    "wrong_types": a_case("wrong_types", count=2, rejects=2, reason="malformed"),
    "huge_frame": a_case("huge_frame", reconnects=1, says=" is down: "),
    "duplicate": a_case("duplicate", count=5, for_s=60, lasts=True),
    "out_of_order": a_case("out_of_order", for_s=1.0),
    "id_gap": a_case("id_gap", count=5, for_s=60, lasts=True),
    "stall": a_case("stall", for_s=1.6, state="stale", says=" is stale"),
    "clock_step_forward": a_case("clock_step", step_ms=700, for_s=1.0),
    "clock_step_back": a_case("clock_step", step_ms=-700, for_s=1.0),
    "token_expiry": a_case("token_expiry", for_s=0.5, reconnects=None, says=" is down: ", venues=("kucoin",)),
    "close": a_case("close", notice_ms=0, reconnects=1, says=" is down: closed"),
    "delisted": a_case("delisted", for_s=60, says=": 1 symbols do not trade any more: ", lasts=True),
    "slow_read": a_case("slow_read", for_s=1.0),
}
CELLS = [(venue, name) for name, case in CASES.items() for venue in case.venues]


class Matrix:
    """Runs cells and keeps what went wrong, by cell."""

    def __init__(self, consumer, records):
        self.consumer = consumer
        self.records = records
        self.wrong = {}
        self._whole_to = dict.fromkeys(VENUES, 0)

    async def column(self, venue, names):
        """Run a venue's cells one after another."""
        try:
            await asyncio.wait_for(self._traded(venue, 0), CELL_S)
        except TimeoutError:
            self.wrong |= {(venue, name): "the venue never came up" for name in names}
            return
        for name in names:
            cell = Cell(self.consumer, self.records, venue, CASES[name])
            try:
                async with asyncio.timeout(CELL_S):
                    await cell.run()
                    end = await self._traded(venue, len(self.consumer.ledger.rows[venue]))
                    await passing(partial(cell.is_whole, self._whole_to[venue], end), CELL_S)
                self.wrong[venue, name], self._whole_to[venue] = cell.verdict(), end
            except (TimeoutError, AssertionError):
                self.wrong[venue, name] = f"{cell.stage}: {cell.verdict() or 'in vain'}; {cell.lacks[:5]}"
                await asyncio.to_thread(self.consumer.order, venue, fault="clear")
                self._whole_to[venue] = len(self.consumer.ledger.rows[venue])

    async def _traded(self, venue, begin):
        """Wait until every symbol has traded again; return how far the ledger is."""
        rows = self.consumer.ledger.rows[venue]
        await passing(lambda: len({row[0] for row in rows[begin:] if row[4]}) == len(self.consumer.symbols), CELL_S)
        return len(rows)


class Cell:
    """A fault on a venue."""

    def __init__(self, consumer, records, venue, case):
        self.consumer, self.records, self.venue, self.case = consumer, records, venue, case
        self.heard = consumer.heard[venue]
        self.before = replace(self.heard.status)
        self.known_twice = self.heard.kernel._duplicates
        self.begin = len(consumer.ledger.rows[venue])
        self.lines_at = len(records.lines)
        self.states_at = len(self.heard.states) - 1
        self.rejects = case.rejects
        if case.order["fault"] == "unknown_channel" and venue == "binance":
            self.rejects = 0  # its frames say by themselves what they are, whatever the stream is called
        self.lacks = []
        self.stage = "begun"

    async def run(self):
        case, order = self.case, dict(self.case.order)
        if order["fault"] == "delisted":
            order["symbol"] = self.consumer.symbols[-1]
        (line,) = (await asyncio.to_thread(self.consumer.order, self.venue, **order))["faults"]
        if case.then:
            await asyncio.to_thread(self.consumer.order, self.venue, fault=case.then)
        self.stage = "waiting for its effect"
        await passing(self.shows, CELL_S)
        self.stage = "waiting for its end"
        if case.lasts:
            await asyncio.to_thread(self.consumer.order, self.venue, fault="clear")
        elif "for_s" in order:
            await passing(lambda: any(e["number"] == line["number"] for e in self.ends()), CELL_S)
        if order["fault"] == "delisted":
            await passing(lambda: self.said(": 1 symbols trade now: "), CELL_S)
        self.stage = "waiting for what it cost to be made good"

    def ends(self):
        return [line for line in self.consumer.simulator.log() if line["event"] == "end"]

    def rose(self):
        return {name: getattr(self.heard.status, name) - getattr(self.before, name) for name in COUNTED}

    def said(self, words):
        return any(line.startswith(f"{self.venue}{words}") for line in self.records.lines[self.lines_at :])

    def withheld(self):
        rows = self.consumer.ledger.rows[self.venue][self.begin :]
        return [row for row in rows if not row[4]]

    def shows(self):
        """Return whether all that the fault is known by is there."""
        case, rose = self.case, self.rose()
        reconnected = rose["reconnects"] >= (2 if case.reconnects is None else case.reconnects)
        shown = not case.state or case.state in self.heard.states[self.states_at :]
        there = rose["rejects"] >= self.rejects and (not case.says or self.said(case.says))
        match case.order["fault"]:
            case "duplicate":
                there &= self.heard.kernel._duplicates - self.known_twice >= case.order["count"]
            case "id_gap":
                there &= len(self.withheld()) == case.order["count"]
        return reconnected and shown and there

    def is_whole(self, begin, end):
        lacks = self.consumer.lacks(self.venue, end, begin)
        if self.case.order["fault"] == "id_gap" and self.venue not in NUMBERED:
            lacks = [row for row in lacks if row[4]]  # nothing in the stream shows that it left these out
        self.lacks = lacks
        return not lacks and self.heard.status.state == "live"

    def verdict(self):
        """Return what is wrong, "" if nothing is."""
        case, rose = self.case, self.rose()
        expected = dict.fromkeys(COUNTED, 0) | {"rejects": self.rejects, "reconnects": case.reconnects}
        if case.reconnects is None:
            expected["reconnects"] = max(2, rose["reconnects"])
        if case.order["fault"] == "delisted":
            expected["refused"] = rose["refused"]  # a request that was still to be sent
        wrong = [
            f"{name} rose by {rose[name]}, not {expected[name]}" for name in COUNTED if rose[name] != expected[name]
        ]
        if self.rejects and not self.heard.status.last_reject.startswith(f"{case.reason}: "):
            wrong.append(f"rejected as {self.heard.status.last_reject!r}")
        if self.heard.twice:
            wrong.append(f"twice: {self.heard.twice[:5]}")
        if self.heard.late:
            wrong.append(f"{self.heard.late} ticks are later than their receipt")
        return "; ".join(wrong)


@pytest.fixture(scope="module")
def matrix(request, tmp_path_factory):
    """What went wrong in each cell that was selected, "" where nothing did."""
    wanted = {item.callspec.params["cell"] for item in request.session.items if "matrix" in item.fixturenames}
    folder = tmp_path_factory.mktemp("faults")
    options = ("--rate", "700", "--symbols", "3", "--seed", "11", "--ledger", "--wicks-per-minute", "0")
    simulator = Running(folder / "simulator", *options)

    async def check(records):
        config = msgspec.structs.replace(config_of(simulator, folder), refresh_s=0.5)
        async with Consumer(simulator, config) as consumer:
            matrix, following = Matrix(consumer, records), asyncio.create_task(follow(consumer.ledger))
            venues = {venue for venue, _ in wanted}
            await asyncio.gather(*(matrix.column(venue, turned(venue, wanted)) for venue in venues))
            following.cancel()
            return matrix.wrong

    with pytest.MonkeyPatch.context() as monkeypatch, Records() as records:
        hurry(monkeypatch)
        monkeypatch.setattr(rest, "TIMEOUT_S", REST_S)
        monkeypatch.setattr(transport, "OPEN_TIMEOUT_S", REST_S)
        yield run(check(records))
        assert simulator.end() == 0


def turned(venue, wanted):
    """Return a venue's cells, begun elsewhere than those of the others."""
    names = [name for name in CASES if (venue, name) in wanted]
    turn = len(names) * list(VENUES).index(venue) // len(VENUES)
    return names[turn:] + names[:turn]


@pytest.mark.timeout(600)
@pytest.mark.parametrize("cell", CELLS, ids=["-".join(cell) for cell in CELLS])
def test_a_fault_costs_what_it_must_and_no_trade(matrix, cell):
    assert matrix[cell] == ""


def test_venues_that_close_a_connection_every_day_are_left_before(start_simulator, tmp_path, monkeypatch):
    """A day lasts LIFE_S here. No link is ever lost, and no trade is missing or there twice."""
    days = tuple(name for name, venue in VENUES.items() if venue.LIMITS.connection_life_s)
    options = ("--rate", "300", "--symbols", "3", "--ledger", "--venues", ",".join(days), "--wicks-per-minute", "0")
    simulator = start_simulator(*options)
    config = config_of(simulator, tmp_path, days)
    hurry(monkeypatch)
    for name in days:
        monkeypatch.setattr(VENUES[name], "LIMITS", replace(VENUES[name].LIMITS, connection_life_s=LIFE_S))

    async def check():
        with Records() as records:
            async with Consumer(simulator, config) as consumer:
                replaced = lambda name: records.lines.count(f"{name}: a new connection has taken over")  # noqa: E731
                await passing(lambda: all(replaced(name) >= 2 for name in days), 10 * LIFE_S)
            consumer.ledger.read()
            return consumer

    consumer = run(check())
    assert days
    for name in days:
        assert consumer.heard[name].status.reconnects == 0
        assert consumer.heard[name].twice == []
        assert len(consumer.ledger.rows[name]) > 50
        assert consumer.lacks(name, None) == []


def test_a_link_that_fell_silent_before_its_successor_was_there_leaves_no_hole(start_simulator, tmp_path, monkeypatch):
    """Where ids prove nothing, the successor's trades must not hide what the old link did not deliver any more."""
    names = ("bitget", "kucoin")
    options = ("--rate", "300", "--symbols", "3", "--ledger", "--venues", ",".join(names), "--wicks-per-minute", "0")
    simulator = start_simulator(*options)
    config = config_of(simulator, tmp_path, names)
    hurry(monkeypatch)

    async def check():
        with Records() as records:
            async with Consumer(simulator, config) as consumer:
                following = asyncio.create_task(follow(consumer.ledger))
                await asyncio.gather(*(left(consumer, records, name) for name in names))
                following.cancel()

    async def left(consumer, records, name):
        rows, symbols = consumer.ledger.rows[name], len(consumer.symbols)
        await passing(lambda: len({row[0] for row in rows if row[4]}) == symbols)
        await asyncio.to_thread(consumer.order, name, fault="half_open")
        await passing(lambda: sum(not row[4] for row in rows) > 5)
        (session,) = consumer.collector._feeds[name].sessions
        session._replace_s = asyncio.get_running_loop().time()  # its planned end is now
        await passing(lambda: f"{name}: a new connection has taken over" in records.lines)
        end = len(rows)
        await passing(lambda: len({row[0] for row in rows[end:] if row[4]}) == symbols)
        await passing(lambda: not consumer.lacks(name, end))
        assert consumer.heard[name].twice == []

    run(check())
