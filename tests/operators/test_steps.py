"""The steps as a flow: one worker, two, and stopped in the middle all give the same rows."""

from dataclasses import asdict
from datetime import timedelta

import bytewax.operators as op
import numpy as np
import pytest
from bytewax.dataflow import Dataflow
from bytewax.recovery import RecoveryConfig, init_db_dir
from bytewax.testing import TestingSink, TestingSource, cluster_main, run_main

from market.records import CANDLE, WICK, Correlation, ReleasedTrades, StudyBatch, VenueStatus, WickBatch
from market.schema import END_OF_INPUT, TICK, TRADE, TickBatch
from market.symbols import SymbolTable
from market.venues import VENUES
from operators import steps
from operators.forge import ForgePolicy
from tests.operators.markets import MS, START_NS, Market, by_receipt, part_of, ramp, trades

TABLE = SymbolTable(["BTC-USDT", "ETH-USDT", "SOL-USDT", "DOGE-USDT"])
PLACES = (0, 2, 3)
INTERVALS = (1, 5)
SECONDS = 14
GROUP = int(TABLE.groups[0])


def market():
    """Return four symbols on three venues: one crash, one spike."""
    paths = [ramp(4000, 200, -0.05), *(ramp(0, 14_000, size) for size in (0.004, -0.003, 0.002))]
    parts = [
        Market(venues=PLACES, seconds=SECONDS, rate=12, symbol=code, path=path, seed=code, behind_ms={2: 40}).rows()
        for code, path in enumerate(paths)
    ]
    spike = trades(2, [7000.0, 7003.0, 7050.0], [0.05, 0.06, 0.055], symbol=1, delay_ms=2)
    return by_receipt(*parts, spike)


ROWS = market()


def batches(step_ms=250.0, end=True):
    """Return what a source gives: (venue name, batch), the venues in turn."""
    out, done = [], 0
    for mark in range(int(step_ms), int(SECONDS * 1000 + 500 + step_ms), int(step_ms)):
        watermark_ns = START_NS + mark * MS
        stop = int(np.searchsorted(ROWS["receive_ns"], watermark_ns, side="right"))
        part = ROWS[done:stop]
        out += [(VENUES[venue], TickBatch(venue, part_of(part, venue), watermark_ns)) for venue in PLACES]
        done = stop
    assert done == ROWS.size
    if end:
        out += [(VENUES[venue], TickBatch(venue, np.zeros(0, TICK), END_OF_INPUT)) for venue in PLACES]
    return out


def flow_of(items, out, batch_size=1):
    """Return the whole chain of steps over some items; `out` gets all that comes out of it."""
    flow = Dataflow("small")
    source = op.input("venues", flow, TestingSource(items, batch_size))
    ticks, states, _ = steps.sequence("sequence", source, TABLE)
    forged = steps.forge("forge", ticks, TABLE, ForgePolicy(venues=PLACES))
    closed = steps.candles("candles", forged, TABLE, INTERVALS, 150 * MS)
    studied = steps.studies("studies", closed, TABLE, INTERVALS)
    found = [
        op.key_rm("ticks", steps.released("released", forged)),
        steps.wicks("wicks", forged),
        steps.newest("newest", forged),
        steps.trades("trades", forged, 150),
        steps.with_candles("with_candles", studied),
        steps.correlate("correlate", studied, TABLE, 1, 5),
        states,
    ]
    for number, stream in enumerate(found):
        op.output(f"out_{number}", stream, TestingSink(out))
    return flow


def fresh(items):
    """Return the items with ticks of their own: the sequencer changes them in place."""
    return [
        (item[0], TickBatch(item[1].venue, item[1].ticks.copy(), item[1].watermark_ns))
        if isinstance(item, tuple)
        else item
        for item in items
    ]


def upserted(out):
    """Return what the rows amount to once written: key -> row, later ones over earlier ones."""
    kept = {}
    for item in out:
        if isinstance(item, StudyBatch):
            for place, row in enumerate(item.candles):
                key = ("candle", int(row["symbol"]), int(row["interval_s"]), int(row["open_ns"]))
                if key in kept and kept[key][0]["revision"] > row["revision"]:
                    continue
                kept[key] = (row, tuple(str(values[place]) for values in item.studies.values()))
        elif isinstance(item, WickBatch):
            for wick in item.wicks:
                key = ("wick", wick.symbol, wick.venue, wick.trade_id)
                if key not in kept or wick.readmitted_ns:
                    kept[key] = asdict(wick)
        elif isinstance(item, Correlation):
            kept["correlation", item.interval_s, item.open_ns] = item.matrix.round(12).tolist()
    return {key: str(row) for key, row in kept.items()}


def released(out):
    """Return the archive's rows, in a stable order of their own."""
    rows = [
        (tick.tobytes(), int(release), int(verdict), str(reference))
        for part in out
        if hasattr(part, "release_ns")
        for tick, release, verdict, reference in zip(
            part.ticks, part.release_ns, part.verdict, part.reference, strict=True
        )
    ]
    return sorted(rows)


def run(items, run_with=run_main, batch_size=1, **more):
    out = []
    run_with(flow_of(fresh(items), out, batch_size), **more)
    return out


