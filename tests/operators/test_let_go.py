"""Symbols that come and go while a flow runs: their state is freed, a code's next owner finds nothing of the last."""

import gc
import os
from datetime import timedelta

import bytewax.operators as op
import numpy as np
import psutil
import pytest
from bytewax.dataflow import Dataflow
from bytewax.recovery import RecoveryConfig, init_db_dir
from bytewax.testing import TestingSink, TestingSource, cluster_main, run_main

from market.records import Correlation, ForgedTicks, LetGo, StudyBatch, WickBatch
from market.schema import END_OF_INPUT, TICK, TickBatch, join
from market.symbols import SymbolTable, key_group
from market.venues import VENUES
from operators import steps
from operators.evidence import CELL_NS, CELLS
from operators.forge import ForgePolicy
from operators.horizon import LATE_NS, PROBATION_NS
from operators.sequence import SequenceKernel
from tests.operators.markets import MS, START_NS, Market, by_receipt, part_of, ramp, trades

PLACES = (0, 2, 3)
INTERVALS = (1, 5, 60)
TABLE = SymbolTable(["BTC-USDT", "ETH-USDT", "SOL-USDT"])
LEAVES_MS, RETURNS_MS, END_MS = 6_000, 22_000, 36_000
NO_DELAY = {"delay_ms": (0.0, 0.0)}
"""Event time is then the same whoever else trades: a venue's clock is learned from all its symbols."""


def shifted(rows, ms):
    for column in ("event_ns", "exchange_ns", "receive_ns"):
        rows[column] += ms * MS
    return rows


def old_owner():
    """Six seconds of a wide market with a premium and a wick on code 1."""
    path, premium = ramp(0, 6000, 0.1), {2: 0.03}
    market = Market(PLACES, 6, 20, noise=2e-3, path=path, premium=premium, symbol=1, **NO_DELAY)
    return by_receipt(market.rows(), trades(2, [4500.0, 4503.0], [0.5, 0.55], symbol=1, delay_ms=2, first_id=5))


def new_owner():
    """Another market on the same code, later, with a wick of its own."""
    rows = Market(PLACES, 13, 20, symbol=1, base=7.0, seed=4, first_id=2_000_000, **NO_DELAY).rows()
    spike = trades(0, [9000.0], [0.1], symbol=1, delay_ms=2, base=7.0, first_id=77)
    return shifted(by_receipt(rows, spike), RETURNS_MS)


def others():
    return by_receipt(
        *(Market(PLACES, 35, 12, symbol=code, seed=code, base=50.0, **NO_DELAY).rows() for code in (0, 2))
    )


def batches(rows, step_ms=250.0, let_go=True):
    """Return what a source gives; the first venue tells that code 1 is let go, 100 ms after its last tick."""
    out, done, told = [], 0, not let_go
    marks = sorted({*np.arange(step_ms, END_MS + step_ms, step_ms).tolist(), LEAVES_MS + 200.0})
    for mark in marks:
        watermark_ns = START_NS + int(mark * MS)
        stop = int(np.searchsorted(rows["receive_ns"], watermark_ns, side="right"))
        out += [(VENUES[venue], TickBatch(venue, part_of(rows[done:stop], venue), watermark_ns)) for venue in PLACES]
        if not told and mark >= LEAVES_MS + 200.0:
            out[-len(PLACES)][1].let_go = [1]
            told = True
        done = stop
    assert done == rows.size
    return out + [(VENUES[venue], TickBatch(venue, np.zeros(0, TICK), END_OF_INPUT)) for venue in PLACES]


def flow_of(items, out):
    flow = Dataflow("small")
    source = op.input("venues", flow, TestingSource(items))
    ticks, _, _ = steps.sequence("sequence", source, TABLE)
    forged = steps.forge("forge", ticks, TABLE, ForgePolicy(venues=PLACES))
    closed = steps.candles("candles", forged, TABLE, INTERVALS, 150 * MS)
    studied = steps.studies("studies", closed, TABLE, INTERVALS)
    found = [
        op.key_rm("ticks", steps.released("released", forged)),
        op.key_rm("ticks_let_go", steps.let_go("let_go", forged)),
        steps.wicks("wicks", forged),
        steps.newest("newest", forged),
        steps.with_candles("with_candles", studied),
        steps.correlate("correlate", studied, TABLE, 1, 5),
    ]
    for number, stream in enumerate(found):
        op.output(f"out_{number}", stream, TestingSink(out))
    return flow


def fresh(items):
    """Return the items with ticks of their own: the sequencer changes them in place."""
    return [
        (item[0], TickBatch(item[1].venue, item[1].ticks.copy(), item[1].watermark_ns, let_go=item[1].let_go))
        if isinstance(item, tuple)
        else item
        for item in items
    ]


def run(items, run_with=run_main, **more):
    out = []
    run_with(flow_of(fresh(items), out), **more)
    return out


