import random
from collections import defaultdict
from datetime import UTC, datetime

import numpy as np
import pytest
from bytewax import operators as op
from bytewax.dataflow import Dataflow
from bytewax.testing import TestingSink, cluster_main

from connectors import replay as module
from connectors.recording import ticks_to_frame
from connectors.replay import EndOfRecording, Recording, ReplaySource
from market.schema import END_OF_INPUT
from market.symbols import SymbolTable
from market.venues import VENUE_CODES, VENUES
from tests.connectors.feeds import Heard, check_promises
from tests.connectors.ticks import NAMES, START_NS, ticks_of

TABLE = SymbolTable(NAMES)
ROWS = 4_000


@pytest.fixture(autouse=True)
def small_steps(monkeypatch):
    """Many steps of a small recording, and chunks that end anywhere."""
    monkeypatch.setattr(module, "STEP_ROWS", 50)
    monkeypatch.setattr(module, "CHUNK_ROWS", 333)
    monkeypatch.setattr(module, "AHEAD_STEPS", 5)


@pytest.fixture
def ticks():
    return ticks_of(ROWS)


@pytest.fixture
def path(tmp_path, ticks):
    return write(tmp_path / "ticks.parquet", ticks)


def write(path, ticks):
    ticks_to_frame(ticks, NAMES).write_parquet(path)
    return path


def source_of(path, venues=VENUES, **options):
    return ReplaySource(path, TABLE, venues, **options)


def build(source, states=None):
    return {name: source.build_part("venues", name, (states or {}).get(name)) for name in source.list_parts()}


def ask(part, heard):
    """Ask a partition once."""
    try:
        heard.batches += [batch for _, batch in part.next_batch()]
    except StopIteration:
        heard.over = True


def play(parts, order=None):
    """Drive partitions to their ends, in turn or as `order` picks them; return what each handed out."""
    heard = {name: Heard() for name in parts}
    for _ in range(100_000):
        left = [name for name in parts if not heard[name].over]
        if not left:
            return heard
        for name in left if order is None else [order(left)]:
            ask(parts[name], heard[name])
    return pytest.fail("the replay does not end")


def check_all(heard, ticks):
    """Assert that every row went out exactly once, with its venue, under the right watermarks."""
    for name, h in heard.items():
        check_promises(name, h.batches)
        assert h.batches[-1].watermark_ns == END_OF_INPUT
        wanted = ticks[ticks["venue"] == VENUE_CODES[name]]
        assert b"".join(batch.ticks.tobytes() for batch in h.batches) == wanted.tobytes()


def test_at_full_speed_every_row_goes_out_once(path, ticks):
    heard = play(build(source_of(path)))
    check_all(heard, ticks)
    assert all(h.states[-1] == "ended" for h in heard.values())
    assert sum(h.batches[-1].status.messages for h in heard.values()) == ROWS


def test_all_venues_get_the_same_watermarks(path):
    heard = play(build(source_of(path)))
    assert len({tuple(batch.watermark_ns for batch in h.batches) for h in heard.values()}) == 1


@pytest.mark.parametrize("seed", range(5))
def test_any_order_of_asking_gives_the_same(path, ticks, seed):
    check_all(play(build(source_of(path)), random.Random(seed).choice), ticks)


def test_a_step_never_splits_equal_receive_times(path, ticks):
    heard = play(build(source_of(path)))
    ends = sorted({batch.watermark_ns for h in heard.values() for batch in h.batches} - {END_OF_INPUT})
    assert len(ends) > ROWS / 100
    assert set(ends) <= set(ticks["receive_ns"].tolist())


@pytest.mark.parametrize("rows", [332, 333, 334, 700])
def test_one_receive_time_may_fill_more_than_a_chunk(tmp_path, rows):
    ticks = ticks_of(rows)
    ticks["receive_ns"][10:] = ticks["receive_ns"][10]
    check_all(play(build(source_of(write(tmp_path / "same.parquet", ticks)))), ticks)


