"""Sequencing of one venue: duplicates, key groups, event time, status."""

from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from market.schema import (
    BACKFILL,
    END_OF_INPUT,
    LAGGING,
    QUOTE,
    REPLAYED,
    TICK,
    TRADE,
    TRADE_ID_BYTES,
    UNSTAMPED,
    Gap,
    TickBatch,
    VenueCounters,
    empty_ticks,
)
from market.symbols import KEY_GROUPS
from operators import sequence
from operators.sequence import SequenceKernel, trade_keys

START_NS = 1_790_000_000_000_000_000
MS = 1_000_000
GROUPS = np.array([3, 3, 5, 0])
VENUE = 2


def batch(ids, symbols=None, watermark_ms=0.0, at_ms=None, lag_ms=0.0, flags=0, kind=TRADE, status=None):
    rows = empty_ticks(len(ids))
    rows["kind"], rows["venue"], rows["flags"] = kind, VENUE, flags
    rows["symbol"] = 0 if symbols is None else symbols
    rows["trade_id"] = [ident if isinstance(ident, bytes) else str(ident).encode() for ident in ids]
    rows["receive_ns"] = START_NS + (np.broadcast_to(0 if at_ms is None else at_ms, len(ids)) * MS).astype(np.int64)
    rows["exchange_ns"] = rows["receive_ns"] - (np.broadcast_to(lag_ms, len(ids)) * MS).astype(np.int64)
    rows["exchange_ns"][rows["flags"] & UNSTAMPED != 0] = 0
    return TickBatch(VENUE, rows, START_NS + int(watermark_ms * MS), status)


def kernel():
    return SequenceKernel(VENUE, GROUPS)


def ids_of(done):
    return [ident.decode() for part in done.slices for ident in part.ticks["trade_id"]]


def test_duplicates_within_a_batch_and_across_batches_are_dropped_and_counted():
    sequencer = kernel()
    assert ids_of(sequencer.add(batch([1, 2, 1, 3, 3, 3]))) == ["1", "2", "3"]
    done = sequencer.add(batch([3, 4, 2], watermark_ms=2000))
    assert ids_of(done) == ["4"]
    assert done.status.duplicates == 5


def test_the_same_id_of_another_symbol_is_another_trade():
    assert ids_of(kernel().add(batch([7, 7, 7], symbols=[0, 1, 2]))) == ["7"] * 3


def test_rows_without_id_and_quotes_are_never_duplicates():
    sequencer = kernel()
    for _ in range(2):
        assert len(ids_of(sequencer.add(batch([b"", b"", b""])))) == 3
        assert len(ids_of(sequencer.add(batch([5, 5], kind=QUOTE)))) == 2


@given(st.lists(st.binary(min_size=1, max_size=TRADE_ID_BYTES), min_size=1, max_size=60))
def test_any_ids_are_told_apart(ids):
    ids = [ident.replace(b"\0", b"0") for ident in ids]
    got = kernel().add(batch(ids)).slices[3].ticks["trade_id"].tolist()
    assert got == list(dict.fromkeys(ids))


@pytest.mark.parametrize("length", range(1, TRADE_ID_BYTES + 1))
def test_every_byte_of_an_id_counts(length):
    ids = [b"a" * length, *(b"a" * place + b"b" + b"a" * (length - place - 1) for place in range(length))]
    rows = batch(ids).ticks
    assert len(set(trade_keys(rows, GROUPS).tolist())) == length + 1
    assert trade_keys(rows, GROUPS).tolist() == trade_keys(rows[::-1].copy(), GROUPS).tolist()[::-1]


def test_generations_bound_memory_and_still_know_the_ids_before_them(monkeypatch):
    monkeypatch.setattr(sequence, "REMEMBERED_IDS", 10)
    sequencer = kernel()
    for number in range(0, 40, 4):
        sequencer.add(batch(range(number, number + 4)))
        assert len(sequencer._young.known) + len(sequencer._old.known) <= 20
        for last in range(max(number - 6, 0), number + 4):
            assert ids_of(sequencer.add(batch([last]))) == []
    assert ids_of(sequencer.add(batch([0, 1]))) == ["0", "1"]


@given(st.lists(st.integers(0, 40), max_size=80), st.sets(st.integers(1, 79)), st.integers(0, 79))
def test_what_is_dropped_does_not_depend_on_batches_or_restarts(ids, cuts, restart):
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(sequence, "REMEMBERED_IDS", 8)
        whole = ids_of(kernel().add(batch(ids)))
        sequencer, got = kernel(), []
        bounds = [0, *sorted(c for c in {*cuts, restart} if c < len(ids)), len(ids)]
        for a, b in pairwise(bounds):
            if a == restart:
                state = sequencer.snapshot()
                sequencer = kernel()
                sequencer.restore(state)
            got += ids_of(sequencer.add(batch(ids[a:b])))
        assert got == whole


def test_every_group_gets_a_slice_with_the_watermark_and_its_rows_in_order():
    done = kernel().add(batch([1, 2, 3, 4, 5], symbols=[2, 0, 1, 2, 3], watermark_ms=5))
    assert len(done.slices) == KEY_GROUPS
    assert {part.watermark_ns for part in done.slices} == {START_NS + 5 * MS}
    assert {part.venue for part in done.slices} == {VENUE}
    got = {g: part.ticks["trade_id"].tolist() for g, part in enumerate(done.slices) if part.ticks.size}
    assert got == {0: [b"5"], 3: [b"2", b"3"], 5: [b"1", b"4"]}


