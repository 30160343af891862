"""Study kernel: incremental equals recomputed, with late candles, splits and restarts."""

from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from market.records import CANDLE, STUDIES
from market.schema import empty_ticks
from operators.candles import NS_PER_S, CandleKernel, amendable
from operators.indicators import INDICATORS, kernel
from operators.indicators.kernel import StudyKernel

SYMBOLS = np.array([3, 4, 8])
START_NS = 1_700_006_400 * NS_PER_S


def candle(bucket, close, *, symbol=3, interval_s=60, as_of=None, revision=0):
    row = np.zeros(1, CANDLE)
    row["symbol"], row["interval_s"], row["close"], row["revision"] = symbol, interval_s, close, revision
    row["open_ns"] = START_NS + bucket * interval_s * NS_PER_S
    row["as_of_ns"] = START_NS + (bucket + 1 if as_of is None else as_of) * interval_s * NS_PER_S
    return row


def recomputed(closes):
    """Indicators of a plain series, from nothing."""
    state, out = np.zeros(1, kernel.STATE), []
    for close in closes:
        state = kernel.step(state, candle(0, close))
        out.append(kernel.values(state)[0])
    return np.array(out).reshape(-1, len(STUDIES))


def dump(batches):
    rows = b"".join(batch.candles.tobytes() for batch in batches)
    return rows, [np.concatenate([batch.studies[name] for batch in batches]).tobytes() for name in STUDIES]


def final(batches):
    """The newest row of every candle: (symbol, interval, open) -> close, revision, indicators."""
    out = {}
    for batch in batches:
        for number, row in enumerate(batch.candles):
            key = (int(row["symbol"]), int(row["interval_s"]), int(row["open_ns"]))
            values = tuple(float(batch.studies[name][number]) for name in STUDIES)
            out[key] = (float(row["close"]), int(row["revision"]), values)
    return out


def test_the_table_holds_every_study_in_order():
    assert tuple(column for indicator in INDICATORS for column in indicator.COLUMNS) == STUDIES


@st.composite
def histories(draw):
    """Rounds of one moment each: candles that close, and within the horizon amended or first made ones."""
    rng = np.random.default_rng(draw(st.integers(0, 999)))
    rounds, closes, revisions = [], {}, {}
    for bucket in range(draw(st.integers(30, 90))):
        parts = []
        oldest = bucket - amendable(60) + 1
        for symbol in SYMBOLS.tolist():
            if rng.random() < 0.15:
                late = int(rng.integers(max(0, oldest), bucket + 1))
                amended = range(late, min(bucket, late + int(rng.integers(1, 4))))
            else:
                amended = range(0)
            for at in [*amended, *([bucket] if rng.random() < 0.9 else [])]:
                key = (symbol, 60, START_NS + at * 60 * NS_PER_S)
                revisions[key] = revisions.get(key, -1) + 1
                closes[key] = round(float(100 + rng.normal()), 2)
                row = candle(at, closes[key], symbol=symbol, as_of=bucket + 1, revision=revisions[key])
                parts.append(row)
        if parts:
            rounds.append(np.concatenate(parts))
    return rounds, closes, revisions


@settings(max_examples=40, deadline=None)
@given(histories(), st.data())
def test_incremental_equals_recomputed_however_it_is_cut(history, data):
    rounds, closes, revisions = history
    studies = StudyKernel(SYMBOLS, (60,))
    batches = [studies.add(rows) for rows in rounds]
    got = final(batches)
    assert studies.late == 0
    assert {key: value[:2] for key, value in got.items()} == {key: (closes[key], revisions[key]) for key in closes}
    for symbol in SYMBOLS.tolist():
        keys = sorted(key for key in closes if key[0] == symbol)
        expected = recomputed([closes[key] for key in keys])
        np.testing.assert_array_equal(np.array([got[key][2] for key in keys]).reshape(expected.shape), expected)

    cuts = sorted(data.draw(st.sets(st.integers(1, len(rounds)), max_size=6)) | {0, len(rounds)})
    resumed, parts = StudyKernel(SYMBOLS, (60,)), []
    for start, stop in pairwise(cuts):
        parts.append(resumed.add(np.concatenate(rounds[start:stop])))
        snapshot = resumed.snapshot()
        resumed = StudyKernel(SYMBOLS, (60,))
        resumed.restore(snapshot)
    assert dump(parts) == dump(batches)


