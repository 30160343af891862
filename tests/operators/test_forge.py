"""The forge: right in each situation that docs/forge.md names. What no batching changes: test_forge_properties.py."""

import numpy as np
import pytest

from market.records import CONFIRMED, UNVERIFIED, WICK
from market.schema import END_OF_INPUT, LAGGING, TICK, TRADE
from market.venues import VENUES
from operators.consensus import BAND_LEAST, EDGE_LEAST
from operators.forge import ForgeKernel, ForgePolicy
from operators.hold import QUANTUM_NS
from operators.horizon import LATE_NS, PROBATION_NS
from operators.jury import EXCURSION_NS
from operators.sequence import Slice
from tests.operators.markets import (
    MS,
    SPIKE,
    SPIKE_MS,
    SPIKED,
    START_NS,
    Market,
    by_receipt,
    calls,
    crash,
    judge,
    part_of,
    policy_for,
    quotes,
    ramp,
    stalled,
    trades,
    unstamped,
    with_spike,
    without,
)

W_NS = 150 * MS


# release


def test_ticks_are_held_for_the_window_and_released_by_event_time():
    rows = by_receipt(
        trades(1, [20.0], delay_ms=2), trades(0, [21.0], delay_ms=0), trades(3, [5.0], delay_ms=30, first_id=9)
    )
    kernel = ForgeKernel(np.array([0]), ForgePolicy(venues=(0, 1, 3)))

    def advance(mark_ms, ticks=False):
        parts = [part_of(rows, v) if ticks else np.zeros(0, TICK) for v in (0, 1, 3)]
        got = kernel.add([Slice(v, part, START_NS + mark_ms * MS) for v, part in zip((0, 1, 3), parts, strict=True)])
        return [] if got is None else [int(t) for t in (got.released.ticks["event_ns"] - START_NS) // MS]

    assert advance(40, ticks=True) == []
    assert advance(174) == []
    assert advance(175) == [20, 21]
    assert advance(184) == []
    assert advance(186) == [5]


def test_a_venue_whose_watermark_lags_holds_all_until_it_ends():
    rows = Market(venues=(0, 1), seconds=1).rows()
    kernel = ForgeKernel(np.array([0]), ForgePolicy(venues=(0, 1)))
    late_ns = START_NS + 200 * MS
    got = kernel.add([Slice(0, part_of(rows, 0), START_NS + 5000 * MS), Slice(1, part_of(rows, 1), late_ns)])
    assert got is not None
    assert (got.released.release_ns <= late_ns).all()
    rest = kernel.add([Slice(1, np.zeros(0, TICK), END_OF_INPUT)])
    assert got.released.ticks.size + rest.released.ticks.size == rows.size


def test_venues_outside_the_policy_are_not_waited_for():
    kernel = ForgeKernel(np.array([0]), ForgePolicy(venues=(4,)))
    done = kernel.add([Slice(4, trades(4, [1.0]), START_NS + 500 * MS)])
    assert done.released.ticks.size == 1


@pytest.mark.parametrize("window_ms", [100, 200])
def test_the_window_is_the_policy_s(window_ms):
    out = judge(Market(seconds=1, venues=(0, 1)).rows(), window_ms=window_ms)
    held = out.release_ns - out.ticks["receive_ns"]
    assert held.min() >= window_ms * MS
    assert held.max() < window_ms * MS + QUANTUM_NS


# calm and spikes


@pytest.mark.parametrize("seed", [1, 2])
@pytest.mark.parametrize("noise", [1e-4, 5e-3, 1.5e-2])
def test_a_calm_market_has_no_wick_at_any_dispersion(noise, seed):
    out = judge(Market(noise=noise, seconds=15, seed=seed).rows())
    assert out.flagged() == set()
    assert set(out.between(1000, 15000)) == {"confirmed"}


@pytest.mark.parametrize("follow", [False, True])
@pytest.mark.parametrize("sign", [1, -1])
def test_a_spike_of_one_venue_is_filtered_with_its_reasons(follow, sign):
    out = judge(with_spike(Market().rows(), size=sign * SPIKE, follow=follow))
    assert out.flagged() == out.final() == SPIKED
    assert len(out.wicks) == 5
    for wick, size in zip(out.wicks, sign * SPIKE, strict=True):
        assert wick.reference == pytest.approx(100, rel=2e-3)
        assert wick.deviation_bps == pytest.approx(size * 1e4, abs=20)
        assert wick.dispersion_bps == pytest.approx(2.5, abs=1.5)
        assert wick.witnesses >= 3
        assert set(wick.evidence) <= set(VENUES) - {VENUES[2]}
        against = [vote for vote in wick.evidence.values() if vote["vote"] in ("did not follow", "not overdue")]
        assert len(against) == wick.witnesses
        assert all(abs(vote["nearest_bps"]) > 300 for vote in against)
    assert set(out.between(4000, 5000, venue=2)) == {"confirmed"}
    assert set(out.between(5210, 6000, venue=2)) == {"confirmed"}


def test_each_wick_names_its_trade():
    out = judge(with_spike(Market().rows()))
    by_id = {row["trade_id"].decode(): row for row in out.ticks[out.verdict == WICK]}
    for wick in out.wicks:
        row = by_id[wick.trade_id]
        assert (wick.symbol, wick.venue, wick.side, wick.size) == (0, 2, row["side"], row["size"])
        assert (wick.price, wick.event_ns, wick.receive_ns) == (row["price"], row["event_ns"], row["receive_ns"])


@pytest.mark.parametrize("base", [1e-5, 1e5, 1e12])
@pytest.mark.parametrize("percent", [1.5, 12.0])
def test_the_smallest_and_the_largest_wick_at_any_price(base, percent):
    rows = with_spike(Market(base=base).rows(), size=np.log1p(percent / 100), base=base)
    assert judge(rows).final() == SPIKED


def test_a_sweep_of_small_prints_is_one_excursion():
    size = np.linspace(0, 0.05, 51)
    out = judge(with_spike(Market().rows(), at_ms=5000 + np.arange(51.0), size=size))
    flagged = {int(ident) for _, ident in out.final()}
    assert flagged >= set(np.flatnonzero(size > 2 * EDGE_LEAST) + 1)
    assert not flagged & set(np.flatnonzero(size < EDGE_LEAST / 2) + 1)


@pytest.mark.parametrize("gap_ns", [-1.5 * EXCURSION_NS, -0.5 * EXCURSION_NS, 0.5 * EXCURSION_NS, 1.5 * EXCURSION_NS])
def test_a_print_between_edge_and_band_is_a_wick_only_near_one_beyond(gap_ns):
    far_ms = 5000 + gap_ns / MS
    rows = Market(noise=1e-5).rows()
    small = trades(2, [5000.0], (BAND_LEAST + EDGE_LEAST) / 2, first_id=1)
    far = trades(2, [far_ms], 3 * BAND_LEAST, first_id=2)
    assert judge(by_receipt(rows, small)).flagged() == set()
    near = abs(gap_ns) < EXCURSION_NS
    assert judge(by_receipt(rows, small, far)).final() == ({(2, "1"), (2, "2")} if near else {(2, "2")})


def test_an_absurd_price_and_a_size_of_zero_are_trades_like_others():
    rows = with_spike(Market().rows(), size=np.log(1e10))
    rows["size"][rows["kind"] == TRADE] = 0.0
    assert judge(rows).final() == SPIKED


def test_two_of_six_venues_that_wick_together_are_wicks():
    rows = with_spike(Market().rows())
    rows = by_receipt(rows, trades(4, SPIKE_MS + 7, SPIKE, delay_ms=3, first_id=11))
    assert judge(rows).final() == SPIKED | {(4, str(number)) for number in range(11, 16)}


@pytest.mark.parametrize("follow", [False, True])
@pytest.mark.parametrize("length_ms", [200, 3000])
def test_of_two_venues_the_innocent_one_is_not_flagged(follow, length_ms):
    at_ms = 5000 + np.linspace(0, length_ms, 12)
    rows = with_spike(Market(venues=(2, 3), seconds=10).rows(), at_ms=at_ms, size=0.05, follow=follow)
    out = judge(rows)
    assert {venue for venue, _ in out.flagged()} == {2}
    assert len(out.final()) == 12
    assert set(out.between(4000, 10_000, venue=3)) <= {"confirmed", "unverified"}


def test_a_policy_of_two_witnesses_asks_for_two():
    rows = with_spike(Market(venues=(2, 3)).rows())
    assert judge(rows).final() == SPIKED
    assert judge(rows, min_witnesses=2).flagged() == set()
    assert judge(with_spike(Market().rows()), min_witnesses=2).final() == SPIKED


def test_a_sparse_symbol_is_judged_by_venues_that_are_not_overdue():
    out = judge(with_spike(Market(seconds=40, rate=2, noise=1e-3).rows(), at_ms=SPIKE_MS + 20_000))
    assert out.final() == SPIKED


# moves that are real


@pytest.mark.parametrize("seed", [1, 2, 3])
@pytest.mark.parametrize("rate", [5, 40])
def test_a_crash_of_all_venues_loses_no_tick(rate, seed):
    out = judge(crash(seconds=9, rate=rate, seed=seed).rows())
    assert out.final() == set()
    if rate == 40:
        assert out.flagged() == set()


@pytest.mark.parametrize("venues", [(0, 5), (0, 2, 5)])
@pytest.mark.parametrize("rate", [2, 10])
def test_a_crash_on_few_and_slow_venues_loses_no_tick(venues, rate):
    for seed in range(3):
        assert judge(crash(venues=venues, rate=rate, seconds=12, seed=seed).rows()).final() == set()


def test_a_leader_is_confirmed_by_those_who_follow_within_the_window():
    behind = dict.fromkeys((1, 2, 3, 4, 5), 130)
    rows = Market(path=ramp(5000, 1, 0.05), behind_ms=behind, rate=200, seconds=7, delay_ms=(0, 1)).rows()
    out = judge(rows)
    assert out.flagged() == set()
    assert set(out.between(5000, 5130, venue=0)) == {"confirmed"}


def test_those_who_follow_just_after_the_window_bring_it_back():
    behind = dict.fromkeys((1, 2, 3, 4, 5), 300)
    rows = Market(path=ramp(5000, 1, 0.05), behind_ms=behind, rate=100, seconds=9, delay_ms=(0, 1)).rows()
    out = judge(rows)
    flagged = out.flagged()
    assert flagged
    assert {venue for venue, _ in flagged} == {0}
    assert out.final() == set()
    back = [wick for wick in out.wicks if wick.readmitted_ns]
    assert sorted((wick.venue, wick.trade_id) for wick in back) == sorted(flagged)
    assert sorted(out.readmitted["trade_id"].tolist()) == sorted(wick.trade_id.encode() for wick in back)
    assert out.readmitted_ns.tolist() == [wick.readmitted_ns for wick in back]
    for wick in back:
        assert wick.receive_ns + W_NS < wick.readmitted_ns < wick.receive_ns + 600 * MS
    # The row of a wick as it was first told is left as it was.
    assert [w.readmitted_ns for w in out.wicks if not w.readmitted_ns] == [0] * len(flagged)


def test_every_wick_is_settled_once_with_the_verdict_that_is_final():
    behind = dict.fromkeys((1, 2, 3, 4, 5), 300)
    rows = Market(path=ramp(3000, 1, 0.05), behind_ms=behind, rate=60, seconds=7, delay_ms=(0, 1)).rows()
    out = judge(by_receipt(rows, trades(4, [5500.0, 5510.0], -0.06, delay_ms=3)))
    names = [(int(row["venue"]), row["trade_id"].decode()) for row in out.settled]
    assert len(set(names)) == len(names)
    assert set(names) == out.flagged()
    final = {name for name, verdict in zip(names, out.settled_verdict.tolist(), strict=True) if verdict == WICK}
    assert final == out.final() == {(4, "1"), (4, "2")}


def test_those_who_follow_after_the_late_horizon_do_not():
    behind = dict.fromkeys((1, 2, 3, 4, 5), LATE_NS / MS + 1500)
    rows = Market(path=ramp(5000, 1, 0.05), behind_ms=behind, rate=40, seconds=11, delay_ms=(0, 1)).rows()
    early = {(w.venue, w.trade_id) for w in judge(rows).wicks if w.event_ns < START_NS + 5500 * MS}
    assert early
    assert early <= judge(rows).final()


def test_a_learned_premium_is_no_wick_and_a_spike_on_top_of_it_is():
    market = Market(premium={2: 0.03}, seconds=30)
    assert judge(market.rows()).final() == set()
    rows = with_spike(market.rows(), at_ms=SPIKE_MS + 15_000, premium=0.03)
    out = judge(rows)
    assert out.final() == SPIKED
    assert out.wicks[0].basis_bps == pytest.approx(300, abs=15)
    assert out.wicks[0].reference == pytest.approx(100 * np.exp(0.03), rel=2e-3)


def test_a_new_regime_of_one_venue_ends_being_a_wick():
    rows = Market(seconds=25).rows()
    moved = (rows["venue"] == 2) & (rows["event_ns"] > START_NS + 6000 * MS)
    for column in ("price", "bid", "ask"):
        rows[column][moved] *= 1.04
    out = judge(rows)
    assert set(out.between(6010, 9000, venue=2)) == {"wick"}
    assert set(out.between(14_000, 25_000, venue=2)) == {"confirmed"}
    assert set(out.between(6010, 25_000, venue=3)) == {"confirmed"}


def test_a_market_that_moves_far_in_a_minute_confirms_all():
    out = judge(Market(path=lambda at: 0.10 * np.sin(at / 6000), seconds=20, noise=5e-4).rows())
    assert out.flagged() == set()


# silence


@pytest.mark.parametrize("quiet_ms", [400, 1500, 5000])
def test_silent_peers_condemn_nobody(quiet_ms):
    rows = Market(seconds=12).rows()
    at_ms = (rows["event_ns"] - START_NS) / MS
    rows = rows[(rows["venue"] == 2) | (at_ms < 5000 - quiet_ms)]
    out = judge(with_spike(rows))
    assert out.flagged() == set()
    assert {name for (_, ident), name in out.verdicts(2).items() if len(ident) == 1} == {"unverified"}


def test_peers_that_fall_silent_with_the_trade_condemn_nobody_for_good():
    rows = Market(seconds=12, rate=6).rows()
    at_ms = (rows["event_ns"] - START_NS) / MS
    out = judge(with_spike(rows[(rows["venue"] == 2) | (at_ms < 4990)]))
    assert out.final() == set()
    back = [wick for wick in out.wicks if wick.readmitted_ns]
    assert {(wick.venue, wick.trade_id) for wick in back} == SPIKED
    assert all(LATE_NS < wick.readmitted_ns - wick.receive_ns < PROBATION_NS + 300 * MS for wick in back)


def test_a_venue_alone_is_unverified():
    out = judge(with_spike(Market(venues=(2,)).rows()))
    assert set(out.verdicts().values()) == {"unverified"}


@pytest.mark.parametrize("venue", [0, 3])
def test_the_late_ticks_of_a_stalled_venue_are_no_wicks_and_no_votes(venue):
    for stall_ms in (900, 1800, 4000):
        rows = stalled(crash(rate=40, seconds=10).rows(), venue, 4900, 4900 + stall_ms)
        out = judge(rows)
        assert out.final() == set()
        for wick in out.wicks:
            assert wick.evidence.get(VENUES[venue], {}).get("vote") != "did not follow"


def test_late_ticks_of_one_of_two_venues_condemn_nobody():
    rows = stalled(crash(venues=(0, 1), seconds=10).rows(), 1, 4900, 5800)
    out = judge(rows)
    assert out.final() == set()


def test_ticks_older_than_the_evidence_are_unverified_at_most():
    rows = by_receipt(crash(seconds=12).rows(), trades(1, [4000.0], 0.0, delay_ms=5000, first_id=77))
    assert judge(rows).verdicts()[VENUES[1], "77"] == "unverified"


def test_a_halted_venue_that_resumes_at_the_new_price_is_confirmed():
    rows = without(crash(seconds=12).rows(), 5, 4500, 9000)
    out = judge(rows)
    assert out.final() == set()
    assert set(out.between(9000, 12_000, venue=5)) == {"confirmed"}


def test_old_quotes_without_a_stamp_do_not_count_when_the_link_is_known_to_lag():
    rows = crash(venues=(0, 1), seconds=8).rows()
    theirs = rows["venue"] == 1
    old = unstamped(quotes(1, np.arange(5000, 5300, 20.0), 0.0, delay_ms=200))
    rows = by_receipt(rows[~theirs | (rows["event_ns"] < START_NS + 4900 * MS)], old)
    assert judge(rows).final() != set()
    rows["flags"][(rows["venue"] == 1) & (rows["event_ns"] > START_NS + 5000 * MS)] |= LAGGING
    out = judge(rows)
    assert out.final() == set()
    assert "did not follow" not in {vote["vote"] for wick in out.wicks for vote in wick.evidence.values()}


# newest state


def test_newest_state_follows_good_trades_and_counts_up():
    rows = with_spike(Market(seconds=6).rows())
    kernel = ForgeKernel(np.array([0]), policy_for(rows))
    states = [done.hot for call in calls(rows) if (done := kernel.add(call)) is not None and done.hot.size]
    hot = np.concatenate(states)
    assert hot["seq"].tolist() == list(range(1, hot.size + 1))
    priced = hot[np.isfinite(hot["price"])]
    np.testing.assert_allclose(priced["price"], 100, rtol=5e-3)
    assert set(priced["verdict"].tolist()) <= {CONFIRMED, UNVERIFIED}
    good = rows[(rows["kind"] == TRADE) & (rows["symbol"] == 0)]
    assert hot["price"][-1] in good["price"]
    settled = hot[hot.size // 2 :]
    assert set(settled["venues"].tolist()) == {5, 6}, "one had a wick"
    assert settled["venues"][-1] == 6
    np.testing.assert_allclose(settled["reference"], 100, rtol=1e-3)


def test_a_group_without_symbols_passes_its_watermark():
    kernel = ForgeKernel(np.zeros(0, np.int64), ForgePolicy(venues=(0,)))
    done = kernel.add([Slice(0, np.zeros(0, TICK), END_OF_INPUT)])
    assert done.watermark_ns == END_OF_INPUT
    assert done.released.ticks.size == 0