def test_an_empty_batch_still_carries_the_watermark():
    done = kernel().add(TickBatch(VENUE, np.zeros(0, TICK), END_OF_INPUT))
    assert [part.watermark_ns for part in done.slices] == [END_OF_INPUT] * KEY_GROUPS
    assert all(part.ticks.size == 0 for part in done.slices)


def test_event_times_are_corrected_and_never_after_receipt():
    sequencer = kernel()
    ticks = sequencer.add(batch(range(4), at_ms=[0, 10, 20, 30], lag_ms=[105, 100, 101, 130])).slices[3].ticks
    late_ms = (ticks["receive_ns"] - ticks["event_ns"]) // MS
    assert late_ms.tolist() == [0, 0, 1, 30]


def test_status_comes_once_a_second_of_watermark_with_the_session_s_counts():
    sequencer = kernel()
    counters = VenueCounters(state="live", messages=12, rejects=3, last_reject="bad price: {}")
    marks = [0, 300, 999, 1000, 1500, 2100, 2200, 5000]
    given_ms = []
    for mark in marks:
        done = sequencer.add(batch([mark], at_ms=mark, watermark_ms=mark, lag_ms=50, status=counters))
        if done.status is not None:
            given_ms.append(mark)
            assert (done.status.venue, done.status.state, done.status.messages) == (VENUE, "live", 12)
            assert (done.status.rejects, done.status.last_reject) == (3, "bad price: {}")
            assert (done.status.clock_offset_ns, done.status.lag_ns) == (50 * MS, 0)
            assert done.status.watermark_ns == START_NS + mark * MS
    assert given_ms == [0, 1000, 2100, 5000]


def test_the_lag_is_the_median_lateness_beyond_the_least_delay():
    sequencer = kernel()
    sequencer.add(batch(range(5), at_ms=[1, 2, 3, 4, 5], lag_ms=[20, 20, 27, 27, 60], watermark_ms=10))
    done = sequencer.add(batch([], watermark_ms=1100))
    assert done.status.lag_ns == 7 * MS


UNSTAMPED_AT = [5, 1010, 1012, 1031]


def test_unstamped_ticks_behind_a_late_stamped_one_are_flagged_as_perhaps_old():
    at_ms = [0, 5, 1000, 1010, 1012, 1030, 1031]
    lag_ms = [10, 0, 400, 0, 0, 12, 0]
    flags = [UNSTAMPED if at in UNSTAMPED_AT else 0 for at in at_ms]
    whole = kernel().add(batch(range(7), at_ms=at_ms, lag_ms=lag_ms, flags=flags)).slices[3].ticks
    assert ((whole["flags"] & LAGGING) > 0).tolist() == [False, False, False, True, True, False, False]
    sequencer, split = kernel(), []
    for row in range(7):
        done = sequencer.add(batch([row], at_ms=at_ms[row], lag_ms=lag_ms[row], flags=flags[row]))
        split += done.slices[3].ticks["flags"].tolist()
        state = sequencer.snapshot()
        sequencer = kernel()
        sequencer.restore(state)
    assert split == whole["flags"].tolist()


def test_one_late_tick_does_not_speak_for_long():
    sequencer = kernel()
    sequencer.add(batch([1, 2], at_ms=[0, 100], lag_ms=[0, 400]))
    later = sequencer.add(batch([3, 4], at_ms=[1099, 1101], flags=UNSTAMPED)).slices[3].ticks
    assert ((later["flags"] & LAGGING) > 0).tolist() == [True, False]


@pytest.mark.parametrize("flag", [REPLAYED, BACKFILL])
def test_history_says_nothing_of_the_link(flag):
    sequencer = kernel()
    sequencer.add(batch([1], at_ms=0))
    rows = sequencer.add(batch([2, 3], at_ms=[10, 11], lag_ms=[60_000, 0], flags=[flag, UNSTAMPED])).slices[3].ticks
    assert rows["event_ns"].tolist() == [START_NS + (10 - 60_000) * MS, START_NS + 11 * MS]
    assert not (rows["flags"] & LAGGING).any()


def test_a_new_owner_of_a_code_may_use_the_ids_of_the_old_one():
    salts = np.array([10, 11, 12, 13])
    sequencer = SequenceKernel(VENUE, GROUPS, salts)
    assert ids_of(sequencer.add(batch([1, 2], symbols=[0, 1]))) == ["1", "2"]
    salts[0] = 14
    assert ids_of(sequencer.add(batch([1, 2], symbols=[0, 1]))) == ["1"]


def test_symbols_that_are_let_go_are_told_to_their_group_alone():
    done = kernel().add(TickBatch(VENUE, batch([1, 2], symbols=[0, 2]).ticks, START_NS, let_go=[1, 3, 0]))
    assert {g: part.let_go for g, part in enumerate(done.slices) if part.let_go} == {3: [1, 0], 0: [3]}
    assert [part.ticks.size for part in done.slices] == [0, 0, 0, 1, 0, 1, 0, 0]
    again = kernel().add(TickBatch(VENUE, np.zeros(0, TICK), START_NS, let_go=[2]))
    assert {g: part.let_go for g, part in enumerate(again.slices) if part.let_go} == {5: [2]}


def test_gaps_pass_through():
    gaps = [Gap(VENUE, 0, 1, 2, 3, filled=False)]
    assert kernel().add(TickBatch(VENUE, np.zeros(0, TICK), START_NS, None, gaps)).gaps == gaps
