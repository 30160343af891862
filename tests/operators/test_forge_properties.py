"""The forge's promise: what it says is a function of the ticks of a symbol alone, and its memory does not grow."""

from dataclasses import replace
from functools import cache
from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from market.records import WICK
from market.schema import END_OF_INPUT, TRADE
from market.venues import VENUES
from operators.forge import ForgeKernel
from operators.sequence import Slice
from tests.operators.markets import (
    MS,
    SPIKE_MS,
    START_NS,
    Market,
    by_receipt,
    calls,
    judge,
    outcome,
    part_of,
    policy_for,
    ramp,
    trades,
    with_spike,
)

STEP_MS = 50.0


def lively():
    """Return a short market with everything in it: two symbols, a spike, a crash, a late follower."""
    behind = dict.fromkeys((1, 2, 3, 4, 5), 320)
    other = Market(symbol=1, seed=5, seconds=7, rate=20, path=ramp(3500, 20, -0.06), behind_ms=behind)
    rows = Market(seconds=7, rate=15, venues=(0, 1, 2, 4)).rows()
    more = trades(1, [6500.0, 6510.0], 0.03, delay_ms=2, first_id=50)
    return by_receipt(with_spike(rows, at_ms=SPIKE_MS - 1500), other.rows(), more)


LIVELY = lively()
VENUES_OF_LIVELY = tuple(sorted(set(LIVELY["venue"].tolist())))
CALLS = calls(LIVELY, STEP_MS)
WHOLE = judge(LIVELY, symbols=(0, 1))


def fresh(symbols=(0, 1)):
    return ForgeKernel(np.array(symbols), policy_for(LIVELY))


def same(one, two):
    assert one.ticks.tobytes() == two.ticks.tobytes()
    assert one.verdict.tolist() == two.verdict.tolist()
    assert one.release_ns.tolist() == two.release_ns.tolist()
    np.testing.assert_array_equal(one.reference, two.reference)
    np.testing.assert_array_equal(one.deviation_bps, two.deviation_bps)
    for again in (False, True):  # in one call, new wicks are told before those that come back
        assert [w for w in one.wicks if (w.readmitted_ns > 0) == again] == [
            w for w in two.wicks if (w.readmitted_ns > 0) == again
        ]
    assert one.readmitted.tobytes() == two.readmitted.tobytes()
    assert one.readmitted_ns.tolist() == two.readmitted_ns.tolist()
    assert one.settled.tobytes() == two.settled.tobytes()
    assert one.settled_verdict.tolist() == two.settled_verdict.tolist()


def of_symbol(out, symbol):
    """Return what an outcome says of one symbol."""
    mine, back = out.ticks["symbol"] == symbol, out.readmitted["symbol"] == symbol
    final = out.settled["symbol"] == symbol
    columns = ("ticks", "verdict", "release_ns", "reference", "deviation_bps")
    return replace(
        out,
        **{name: getattr(out, name)[mine] for name in columns},
        wicks=[wick for wick in out.wicks if wick.symbol == symbol],
        readmitted=out.readmitted[back],
        readmitted_ns=out.readmitted_ns[back],
        settled=out.settled[final],
        settled_verdict=out.settled_verdict[final],
    )


def test_the_lively_market_has_what_the_properties_are_about():
    assert WHOLE.ticks.size == LIVELY.size
    assert len(WHOLE.final()) >= 5
    assert WHOLE.readmitted.size
    assert {"confirmed", "wick", "unverified"} <= set(WHOLE.verdicts().values())


def shuffled(rows, draw):
    """Return calls that hand on each venue's ticks in its own order, cut and interleaved at will."""
    queues = {}
    for venue in VENUES_OF_LIVELY:
        mine = part_of(rows, venue)
        cuts = sorted(draw(st.sets(st.integers(0, mine.size), max_size=8)))
        queues[venue] = [
            # All received up to the mark is in: at most just before the venue's next row.
            Slice(venue, mine[start:stop], int(mine["receive_ns"][stop]) - 1 if stop < mine.size else END_OF_INPUT)
            for start, stop in pairwise([0, *cuts, mine.size])
        ]
    order = draw(st.permutations([venue for venue, queue in queues.items() for _ in queue]))
    slices = [queues[venue].pop(0) for venue in order]
    cut = sorted(draw(st.sets(st.integers(1, len(slices)))))
    return [slices[start:stop] for start, stop in pairwise(sorted({0, *cut, len(slices)}))]