def test_no_partition_runs_far_ahead_of_the_slowest(path, ticks):
    parts = build(source_of(path))
    heard = {name: Heard() for name in parts}
    fast = [name for name in parts if name != "kraken"]
    for _ in range(50):
        for name in fast:
            ask(parts[name], heard[name])
    assert all(len(heard[name].batches) == module.AHEAD_STEPS for name in fast)
    assert all(parts[name].next_awake() is not None for name in fast)  # no busy waiting
    assert parts["kraken"].next_awake() is None
    ask(parts["kraken"], heard["kraken"])
    for name in fast:
        ask(parts[name], heard[name])
    assert all(len(heard[name].batches) == module.AHEAD_STEPS + 1 for name in fast)
    for name, rest in play(parts).items():
        heard[name].batches += rest.batches
    check_all(heard, ticks)


@pytest.mark.parametrize("begun", [1, 3, 400])
def test_a_partition_built_after_others_have_begun_misses_nothing(path, ticks, begun):
    """Workers build theirs when they please; 400: the others have even ended."""
    source = source_of(path)
    parts = {name: source.build_part("venues", name, None) for name in VENUES[:3]}
    heard = {name: Heard() for name in VENUES}
    for _ in range(begun):
        for name, part in parts.items():
            ask(part, heard[name])
    late = {name: source.build_part("venues", name, None) for name in VENUES[3:]}
    for name, rest in play({**parts, **late}).items():
        heard[name].batches += rest.batches
    check_all(heard, ticks)


def test_a_process_may_have_some_of_the_venues(path, ticks):
    """In a cluster the others are elsewhere: the steps are the same, nobody waits for them."""
    source = source_of(path)
    some = play({name: source.build_part("venues", name, None) for name in ("okx", "kucoin")})
    check_all(some, ticks)
    whole = play(build(source_of(path)))
    assert [b.watermark_ns for b in some["okx"].batches] == [b.watermark_ns for b in whole["okx"].batches]


def test_a_run_may_leave_out_venues_and_symbols(path, ticks, caplog):
    table = SymbolTable(["BTC-USDT", "ETH-USDT"])
    source = ReplaySource(path, table, ("okx", "kucoin"))
    heard = play(build(source))
    for name in ("okx", "kucoin"):
        rows = np.concatenate([batch.ticks for batch in heard[name].batches])
        wanted = ticks[(ticks["venue"] == VENUE_CODES[name]) & np.isin(ticks["symbol"], [1, 2])]
        assert rows["trade_id"].tolist() == wanted["trade_id"].tolist()
        assert [table.names[code] for code in rows["symbol"]] == [NAMES[code] for code in wanted["symbol"]]


@pytest.mark.parametrize("speed", [None, 1e5])
@pytest.mark.parametrize("stop_after", [0, 1, 7, 60])
def test_resuming_from_a_snapshot_continues_exactly(path, ticks, stop_after, speed):
    wall = Wall()
    parts = build(source_of(path, speed=speed, wall_ns=wall))
    before = {name: Heard() for name in parts}
    for _ in range(stop_after):
        wall.now_ns += 10**9
        for name in parts:
            ask(parts[name], before[name])
    states = {name: part.snapshot() for name, part in parts.items()}
    after = play(build(source_of(path, speed=speed, wall_ns=Wall(10**9)), states))
    for name, h in after.items():
        h.batches = before[name].batches + h.batches
    check_all(after, ticks)


def test_the_state_of_an_ended_replay_holds_nothing_more(path):
    parts = build(source_of(path))
    play(parts)
    states = {name: part.snapshot() for name, part in parts.items()}
    again = play(build(source_of(path), states))
    assert all([batch.watermark_ns for batch in h.batches] == [END_OF_INPUT] for h in again.values())


class Wall:
    """A wall clock that is moved by hand, or by a step at each look."""

    def __init__(self, step_ns=0):
        self.now_ns = 10**18
        self.step_ns = step_ns

    def __call__(self):
        self.now_ns += self.step_ns
        return self.now_ns