def test_an_amended_candle_emits_the_ones_after_it_again():
    studies = StudyKernel(SYMBOLS, (60,))
    closes = [float(100 + number % 7) for number in range(20)]
    for bucket, close in enumerate(closes):
        studies.add(candle(bucket, close))
    batch = studies.add(candle(17, 150.0, as_of=20, revision=1))
    assert ((batch.candles["open_ns"] - START_NS) // (60 * NS_PER_S)).tolist() == [17, 18, 19]
    assert batch.candles["revision"].tolist() == [1, 0, 0]
    assert batch.candles["close"].tolist() == [150.0, *closes[18:]]
    expected = recomputed([*closes[:17], 150.0, *closes[18:]])[17:]
    np.testing.assert_array_equal(np.stack([batch.studies[name] for name in STUDIES], axis=1), expected)


def test_an_amendment_that_leaves_the_close_moves_no_other_candle():
    studies = StudyKernel(SYMBOLS, (60,))
    for bucket in range(20):
        studies.add(candle(bucket, 100.0 + bucket))
    assert studies.add(candle(17, 117.0, as_of=20, revision=1)).candles.size == 1


@pytest.mark.parametrize("bucket", [33, 34])  # of 40 candles the memory holds 34 to 39, and no state before 34
def test_a_candle_older_than_the_memory_has_no_indicators_and_is_counted(bucket):
    studies = StudyKernel(SYMBOLS, (60,))
    for earlier in range(40):
        studies.add(candle(earlier, 100.0 + earlier % 5))
    before = studies.snapshot()
    batch = studies.add(np.concatenate([candle(bucket, 1.0, as_of=41, revision=1), candle(40, 103.0)]))
    assert batch.candles["close"].tolist() == [1.0, 103.0]
    assert np.isnan([batch.studies[name][0] for name in STUDIES]).all()
    assert studies.late == 1
    restored = StudyKernel(SYMBOLS, (60,))
    restored.restore(before)
    assert batch.studies["macd"][1] == restored.add(candle(40, 103.0)).studies["macd"][0]


def test_intervals_and_symbols_are_apart_and_sorted():
    studies = StudyKernel(SYMBOLS, (1, 60))
    rows = [candle(59, 5.0, symbol=8, interval_s=1), candle(59, 6.0, symbol=3, interval_s=1), candle(0, 7.0, symbol=4)]
    batch = studies.add(np.concatenate(rows))
    assert batch.candles["interval_s"].tolist() == [1, 1, 60]
    assert batch.candles["symbol"].tolist() == [3, 8, 4]


def test_warm_candles_make_the_first_one_valid():
    history = np.concatenate([candle(bucket, 100.0 + bucket % 9, symbol=s) for s in (8, 3) for bucket in range(40)])
    history["as_of_ns"] = 0
    warmed = StudyKernel(SYMBOLS, (60,))
    warmed.warm(history)
    batch = warmed.add(candle(40, 104.0))
    expected = recomputed([100.0 + bucket % 9 for bucket in range(41)])[-1]
    assert [float(batch.studies[name][0]) for name in STUDIES] == expected.tolist()
    assert not np.isnan(expected).any()


def test_no_candles_is_an_empty_batch():
    batch = StudyKernel(SYMBOLS, (60,)).add(np.zeros(0, CANDLE))
    assert batch.candles.dtype == CANDLE
    assert {name: values.size for name, values in batch.studies.items()} == dict.fromkeys(STUDIES, 0)


def test_what_is_not_of_this_kernel_is_refused():
    studies = StudyKernel(SYMBOLS, (60,))
    with pytest.raises(KeyError):
        studies.add(candle(0, 1.0, interval_s=300))
    with pytest.raises(IndexError, match="codes"):
        studies.add(candle(0, 1.0, symbol=5))
    with pytest.raises(ValueError, match="snapshot is of"):
        studies.restore(StudyKernel(SYMBOLS, (60, 300)).snapshot())


def test_studies_of_candles_do_not_depend_on_how_ticks_were_cut():
    rng = np.random.default_rng(7)
    ticks = empty_ticks(4_000)
    ticks["event_ns"] = START_NS + np.sort(rng.integers(0, 400 * NS_PER_S, ticks.size))
    ticks["symbol"], ticks["size"] = rng.choice(SYMBOLS, ticks.size), 1.0
    ticks["price"], ticks["trade_id"] = 100 + rng.normal(0, 1, ticks.size).round(2), np.arange(ticks.size).astype("S40")
    delay = np.where(rng.random(ticks.size) < 0.05, rng.integers(0, 20 * NS_PER_S, ticks.size), 0)
    release = ticks["event_ns"] + 200_000_000 + delay
    order = np.argsort(release, kind="stable")
    ticks, release = ticks[order], release[order]

    def run(watermarks):
        candles, studies, out, done = (
            CandleKernel(SYMBOLS, (1, 60), hold_ns=250_000_000),
            StudyKernel(SYMBOLS, (1, 60)),
            [],
            0,
        )
        for watermark in watermarks:
            stop = int(np.searchsorted(release, watermark, side="right"))
            rows, count = ticks[done:stop], stop - done
            closed = candles.add(
                rows, np.zeros(count, np.int8), np.zeros(count, np.bool_), release[done:stop], watermark
            )
            out.append(studies.add(closed))
            done = stop
        return dump(out), studies.late

    whole, late = run([START_NS + 500 * NS_PER_S])
    assert late == 0
    for step_ns in (70_000_000, 1_300_000_000, 90 * NS_PER_S):
        count = 500 * NS_PER_S // step_ns
        assert run([*(START_NS + (k + 1) * step_ns for k in range(count)), START_NS + 500 * NS_PER_S]) == (whole, 0)


def test_a_forgotten_symbol_starts_from_nothing_and_the_others_go_on():
    closes = (100 + np.arange(120) % 7).astype(float)
    studies, alone = StudyKernel(SYMBOLS, (60,)), StudyKernel(SYMBOLS, (60,))
    for bucket, close in enumerate(closes[:60]):
        studies.add(np.concatenate([candle(bucket, close, symbol=symbol) for symbol in (3, 4)]))
    studies.forget([4])
    rounds = [candle(60 + bucket, close, symbol=4) for bucket, close in enumerate(closes[60:])]
    assert dump([studies.add(row) for row in rounds]) == dump([alone.add(row) for row in rounds])
    other = [studies.add(candle(60 + bucket, close)) for bucket, close in enumerate(closes[60:])]
    assert final(other)[(3, 60, START_NS + 119 * 60 * NS_PER_S)][2] == tuple(recomputed(closes)[-1])