@settings(max_examples=25, deadline=None)
@given(st.data())
def test_any_split_and_interleaving_gives_the_same(data):
    kernel = fresh()
    same(outcome([kernel.add(call) for call in shuffled(LIVELY, data.draw)]), WHOLE)


@settings(max_examples=15, deadline=None)
@given(st.floats(3, 1500), st.sets(st.integers(0, 300), max_size=4))
def test_any_step_and_any_restarts_give_the_same(step_ms, restarts):
    kernel = fresh()
    results = []
    for number, call in enumerate(calls(LIVELY, step_ms)):
        results.append(kernel.add(call))
        if number in restarts:
            state = kernel.snapshot()
            kernel = fresh()
            kernel.restore(state)
    same(outcome(results), WHOLE)


@pytest.mark.parametrize("symbol", [0, 1])
def test_a_symbol_alone_is_judged_the_same(symbol):
    alone = judge(LIVELY[LIVELY["symbol"] == symbol], symbols=(symbol,), venues=VENUES_OF_LIVELY, step_ms=STEP_MS)
    same(alone, of_symbol(WHOLE, symbol))


@cache
def beside(first):
    """Return LIVELY with symbol codes from `first` on, and what is said of it alone."""
    rows = LIVELY.copy()
    rows["symbol"] += first
    return rows, judge(rows, symbols=(first, first + 1), step_ms=STEP_MS)


@settings(max_examples=12, deadline=None)
@given(
    st.sampled_from([0, 2, 7]),
    st.floats(1, 60),
    st.floats(1e-5, 0.2),
    st.sets(st.sampled_from(VENUES_OF_LIVELY), min_size=1),
    st.integers(0, 99),
)
def test_ticks_of_other_symbols_change_nothing(code, rate, noise, venues, seed):
    ours, plain = beside(3 if code < 3 else 0)  # the other comes before ours or after
    other = Market(symbol=code, seconds=7, rate=rate, noise=noise, venues=tuple(venues), seed=seed, base=3e4)
    mixed = judge(by_receipt(ours, other.rows()), symbols=sorted({code, *ours["symbol"].tolist()}), step_ms=STEP_MS)
    for symbol in set(ours["symbol"].tolist()):
        same(of_symbol(mixed, symbol), of_symbol(plain, symbol))


@settings(max_examples=15, deadline=None)
@given(st.floats(-7, 10))
def test_a_constant_factor_on_all_prices_changes_no_verdict(power):
    rows = LIVELY.copy()
    for column in ("price", "bid", "ask"):
        rows[column] *= 10**power
    scaled = judge(rows, symbols=(0, 1), step_ms=STEP_MS)
    assert scaled.verdict.tolist() == WHOLE.verdict.tolist()
    assert scaled.readmitted_ns.tolist() == WHOLE.readmitted_ns.tolist()
    np.testing.assert_allclose(scaled.reference, WHOLE.reference * 10**power, rtol=1e-9)


def by_trade(out, venue_of):
    """Return (symbol, venue, trade id) -> verdict, moment of re-admission or 0, reference; and votes of wicks."""
    back = {(w.symbol, w.venue, w.trade_id): w.readmitted_ns for w in out.wicks}
    found, votes = {}, {}
    for row in np.flatnonzero(out.ticks["kind"] == TRADE).tolist():
        tick = out.ticks[row]
        key = int(tick["symbol"]), int(tick["venue"]), tick["trade_id"].decode()
        said = int(out.verdict[row]), back.get(key, 0), float(out.reference[row])
        found[key[0], venue_of[key[1]], key[2]] = said
    for wick in out.wicks:
        said = {venue_of[VENUES.index(name)]: vote["vote"] for name, vote in wick.evidence.items()}
        votes[wick.symbol, venue_of[wick.venue], wick.trade_id] = wick.witnesses, said
    return found, votes