def test_a_paced_replay_gives_rows_when_it_is_their_time(tmp_path):
    """Two recorded seconds at twice the speed, with a silence in it, take one; a step goes out at its end."""
    ticks = ticks_of(300, venues=1, step_ns=1)
    ticks["receive_ns"] = START_NS + np.arange(300) * 1_000_000
    ticks["receive_ns"][150:] += 1_700_000_000
    wall = Wall()
    source = source_of(write(tmp_path / "paced.parquet", ticks), ("binance",), speed=2.0, wall_ns=wall)
    parts = build(source)
    heard = Heard()

    def given_after(milliseconds):
        wall.now_ns = 10**18 + milliseconds * 1_000_000
        for _ in range(300):
            ask(parts["binance"], heard)
        return heard.rows

    assert given_after(0) == 0
    assert 10 <= given_after(5) <= 11
    assert 20 <= given_after(11) <= 22
    assert given_after(80) == 150  # up to the silence, without waiting for what follows it
    assert given_after(900) == 150
    assert 150 < given_after(935) < 300
    assert given_after(1_100) == 300
    assert heard.over


def test_a_paced_replay_resumes_at_once(path, ticks):
    """Not after the time that the part handed out before had taken."""
    done_ns = int(ticks["receive_ns"][3_000])
    wall = Wall()
    parts = build(source_of(path, speed=1.0, wall_ns=wall), dict.fromkeys(VENUES, done_ns))
    heard = {name: Heard() for name in parts}
    for _ in range(400):
        for name, part in parts.items():
            ask(part, heard[name])
    wall.now_ns += 20_000_000
    for name, part in parts.items():
        ask(part, heard[name])
    assert all(done_ns < h.batches[0].watermark_ns < done_ns + 20_000_000 for h in heard.values())


def test_a_paced_partition_sleeps(path):
    parts = build(source_of(path, speed=1.0, wall_ns=Wall()))
    assert all(part.next_awake() > datetime.now(UTC) for part in parts.values())


def test_stop_ends_the_input_and_the_state_knows_what_flowed(path, ticks):
    wall = Wall()
    source = source_of(path, speed=0.001, wall_ns=wall)
    parts = build(source)
    heard = {name: Heard() for name in parts}
    for _ in range(3):
        for name, part in parts.items():
            ask(part, heard[name])
    source.stop()
    for name, rest in play(parts).items():
        heard[name].batches += rest.batches
        check_promises(name, heard[name].batches)
        assert heard[name].batches[-1].watermark_ns == END_OF_INPUT
        heard[name].batches.pop()
    states = {name: part.snapshot() for name, part in parts.items()}
    for name, rest in play(build(source_of(path), states)).items():
        rest.batches = heard[name].batches + rest.batches
        check_all({name: rest}, ticks)


def test_counters_handed_out_do_not_change_any_more(path):
    heard = play(build(source_of(path)))
    counts = [batch.status.messages for batch in heard["okx"].batches if batch.status]
    states = heard["okx"].states
    assert counts == sorted(counts)
    assert len(set(counts)) == len(counts) > 2
    assert states == ["live"] * (len(states) - 1) + ["ended"]


def test_rejected_rows_are_counted_and_named_once(tmp_path, ticks, caplog):
    ticks["price"][np.flatnonzero(ticks["kind"] == 0)[::10]] = -1.0
    recording = Recording(write(tmp_path / "bad.parquet", ticks), TABLE, VENUES, None)
    for name in VENUES:
        recording.join(name)
    left = set(VENUES)
    while left:
        for name in sorted(left):
            try:
                recording.take(name)
            except EndOfRecording:
                left.discard(name)
    assert recording.rejects == {"bad price": -(-int((ticks["kind"] == 0).sum()) // 10)}
    assert caplog.text.count("bad price") == 1


def test_an_empty_recording_ends_at_once(tmp_path):
    heard = play(build(source_of(write(tmp_path / "empty.parquet", ticks_of(0)), ("okx",))))
    assert [batch.watermark_ns for batch in heard["okx"].batches] == [END_OF_INPUT]


@pytest.mark.parametrize("workers", [1, 2, 3])
def test_in_a_dataflow(path, ticks, workers):
    """Worker threads build and read as they are scheduled."""
    out = []
    flow = Dataflow("replay")
    op.output("out", op.input("venues", flow, source_of(path)), TestingSink(out))
    cluster_main(flow, [], 0, worker_count_per_proc=workers)
    heard = defaultdict(Heard)
    for name, batch in out:
        heard[name].batches.append(batch)
    assert set(heard) == set(VENUES)
    check_all(heard, ticks)
