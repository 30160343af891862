"""The roster: a symbol's way in and out, and that no step of it is taken early."""

import threading

import pytest

from connectors import roster as module
from connectors.roster import REUSE_S, Roster
from market.symbols import SymbolTable, key_group

VENUES = ("okx", "bybit")
SAME = [name for name in (f"C{number:03}-USDT" for number in range(400)) if key_group(name) == 2]
FIRST, SECOND, THIRD = SAME[:3]


class Clock:
    now_s = 1000.0

    def __call__(self):
        return self.now_s


@pytest.fixture
def clock():
    return Clock()


def listing(*symbols):
    return {symbol: 1e6 - place for place, symbol in enumerate(symbols)}


def rounds(roster, *symbols, count=2):
    """Give whole rounds of lists, the same at all venues."""
    for _ in range(count):
        for venue in VENUES:
            roster.listed(venue, listing(*symbols))


def follow(roster, watermark_ns=100, venues=VENUES):
    """Let collectors follow what there is to follow."""
    for place, venue in enumerate(venues):
        roster.followed(venue, roster.names()[0], watermark_ns + place)


def test_a_new_listing_gets_a_code_once_it_has_lasted(clock):
    table = SymbolTable([FIRST], spare=1)
    roster = Roster(table, VENUES, top=2, listed={"okx": listing(FIRST)}, clock=clock)
    roster.listed("okx", listing(FIRST, SECOND))
    roster.listed("bybit", listing(FIRST, SECOND))
    assert roster.version == 0
    rounds(roster, FIRST, SECOND, count=1)
    version, names = roster.names()
    assert version == 1
    assert names[table.codes[SECOND]] == SECOND
    assert key_group(SECOND) == table.groups[table.codes[SECOND]]


def test_a_round_ends_although_a_venue_gives_no_list(clock):
    roster = Roster(SymbolTable([FIRST], spare=1), VENUES, top=2, listed={"bybit": listing(FIRST, SECOND)}, clock=clock)
    for _ in range(3):
        roster.listed("okx", listing(FIRST, SECOND))
    assert roster.version == 0
    roster.listed("okx", listing(FIRST, SECOND))
    assert SECOND in roster.names()[1]


def test_who_leaves_is_told_only_when_no_venue_can_have_more_of_it(clock):
    table = SymbolTable([FIRST, SECOND])
    roster = Roster(table, VENUES, top=2, clock=clock)
    follow(roster, 50)
    rounds(roster, FIRST, count=1)
    version, names = roster.names()
    assert (version, names) == (1, [FIRST, ""])
    assert table.names == [FIRST, SECOND], "what is under way still has its name"
    assert roster.let_go(10**18) == []
    roster.followed("okx", 1, 200)
    roster.followed("bybit", 0, 900)
    assert roster.let_go(10**18) == []
    roster.followed("bybit", 1, 300)
    assert roster.let_go(299) == []
    assert roster.let_go(300) == [1]
    assert roster.let_go(10**18) == [], "once"


def test_its_code_is_free_a_good_while_later_and_then_another_s(clock):
    table = SymbolTable([FIRST, SECOND])
    roster = Roster(table, VENUES, top=2, clock=clock)
    follow(roster)
    rounds(roster, FIRST, THIRD)  # SECOND is gone, THIRD finds no room
    follow(roster)
    assert roster.let_go(10**18) == [1]
    clock.now_s += REUSE_S - 1
    rounds(roster, FIRST, THIRD)
    assert table.names == [FIRST, SECOND]
    clock.now_s += 1
    rounds(roster, FIRST, THIRD, count=1)
    assert table.names == [FIRST, THIRD]
    assert table.codes == {FIRST: 0, THIRD: 1}
    assert roster.names()[1] == [FIRST, THIRD]


def test_who_comes_back_while_it_leaves_has_to_wait_for_its_code_to_be_free(clock):
    table = SymbolTable([FIRST, SECOND], spare=1)
    roster = Roster(table, VENUES, top=2, clock=clock)
    rounds(roster, FIRST, count=1)
    rounds(roster, FIRST, SECOND, count=4)
    assert roster.names()[1].count(SECOND) == 0
    follow(roster)
    roster.let_go(10**18)
    clock.now_s += REUSE_S
    rounds(roster, FIRST, SECOND, count=1)
    assert roster.names()[1].count(SECOND) == 1
    assert table.codes[SECOND] not in (0, 1), "the code that was free for longest"


def test_who_is_behind_makes_room_for_who_is_among_the_first(clock, caplog):
    caplog.set_level("INFO")
    table = SymbolTable([FIRST, SECOND])
    roster = Roster(table, VENUES, top=2, clock=clock)
    rounds(roster, FIRST, THIRD, SECOND, count=3)
    assert roster.names()[1] == [FIRST, ""]
    assert f"1 symbols are let go: {SECOND}" in caplog.text
    follow(roster)
    roster.let_go(10**18)
    clock.now_s += REUSE_S
    rounds(roster, FIRST, THIRD, SECOND, count=1)
    assert roster.names()[1] == [FIRST, THIRD]


