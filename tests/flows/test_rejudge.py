"""A recording judged again: each policy as if it were alone, and every trade accounted for."""

from dataclasses import replace

import numpy as np
import polars as pl
import pytest

from connectors import replay
from flows.policies import policy_of
from flows.recorded import open_recording
from flows.rejudge import KEY, STATES, rejudge
from market.records import CONFIRMED, UNVERIFIED, VERDICTS, WICK
from market.settings import Settings
from tests.flows.markets import VENUES, recording


@pytest.fixture(scope="module")
def market(tmp_path_factory):
    table, injected = recording(20)
    path = tmp_path_factory.mktemp("market") / "market.parquet"
    table.write_parquet(path)
    return path, table, injected


@pytest.fixture
def recorded(market, tmp_path):
    return open_recording(market[0], Settings(data_dir=tmp_path))


@pytest.fixture
def policy(recorded):
    return policy_of(Settings(), recorded.venues)


def test_every_trade_is_judged_once_and_what_is_not_confirmed_is_kept(market, recorded, policy):
    _, table, injected = market
    (judging,) = rejudge(recorded, [policy])
    trades = table.filter(kind="trade")
    by_venue = [trades.filter(venue=name).height for name in VENUES]
    assert judging.first.sum(axis=(0, 2)).tolist() == [*by_venue, 0, 0]
    counts = judging.first.sum(axis=(0, 1))
    found = judging.not_confirmed()
    assert found.height == counts[WICK] + counts[UNVERIFIED]
    wicks = found.filter(state="wick")
    assert set(wicks.select("venue", "symbol", "trade_id").iter_rows()) == injected
    assert wicks["why"].str.contains("alone traded").all()
    assert (wicks["deviation_bps"].abs() > 400).all()
    assert found.filter(pl.col("state") != "wick")["why"].is_null().all()


def test_how_long_trades_are_held_follows_the_window(recorded, policy):
    short, long = rejudge(recorded, [replace(policy, window_ms=100), replace(policy, window_ms=200)])
    assert 100e6 <= short.most_held_ns <= 110e6
    assert 200e6 <= long.most_held_ns <= 210e6
    assert (long.held_ns - short.held_ns) / long.first.sum() == pytest.approx(100e6)


def test_policies_side_by_side_are_as_each_alone_however_the_recording_is_cut(recorded, policy, monkeypatch):
    policies = [policy, replace(policy, window_ms=100, min_witnesses=5)]
    together = rejudge(recorded, policies)
    assert (together[0].first != together[1].first).any()
    monkeypatch.setattr(replay, "STEP_ROWS", 500)
    order = [*KEY, "nth"]
    for judging, each in zip(together, policies, strict=True):
        (alone,) = rejudge(recorded, [each])
        np.testing.assert_array_equal(alone.first, judging.first)
        assert alone.held_ns == judging.held_ns
        assert alone.not_confirmed().sort(order).equals(judging.not_confirmed().sort(order))


def test_a_wick_that_others_confirm_later_is_readmitted(tmp_path, market, policy):
    """kraken lags a second behind a jump that okx makes: the trades of okx are let back in."""
    rows, ids = [], iter(range(10**6))
    for ms in range(0, 12_000, 20):
        for venue, jump_ms in (("okx", 8_000), ("kraken", 9_000)):
            price = 100.0 * (1.05 if ms >= jump_ms else 1.0) * (1 + 1e-4 * (ms // 20 % 3 - 1))
            at_ns = 1_790_000_000_000_000_000 + ms * 1_000_000
            rows.append((at_ns + 5_000_000, at_ns, venue, price, str(next(ids))))
    times = {"receive_ns": pl.Int64, "exchange_ns": pl.Int64}
    table = pl.DataFrame(rows, {**times, "venue": pl.String, "price": pl.Float64, "trade_id": pl.String}, orient="row")
    blank = {name: pl.lit(None, pl.Float64) for name in ("bid", "bid_size", "ask", "ask_size")}
    table = table.with_columns(symbol=pl.lit("A-B"), kind=pl.lit("trade"), size=1.0, side=pl.lit(1, pl.Int8), **blank)
    table.write_parquet(tmp_path / "lead.parquet")
    recorded = open_recording(tmp_path / "lead.parquet", Settings(data_dir=tmp_path))
    (judging,) = rejudge(recorded, [policy_of(Settings(), recorded.venues)])
    found = judging.not_confirmed()
    back = found.filter(state="readmitted")
    assert back.height > 0
    assert set(back["venue"]) == {"okx"}
    assert back["why"].is_not_null().all()
    assert judging.first.sum() == table.height
    assert judging.first[:, :, WICK].sum() == found.filter(pl.col("state").is_in(["wick", "readmitted"])).height


def test_states_are_the_verdicts_and_one_more():
    assert STATES == ("confirmed", "wick", "unverified", "readmitted")
    assert VERDICTS[CONFIRMED] == STATES[CONFIRMED]


def test_progress_counts_every_row(recorded, policy):
    told = []
    rejudge(recorded, [policy], told.append)
    assert sum(told) == recorded.rows