@pytest.fixture(scope="module")
def undisturbed():
    return run(batches())


def test_everything_comes_out(undisturbed):
    assert len(released(undisturbed)) == ROWS.size
    rows = upserted(undisturbed)
    assert {key[3] for key in rows if key[0] == "wick" and key[1] == 1} == {"1", "2", "3"}
    assert sum(key[0] == "candle" for key in rows) > 4 * SECONDS
    assert sum(key[0] == "correlation" for key in rows) >= 5
    trades_of = ROWS[ROWS["kind"] == TRADE]
    counted = [item for item in undisturbed if isinstance(item, ReleasedTrades)]
    due_ns = np.sort(np.concatenate([item.due_ns for item in counted]))
    np.testing.assert_array_equal(due_ns, np.sort(trades_of["receive_ns"]) + 150 * MS)
    verdicts = sum(item.verdicts for item in counted)
    assert verdicts.sum() == trades_of.size
    assert verdicts[WICK] >= 3
    states = [item for item in undisturbed if isinstance(item, VenueStatus)]
    assert {state.venue for state in states} == set(PLACES)
    assert {state.watermark_ns for state in states} >= {END_OF_INPUT}
    assert any(isinstance(item, np.ndarray) and item.size for item in undisturbed)


def test_two_workers_give_the_same(undisturbed):
    out = run(batches(), cluster_main, addresses=[], proc_id=0, worker_count_per_proc=2)
    assert released(out) == released(undisturbed)
    assert upserted(out) == upserted(undisturbed)


@pytest.mark.parametrize(("step_ms", "batch_size"), [(100.0, 7), (1700.0, 1)])
def test_other_batches_give_the_same(undisturbed, step_ms, batch_size):
    out = run(batches(step_ms), batch_size=batch_size)
    assert released(out) == released(undisturbed)
    assert upserted(out) == upserted(undisturbed)


@pytest.mark.parametrize("stop", [TestingSource.ABORT, TestingSource.EOF])
@pytest.mark.parametrize("at_ms", [4100, 7250, 12_000])
def test_a_run_that_was_stopped_goes_on_where_it_was(tmp_path, undisturbed, stop, at_ms):
    items = batches()
    cut = next(n for n, (_, batch) in enumerate(items) if batch.watermark_ns >= START_NS + at_ms * MS)
    items.insert(cut + 1, stop())
    init_db_dir(tmp_path, 1)
    more = {"epoch_interval": timedelta(0), "recovery_config": RecoveryConfig(str(tmp_path))}
    first, second = [], []
    source = fresh(items)
    run_main(flow_of(source, first), **more)
    # An abort replays the batch it struck; the ticks it had been given are changed already.
    again = [was if isinstance(was, stop) else new for was, new in zip(source, fresh(items), strict=True)]
    run_main(flow_of(again, second), **more)
    assert 0 < len(released(first)) < ROWS.size
    assert len(second) < len(undisturbed)
    assert upserted(first + second) == upserted(undisturbed)
    assert set(released(first) + released(second)) == set(released(undisturbed))


def test_a_drained_run_that_is_resumed_takes_back_its_end(tmp_path, undisturbed):
    """Each run of a drained feed ends with the venues' ends; the next one goes on from before them."""
    items = batches(end=False)
    cut = 3 * 20
    ends = [(VENUES[venue], TickBatch(venue, np.zeros(0, TICK), END_OF_INPUT)) for venue in PLACES]
    drained = [*items[:cut], *ends, TestingSource.EOF(), *items[cut:], *ends]
    init_db_dir(tmp_path, 1)
    more = {"epoch_interval": timedelta(0), "recovery_config": RecoveryConfig(str(tmp_path))}
    source, first, second = fresh(drained), [], []
    run_main(flow_of(source, first), **more)
    run_main(flow_of(source, second), **more)
    last = START_NS + 5000 * MS
    whole = {key: row for key, row in upserted(undisturbed).items() if key[0] == "candle"}
    both = upserted(first + second)
    assert {key for key in both if key[0] == "candle"} == set(whole)
    assert {key: both[key] for key in whole if key[3] >= last + 5 * 10**9} == {
        key: row for key, row in whole.items() if key[3] >= last + 5 * 10**9
    }


def test_studies_are_warm_where_no_state_is_resumed():
    """And only there: a state knows more than the venues' candles."""
    past = np.zeros(60, CANDLE)
    past["symbol"], past["interval_s"] = int(TABLE.of_group(GROUP)[0]), 60
    past["open_ns"] = np.arange(60) * 60_000_000_000
    past["close"] = 100 + np.arange(60) % 7
    next_one = past[-1:].copy()
    next_one["open_ns"] += 60_000_000_000
    closed = steps.Closed(GROUP, next_one, 0)

    def first(state, warm):
        (found,), _ = steps._Studies(state, TABLE, (60,), warm).on_batch([closed])
        return found.batch.studies["macd_histogram"]

    cold = steps.StudyKernel(TABLE.of_group(GROUP), (60,)).snapshot()
    assert not np.isnan(first(None, {GROUP: past})).any()
    assert np.isnan(first(cold, {GROUP: past})).all()
    assert np.isnan(first(None, {})).all()