def test_without_anybody_behind_the_newcomer_waits_and_is_named_once(clock, caplog):
    roster = Roster(SymbolTable([FIRST, SECOND]), VENUES, top=3, clock=clock)
    rounds(roster, FIRST, SECOND, THIRD, count=5)
    assert roster.version == 0
    assert caplog.text.count(f"no code is free in the key group of {THIRD}: it waits") == 1


def test_a_list_that_fails_everywhere_changes_nothing(clock):
    roster = Roster(SymbolTable([FIRST]), VENUES, top=2, listed={v: listing(FIRST) for v in VENUES}, clock=clock)
    clock.now_s += 10**6
    assert roster.names() == (0, [FIRST])


def test_fixed_symbols_stay_whatever_is_listed(clock):
    roster = Roster(SymbolTable([FIRST]), VENUES, clock=clock)
    rounds(roster, SECOND, count=5)
    assert roster.names() == (0, [FIRST])
    follow(roster)
    assert roster.let_go(10**18) == []


def test_what_was_leaving_in_an_earlier_run_is_told_again(clock):
    table = SymbolTable([FIRST, SECOND])
    roster = Roster(table, VENUES, top=2, leaving=[1], clock=clock)
    assert roster.names() == (0, [FIRST, ""])
    follow(roster, 70)
    assert roster.let_go(71) == [1]
    clock.now_s += REUSE_S
    rounds(roster, FIRST, count=1)
    assert table.names == [FIRST, ""]


def test_every_change_is_saved_before_collectors_can_see_it(clock):
    saved, seen = [], []

    def save(table, leaving):
        seen.append(roster_version())
        saved.append((list(table.names), leaving))

    holder = []
    roster_version = lambda: holder[0].version if holder else -1  # noqa: E731
    holder.append(Roster(SymbolTable([FIRST, SECOND]), VENUES, top=2, save=save, clock=clock))
    roster = holder[0]
    rounds(roster, FIRST, count=1)
    follow(roster)
    roster.let_go(10**18)
    clock.now_s += REUSE_S
    rounds(roster, FIRST, count=1)
    assert saved == [([FIRST, SECOND], []), ([FIRST, SECOND], [1]), ([FIRST, ""], [])]
    assert seen == [-1, 0, 1]


def test_a_change_that_cannot_be_saved_waits(clock, caplog):
    full = [True]

    def save(table, leaving):
        if full[0]:
            raise OSError(28, "No space left on device")

    roster = Roster(SymbolTable([FIRST, SECOND]), VENUES, top=2, save=save, clock=clock)
    rounds(roster, FIRST, count=3)
    assert roster.version == 0
    assert "codes cannot be saved: [Errno 28] No space left on device" in caplog.text
    full[0] = False
    rounds(roster, FIRST, count=1)
    assert roster.names() == (1, [FIRST, ""])
    follow(roster, 10)
    assert roster.let_go(11) == [1]


def test_a_thousand_listings_and_delistings_leave_it_as_it_was(clock):
    """Each code has had hundreds of owners in the end, one at a time."""
    names = [f"N{number}-USDT" for number in range(1_000)]
    table = SymbolTable([FIRST], spare=2)
    roster = Roster(table, VENUES, top=4, clock=clock)
    follow(roster)
    told = set()
    for number, name in enumerate(names):
        rounds(roster, FIRST, name)
        assert roster.names()[1].count(name) == 1
        follow(roster, 1000 * number)
        rounds(roster, FIRST, count=1)
        follow(roster, 1000 * number + 500)
        (code,) = roster.let_go(1000 * number + 501)
        assert table.names[code] == name
        told.add(code)
        clock.now_s += REUSE_S
    rounds(roster, FIRST, count=1)
    assert len(table.codes) == 1
    assert len(told) == 2 * 8
    assert (roster._leaving, roster._ready, len(roster._followed), len(roster._lists)) == ({}, [], 2, 2)


def test_threads_may_use_it_together(monkeypatch):
    monkeypatch.setattr(module, "REUSE_S", 0.0)
    table = SymbolTable([FIRST], spare=2)
    roster = Roster(table, VENUES, top=6)
    names = [f"N{number}-USDT" for number in range(60)]
    told, failures = [], []

    def work(venue):
        try:
            for number in range(300):
                roster.listed(venue, listing(FIRST, *names[number % 50 : number % 50 + 4]))
                roster.followed(venue, roster.names()[0], number)
                told.extend(roster.let_go(10**18))
        except Exception as error:
            failures.append(error)

    threads = [threading.Thread(target=work, args=(venue,)) for venue in VENUES]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(30)
    assert failures == []
    assert table.names[0] == FIRST
    assert {name: code for code, name in enumerate(table.names) if name} == table.codes