@settings(max_examples=15, deadline=None)
@given(st.permutations(range(len(VENUES))))
def test_other_venue_codes_permute_the_result(codes):
    rows = LIVELY.copy()
    rows["venue"] = np.array(codes)[LIVELY["venue"]]
    original = {code: venue for venue, code in enumerate(codes)}
    permuted, votes = by_trade(judge(rows, symbols=(0, 1), step_ms=STEP_MS), original)
    found, expected_votes = by_trade(WHOLE, range(len(VENUES)))
    assert {key: said[:2] for key, said in permuted.items()} == {key: said[:2] for key, said in found.items()}
    assert votes == expected_votes
    references = np.array([(permuted[key][2], found[key][2]) for key in found])
    np.testing.assert_allclose(references[:, 0], references[:, 1], rtol=1e-12)


@settings(max_examples=15, deadline=None)
@given(st.sampled_from([0, 1]), st.sets(st.integers(0, len(CALLS) - 1), min_size=1, max_size=3))
def test_forgetting_a_symbol_leaves_the_others_alone_and_loses_no_tick(symbol, moments):
    kernel = fresh()
    results = []
    for number, call in enumerate(CALLS):
        results.append(kernel.add(call))
        if number in moments:
            kernel.forget(np.array([symbol]))
    out = outcome(results)
    same(of_symbol(out, 1 - symbol), of_symbol(WHOLE, 1 - symbol))
    assert out.ticks.tobytes() == WHOLE.ticks.tobytes()


def test_a_forgotten_symbol_is_as_new():
    until_ns = START_NS + 5000 * MS
    quiet = (LIVELY["symbol"] == 0) & (LIVELY["receive_ns"] > until_ns - 800 * MS)
    before = [call for call in calls(LIVELY[~quiet], STEP_MS) if call[0].watermark_ns <= until_ns]
    after = with_spike(Market(seconds=9, base=150.0, seed=9).rows(), at_ms=SPIKE_MS + 3000, size=np.log(1.5) + 0.05)
    after = after[after["event_ns"] > until_ns]
    kernel, new = fresh(), fresh()
    for call in before:
        kernel.add(call)
    kernel.forget(np.array([0]))
    rest = [call for call in calls(after, STEP_MS) if call[0].watermark_ns > until_ns]
    told = [[one for one in map(forge.add, rest) if one is not None] for forge in (kernel, new)]
    forgot, plain = (of_symbol(outcome(results), 0) for results in told)
    assert plain.ticks.size == after.size
    assert len(plain.final()) == SPIKE_MS.size
    own = forgot.settled["event_ns"] > until_ns  # wicks that were open when it was forgotten are settled as such
    assert set(forgot.settled_verdict[~own].tolist()) == {WICK}
    same(replace(forgot, settled=forgot.settled[own], settled_verdict=forgot.settled_verdict[own]), plain)
    first = next(one.hot for one in told[0] if (one.hot["symbol"] == 0).any())
    assert first["seq"][first["symbol"] == 0].tolist() == [1]


def test_memory_does_not_grow():
    block = with_spike(Market(seconds=1, rate=1000).rows(), at_ms=np.arange(300.0, 320.0), size=0.05)
    block = block[block["receive_ns"] < START_NS + 1000 * MS]
    kernel = ForgeKernel(np.array([0]), policy_for(block))
    sizes, wicks = [], 0
    for number in range(40):
        mark_ns = START_NS + (number + 1) * 1000 * MS - 1
        done = kernel.add([Slice(venue, part_of(block, venue), mark_ns) for venue in range(6)])
        sizes.append(len(kernel.snapshot()))
        wicks += len(done.wicks)
        block = block.copy()
        for column in ("event_ns", "exchange_ns", "receive_ns"):
            block[column] += 1000 * MS
    assert block.size * len(sizes) > 200_000
    assert wicks > 500  # and they leave
    assert max(sizes[30:]) < 1.02 * max(sizes[8:15])
