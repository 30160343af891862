from connectors.standings import ENTER_ROUNDS, LEAVE_RANK, LEAVE_S, Standings

NAMES = [f"C{number:02}-USDT" for number in range(30)]


def lists(order, venues=("okx", "bybit")):
    """Return lists in which symbols have this order."""
    return {venue: {symbol: 1e9 - place for place, symbol in enumerate(order)} for venue in venues}


def test_who_stays_among_the_first_n_for_two_rounds_enters():
    standings = Standings(10)
    held = NAMES[:9]
    first = standings.judge(lists(NAMES), held, 0.0)
    assert (first.enter, first.leave) == ([], [])
    assert standings.judge(lists(NAMES), held, 300.0).enter == [NAMES[9]]
    standings = Standings(10)
    standings.judge(lists(NAMES), held, 0.0)
    other = [*held, NAMES[10], NAMES[9]]
    assert standings.judge(lists(other), held, 300.0).enter == []
    assert standings.judge(lists(NAMES), held, 600.0).enter == [], "not in a row"
    assert ENTER_ROUNDS == 2


def test_who_is_far_behind_for_long_leaves():
    standings = Standings(10)
    edge = int(10 * LEAVE_RANK)
    order = [*NAMES[1:edge], NAMES[0], *NAMES[edge:]]  # the first symbol fell to the last place that is near
    assert standings.judge(lists(order), NAMES[:10], 0.0).leave == []
    assert standings.judge(lists(order), NAMES[:10], 10 * LEAVE_S).leave == []
    order = [*NAMES[1 : edge + 1], NAMES[0], *NAMES[edge + 1 :]]
    assert standings.judge(lists(order), NAMES[:10], 20 * LEAVE_S).leave == []
    assert standings.judge(lists(order), NAMES[:10], 21 * LEAVE_S - 1).leave == []
    assert standings.judge(lists(order), NAMES[:10], 21 * LEAVE_S).leave == [NAMES[0]]


def test_a_symbol_at_the_edge_does_not_come_and_go():
    """It changes places with its neighbour every round, for a day."""
    standings, held = Standings(10), set(NAMES[:10])
    for number in range(288):
        swapped = [*NAMES[:9], NAMES[10], NAMES[9], *NAMES[11:]]
        change = standings.judge(lists(swapped if number % 4 < 2 else NAMES), held, 300.0 * number)
        assert change.leave == []
        held |= set(change.enter)
    assert held == set(NAMES[:11])


def test_coming_back_starts_the_time_anew():
    standings = Standings(2)
    order = [*NAMES[1:9], NAMES[0]]
    standings.judge(lists(order), NAMES[:2], 0.0)
    standings.judge(lists(NAMES), NAMES[:2], LEAVE_S - 1)
    assert standings.judge(lists(order), NAMES[:2], LEAVE_S).leave == []
    assert standings.judge(lists(order), NAMES[:2], 2 * LEAVE_S).leave == [NAMES[0]]


def test_who_is_listed_nowhere_leaves_at_once_and_who_one_venue_lists_later():
    standings = Standings(3)
    listed = {"okx": dict.fromkeys(NAMES[1:4], 1.0), "bybit": dict.fromkeys(NAMES[2:4], 1.0)}
    assert standings.judge(listed, NAMES[:3], 0.0).leave == [NAMES[0]]
    assert standings.judge(listed, NAMES[1:3], LEAVE_S).leave == [NAMES[1]]


def test_fewer_symbols_than_n_make_nobody_leave():
    standings = Standings(10)
    for now_s in (0.0, LEAVE_S, 2 * LEAVE_S):
        change = standings.judge(lists(NAMES[:3]), NAMES[:3], now_s)
        assert (change.enter, change.leave, change.behind) == ([], [], [])


def test_who_is_behind_makes_room_the_last_first():
    change = Standings(2).judge(lists(NAMES[:5]), [*NAMES[:4], "OLD-USDT"], 0.0)
    assert change.behind == ["OLD-USDT", NAMES[3], NAMES[2]]


def test_memory_is_bounded_by_the_symbols():
    standings = Standings(5)
    for number in range(2_000):
        names = [f"N{number + place}-USDT" for place in range(20)]
        standings.judge(lists(names), names[:8], float(number))
    assert len(standings._within) <= 5
    assert len(standings._outside_s) <= 8