def facts(out, symbol=None, since_ns=0):
    """Return all that a symbol (or every one) became since a time, as a set; of candles the newest revision."""
    found, candles = set(), {}
    for item in out:
        if isinstance(item, ForgedTicks):
            for row in range(item.ticks.size):
                tick = item.ticks[row]
                if symbol in (None, int(tick["symbol"])) and tick["event_ns"] >= since_ns:
                    columns = (item.verdict, item.reference, item.deviation_bps, item.release_ns)
                    found.add(("tick", tick.tobytes(), *(str(column[row]) for column in columns)))
        elif isinstance(item, StudyBatch):
            for row, candle in enumerate(item.candles):
                if symbol in (None, int(candle["symbol"])) and candle["open_ns"] >= since_ns:
                    key = tuple(int(candle[name]) for name in ("symbol", "interval_s", "open_ns"))
                    values = (str(candle), *(str(column[row]) for column in item.studies.values()))
                    if key not in candles or candles[key][0] <= candle["revision"]:
                        candles[key] = (int(candle["revision"]), *values)
        elif isinstance(item, WickBatch):
            found |= {
                ("wick", str(wick))
                for wick in item.wicks
                if symbol in (None, wick.symbol) and wick.event_ns >= since_ns
            }
        elif isinstance(item, Correlation) and symbol is None and item.open_ns >= since_ns:
            found.add(("corr", item.open_ns, str(item.symbols.tolist()), str(item.matrix.round(9).tolist())))
    return found | {("candle", key, *value) for key, value in candles.items()}


ROWS = by_receipt(old_owner(), new_owner(), others())
NEW_NS = START_NS + RETURNS_MS * MS


@pytest.fixture(scope="module")
def found():
    return run(batches(ROWS))


def test_a_code_s_next_owner_has_what_it_would_have_had_on_a_fresh_code(found):
    alone = run(batches(by_receipt(new_owner(), others()), let_go=False))
    mine = facts(found, 1, NEW_NS)
    assert {fact[0] for fact in mine} == {"tick", "candle", "wick"}
    assert mine == facts(alone, 1, NEW_NS)
    matrices = {fact for fact in facts(found, since_ns=NEW_NS) if fact[0] == "corr"}
    assert len(matrices) > 5
    assert matrices == {fact for fact in facts(alone, since_ns=NEW_NS) if fact[0] == "corr"}


def test_nothing_of_the_old_owner_is_lost(found):
    """Its forming candles are given as they were; the symbols beside it notice nothing."""
    kept = run(batches(by_receipt(old_owner(), others()), let_go=False))
    before = {fact for fact in facts(found, 1) - facts(found, 1, NEW_NS) if fact[0] != "candle"}
    assert before == {fact for fact in facts(kept, 1) if fact[0] != "candle"}
    old = {fact[1][1:]: fact for fact in facts(found, 1) if fact[0] == "candle" and fact[1][2] < NEW_NS - 5 * 10**9}
    ends = {fact[1][1:]: fact for fact in facts(kept, 1) if fact[0] == "candle"}
    assert old.keys() == {key for key in ends if key[1] <= START_NS + LEAVES_MS * MS}
    assert {key: fact[2:] for key, fact in old.items() if key[0] < 60} == {
        key: ends[key][2:] for key in old if key[0] < 60
    }
    for symbol in (0, 2):
        assert facts(found, symbol) == facts(kept, symbol)


def test_each_store_is_told_once_and_after_all_that_it_was_given(found):
    told = [(item.of, item.symbols) for item in found if isinstance(item, LetGo)]
    assert sorted(told) == [("corr", [1]), ("ind", [1]), ("ticks", [1]), ("tk", [1])]
    for of, kind, symbols in (
        ("tk", np.ndarray, lambda item: item["symbol"]),
        ("ind", StudyBatch, lambda item: item.candles["symbol"]),
        ("corr", Correlation, lambda item: item.symbols),
    ):
        at = next(n for n, item in enumerate(found) if isinstance(item, LetGo) and item.of == of)
        has = [n for n, item in enumerate(found) if isinstance(item, kind) and 1 in symbols(item)]
        assert min(has) < at < max(has), of
        resumed = min(n for n in has if n > at)
        item = found[resumed]
        if kind is np.ndarray:
            assert item["seq"][item["symbol"] == 1].tolist() == [1]
        elif kind is StudyBatch:
            assert item.candles["open_ns"][item.candles["symbol"] == 1].min() >= NEW_NS - 60 * 10**9


@pytest.mark.parametrize("step_ms", [100.0, 1700.0, 4000.0])
def test_other_batches_give_the_same(found, step_ms):
    # The notice's own time is part of the input: it is the same in all.
    assert facts(run(batches(ROWS, step_ms))) == facts(found)


