"""Correlation kernel against numpy.corrcoef, with groups at different paces, holes and amendments."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from market.records import CANDLE
from market.schema import END_OF_INPUT
from operators.correlation import LEAST_RETURNS, NS_PER_S, WAITING_CANDLES, CorrelationKernel, pearson_matrix

MINUTE_NS = 60 * NS_PER_S
START_NS = 1_700_006_400 * NS_PER_S


def candles(minute, closes, *, as_of_minute=None, interval_s=60):
    """Candles of `{symbol: close}` that opened at this minute; amended if `as_of_minute` is later than its end."""
    rows = np.zeros(len(closes), CANDLE)
    rows["symbol"], rows["close"] = list(closes), list(closes.values())
    rows["interval_s"] = interval_s
    rows["open_ns"] = START_NS + minute * MINUTE_NS
    rows["as_of_ns"] = START_NS + (minute + 1 if as_of_minute is None else as_of_minute) * MINUTE_NS
    return rows


def clock(minute):
    return START_NS + minute * MINUTE_NS


def dumps(found):
    return [(one.interval_s, one.open_ns, one.window, one.symbols.tolist(), one.matrix.tobytes()) for one in found]


def walk(symbols, minutes, seed=1):
    rng = np.random.default_rng(seed)
    common = rng.normal(0, 1e-3, (minutes, 1))
    return 100 * np.exp(np.cumsum(common + rng.normal(0, 1e-3, (minutes, symbols)), axis=0))


def test_equals_corrcoef_of_the_last_returns():
    prices = walk(6, 20)
    kernel = CorrelationKernel(6, 60, window=8, groups=[0])
    found = [
        one
        for minute, row in enumerate(prices)
        for one in kernel.advance(0, clock(minute + 1), candles(minute, dict(enumerate(row))))
    ]
    assert [one.open_ns for one in found] == [clock(minute) for minute in range(LEAST_RETURNS, 20)]
    for one in found:
        minute = (one.open_ns - START_NS) // MINUTE_NS
        returns = np.diff(np.log(prices[max(0, minute - 8) : minute + 1]), axis=0)
        np.testing.assert_allclose(one.matrix, np.corrcoef(returns.T), rtol=0, atol=1e-12)
        assert (one.matrix == one.matrix.T).all()
        assert (np.diagonal(one.matrix) == 1.0).all()


def test_waits_for_the_slowest_group():
    prices = walk(2, 5)
    kernel = CorrelationKernel(2, 60, window=3, groups=[0, 1])
    for minute in range(5):
        assert kernel.advance(0, clock(minute + 1), candles(minute, {0: prices[minute, 0]})) == []
    found = kernel.advance(1, clock(5), np.concatenate([candles(m, {1: prices[m, 1]}) for m in range(5)]))
    assert [one.open_ns for one in found] == [clock(3), clock(4)]


def test_a_pair_uses_the_returns_both_have_without_a_hole():
    prices = walk(3, 12)
    kernel = CorrelationKernel(3, 60, window=10, groups=[0])
    found = []
    for minute, row in enumerate(prices):
        given = {s: float(p) for s, p in enumerate(row) if not (s == 2 and minute == 6)}
        found += kernel.advance(0, clock(minute + 1), candles(minute, given))
    by_open = {(one.open_ns - START_NS) // MINUTE_NS: one for one in found}
    assert by_open[5].symbols.tolist() == [0, 1, 2]
    for minute in (6, 7, 8, 9):
        assert by_open[minute].symbols.tolist() == [0, 1], "fewer than 3 returns since the hole"
    returns = np.diff(np.log(prices), axis=0)
    last = by_open[11].matrix
    assert last[0, 1] == pytest.approx(np.corrcoef(returns[-10:, 0], returns[-10:, 1])[0, 1], abs=1e-12)
    assert last[0, 2] == pytest.approx(np.corrcoef(returns[-4:, 0], returns[-4:, 2])[0, 1], abs=1e-12)


def test_a_symbol_that_does_not_move_has_none():
    prices = walk(3, 8)
    prices[:, 1] = 7.0
    kernel = CorrelationKernel(3, 60, window=5, groups=[0])
    found = [
        one
        for minute, row in enumerate(prices)
        for one in kernel.advance(0, clock(minute + 1), candles(minute, dict(enumerate(row))))
    ]
    assert np.isnan(found[-1].matrix[1]).all()
    assert np.isnan(found[-1].matrix[:, 1]).all()
    assert not np.isnan(found[-1].matrix[0, 2])


def test_constant_growth_does_not_move_either():
    prices = 100 * 1.001 ** np.arange(9)
    returns = np.diff(np.log(np.stack((prices, walk(1, 9)[:, 0]), axis=1)), axis=0)
    assert np.isnan(pearson_matrix(returns)[0]).all()


def test_an_amendment_counts_from_when_it_was_made():
    prices = walk(2, 7)
    revised = prices.copy()
    revised[3, 0] *= 1.01

    def run(**kwargs):
        kernel = CorrelationKernel(2, 60, window=4, groups=[0])
        found = []
        for minute in range(7):
            rows = candles(minute, dict(enumerate(prices[minute])))
            if minute == 5:
                rows = np.concatenate([rows, candles(3, {0: revised[3, 0]}, as_of_minute=6)])
            found += kernel.advance(0, clock(minute + 1), rows)
        return {(one.open_ns - START_NS) // MINUTE_NS: one.matrix[0, 1] for one in found}

    got = run()
    for minute, source in ((4, prices), (5, revised), (6, revised)):
        returns = np.diff(np.log(source[max(0, minute - 4) : minute + 1]), axis=0)
        assert got[minute] == pytest.approx(np.corrcoef(returns.T)[0, 1], abs=1e-12), minute


@st.composite
def feeds(draw):
    """Candles of three groups with holes, amendments and repeats; and an order in which the groups report."""
    minutes = draw(st.integers(5, 25))
    prices = walk(6, minutes, seed=draw(st.integers(0, 99)))
    held = draw(st.sets(st.tuples(st.integers(0, minutes - 1), st.integers(0, 5)), max_size=15))
    amended = draw(st.lists(st.tuples(st.integers(0, minutes - 2), st.integers(0, 5), st.integers(2, 5)), max_size=10))
    calls = {group: [] for group in range(3)}
    for minute in range(minutes):
        for group in range(3):
            mine = (group * 2, group * 2 + 1)
            parts = [candles(minute, {s: float(prices[minute, s]) for s in mine if (minute, s) not in held})]
            parts.append(candles(minute, dict.fromkeys(mine, 1.0), interval_s=300))
            for at, symbol, after in amended:
                if symbol in mine and at + after == minute + 1:
                    parts.append(candles(at, {symbol: float(prices[at, symbol]) * 1.002}, as_of_minute=minute + 1))
            settled = {symbol for at, symbol, _ in amended if at == minute - 1} | {
                s for at, s in held if at == minute - 1
            }
            if minute and mine[0] not in settled and draw(st.booleans()):  # given again, as a study whose values moved
                parts.append(candles(minute - 1, {mine[0]: float(prices[minute - 1, mine[0]])}))
            calls[group].append((clock(minute + 1), np.concatenate(parts)))
    turns = draw(st.permutations([group for group in range(3) for _ in range(minutes)]))
    return calls, turns


def play(kernel, calls, turns, restart=False):
    found, queues = [], {group: iter(queue) for group, queue in calls.items()}
    for group in turns:
        watermark, rows = next(queues[group])
        found += kernel.advance(group, watermark, rows)
        if restart:
            snapshot = kernel.snapshot()
            kernel = CorrelationKernel(6, 60, window=6, groups=range(3))
            kernel.restore(snapshot)
    return dumps(found)


@settings(max_examples=50, deadline=None)
@given(feeds())
def test_the_pace_of_groups_and_restarts_change_nothing(feed):
    calls, turns = feed
    in_step = [group for _ in calls[0] for group in range(3)]
    one_by_one = [group for group in range(3) for _ in calls[0]]

    def fresh():
        return CorrelationKernel(6, 60, window=6, groups=range(3))

    expected = play(fresh(), calls, in_step)
    assert play(fresh(), calls, turns) == expected
    assert play(fresh(), calls, one_by_one) == expected
    assert play(fresh(), calls, turns, restart=True) == expected
    lumps = {group: [(END_OF_INPUT, np.concatenate([rows for _, rows in queue]))] for group, queue in calls.items()}
    assert play(fresh(), lumps, [2, 0, 1]) == expected


def test_a_pause_longer_than_the_window_starts_over():
    prices = walk(2, 10)
    kernel = CorrelationKernel(2, 60, window=4, groups=[0])
    found = []
    for step, minute in enumerate([0, 1, 2, 3, 4, 100, 101, 102, 103, 104]):
        found += kernel.advance(0, clock(minute + 1), candles(minute, dict(enumerate(prices[step]))))
    assert [(one.open_ns - START_NS) // MINUTE_NS for one in found] == [3, 4, 103, 104]


def test_what_waits_for_a_silent_group_is_bounded():
    kernel = CorrelationKernel(1, 60, window=3, groups=[0, 1])
    rows = np.concatenate([candles(minute, {0: 100.0}) for minute in range(WAITING_CANDLES)])
    kernel.advance(0, clock(WAITING_CANDLES), rows)
    with pytest.raises(ValueError, match="wait for key group 1"):
        kernel.advance(0, clock(WAITING_CANDLES + 1), candles(WAITING_CANDLES, {0: 100.0}))


def test_a_snapshot_of_another_window_is_refused():
    with pytest.raises(ValueError, match="snapshot is of"):
        CorrelationKernel(2, 60, window=4).restore(CorrelationKernel(2, 60, window=5).snapshot())


def leave(kernel_of, order):
    """Play two groups of two symbols; symbol 2 leaves within minute 6, its code has a new owner from minute 9 on."""
    prices = walk(4, 20)
    kernel, found, told = kernel_of(), [], []
    done = {0: 0, 1: 0}
    for group in order:
        minute = done[group]
        done[group] += 1
        mine = {s: float(prices[minute, s]) for s in (2 * group, 2 * group + 1) if s != 2 or not 6 <= minute < 9}
        rows = candles(minute, mine)
        leaves = group == 1 and minute == 6
        if leaves:  # what it was forming is given as it was, as of its end
            rows = np.concatenate([rows, candles(7, {2: 1.0})])
        found += kernel.advance(group, clock(minute + 1), rows)
        told += [(symbol, min(done.values())) for symbol in kernel.forgotten]
        if leaves:
            kernel.forget([2], clock(7))
        snapshot = kernel.snapshot()
        kernel = kernel_of()
        kernel.restore(snapshot)
    return prices, found, told


@pytest.mark.parametrize("order", [[0, 1] * 20, [1, 0] * 20, [1] * 20 + [0] * 20, [0] * 20 + [1] * 20])
def test_a_forgotten_symbol_is_in_no_later_matrix_whatever_the_pace_of_the_groups(order):
    prices, found, told = leave(lambda: CorrelationKernel(4, 60, window=5, groups=[0, 1]), order)
    have = {(one.open_ns - START_NS) // MINUTE_NS: one for one in found}
    with_it = {minute for minute, one in have.items() if 2 in one.symbols}
    assert with_it == {3, 4, 5} | set(range(12, 20))
    returns = np.diff(np.log(prices), axis=0)
    assert have[12].matrix[0, 2] == pytest.approx(np.corrcoef(returns[9:12, 0], returns[9:12, 2])[0, 1], abs=1e-12)
    assert have[12].matrix[0, 1] == pytest.approx(np.corrcoef(returns[7:12, 0], returns[7:12, 1])[0, 1], abs=1e-12)
    assert [symbol for symbol, _ in told] == [2]
    assert dumps(found) == dumps(leave(lambda: CorrelationKernel(4, 60, window=5, groups=[0, 1]), [0, 1] * 20)[1])