def test_nothing_is_judged_again_by_then():
    assert steps.SETTLE_NS > LATE_NS + PROBATION_NS + 200 * MS
    assert steps.SETTLE_NS > CELLS * CELL_NS


def test_two_workers_give_the_same(found):
    out = run(batches(ROWS), cluster_main, addresses=[], proc_id=0, worker_count_per_proc=2)
    assert facts(out) == facts(found)


def resumed(folder, items, at_ms):
    """Return what comes of some items if the run is stopped and resumed."""
    cut = next(n for n, (_, batch) in enumerate(items) if batch.watermark_ns >= START_NS + at_ms * MS)
    items.insert(cut + 1, TestingSource.EOF())
    init_db_dir(folder, 1)
    more = {"epoch_interval": timedelta(0), "recovery_config": RecoveryConfig(str(folder))}
    out, source = [], fresh(items)
    run_main(flow_of(source, out), **more)
    run_main(flow_of(source, out), **more)
    return out


@pytest.mark.parametrize("at_ms", [5000, 16_600, 23_000])
def test_a_run_that_was_stopped_goes_on_where_it_was(tmp_path, found, at_ms):
    assert facts(resumed(tmp_path, batches(ROWS, 500.0), at_ms)) == facts(found)


def test_a_run_stopped_before_it_had_forgotten_forgets_when_it_is_told_again(tmp_path, found):
    items = batches(ROWS, 500.0)
    again = next(batch for _, batch in items if batch.watermark_ns >= START_NS + 8500 * MS)
    again.let_go = [1]
    out = resumed(tmp_path, items, 8000)
    assert facts(out, 1, NEW_NS) == facts(found, 1, NEW_NS)
    assert [item.symbols for item in out if isinstance(item, LetGo)] == [[1]] * 4


class Chain:
    """Everything between the source and the sinks, of one key group and one venue, without Bytewax."""

    def __init__(self, table, group):
        policy = ForgePolicy(venues=(0,))
        self.sequence = SequenceKernel(0, table.groups, table.salts)
        self.steps = [
            steps._Forge(None, table, policy),
            steps._Candles(None, table, INTERVALS, 150 * MS),
            steps._Studies(None, table, INTERVALS, {}),
            steps._Correlate(None, lambda: steps.CorrelationKernel(len(table), 1, 5, groups=[group])),
        ]
        self.group = group

    def feed(self, batch):
        """Return what the steps make of a batch, a list for each."""
        values = [steps.GroupSlice(self.group, self.sequence.add(batch).slices[self.group])]
        out = []
        for step in self.steps:
            values = list(step.on_batch(values)[0]) if values else []
            out.append(values)
        return out

    @property
    def sizes(self):
        return [len(self.sequence.snapshot()), *(len(step.snapshot()) for step in self.steps)]


def test_a_thousand_listings_and_delistings_leave_memory_and_state_flat():
    group = 3
    names = [name for name in (f"COIN{number}-USDT" for number in range(9_000)) if key_group(name) == group][:1001]
    table = SymbolTable(names[:1], spare=2)
    chain = Chain(table, group)
    begin_ns, closed, told, sizes, rss = START_NS, 0, 0, [], []
    process = psutil.Process(os.getpid())
    for number, name in enumerate(names[1:]):
        code = table.take(name)
        stays = Market(venues=(0,), seconds=1.5, rate=14, symbol=0, seed=1).rows()
        comes = Market(venues=(0,), seconds=1.5, rate=14, symbol=code, seed=number, base=1.0 + number).rows()
        rows = by_receipt(stays, comes)
        rows = shifted(rows, (begin_ns - START_NS) // MS)
        for rows_now, at_s, let_go in ((rows, 4, [code]), (rows[:0], 14.5, [])):
            batch = TickBatch(0, join([rows_now]), begin_ns + int(at_s * 10**9), let_go=let_go)
            forged, candles, _, found = chain.feed(batch)
            closed += sum(int((item.candles["symbol"] == code).sum()) for item in candles)
            prices = [item.candles["close"][item.candles["symbol"] == code] for item in candles]
            assert all((np.abs(price / (1.0 + number) - 1) < 0.01).all() for price in prices)
            told += sum(symbols == [code] for item in forged for _, symbols in item.let_go)
            told += sum(isinstance(item, LetGo) and item.symbols == [code] for item in found)
        table.free(code)
        begin_ns += 15 * 10**9
        if number % 50 == 49:
            gc.collect()
            sizes.append(chain.sizes)
            rss.append(process.memory_info().rss)
    assert told == 2 * 1000
    assert closed >= 3 * 1000
    assert len(table.codes) == 1
    sizes = np.array(sizes)
    # The sequencer's remembered ids, and the stayer's candles of a minute, have their full size by a fifth of the way.
    assert (sizes[4:].max(axis=0)[1:] <= 1.05 * sizes[3:8].max(axis=0)[1:]).all()
    assert rss[-1] - rss[7] < 4 << 20
