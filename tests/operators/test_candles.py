"""Candle kernel against a plain reference, under any split, late trades, wicks and restarts."""

from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from market.records import CANDLE, CONFIRMED, UNVERIFIED, WICK
from market.schema import BUY, END_OF_INPUT, NO_SIDE, SELL, TRADE, empty_ticks
from operators.candles import NS_PER_S, QUIET_NS, CandleKernel, amendable

DAY_NS = 1_700_006_400 * NS_PER_S  # a midnight, UTC
SYMBOLS = np.array([2, 5, 9])
INTERVALS = (1, 5, 60, 300)
HOLD_NS = 250_000_000
MS = 1_000_000


def stream(rows):
    """Columns of `(event_ms, delay_ms, symbol, venue, price, size, side, id, verdict, readmitted)` by release time."""
    rows = sorted(rows, key=lambda row: row[0] + row[1])
    ticks = empty_ticks(len(rows))
    ticks["kind"] = TRADE
    for i, (event, _, symbol, venue, price, size, side, ident, _, _) in enumerate(rows):
        ticks[i]["event_ns"] = DAY_NS + event * MS
        ticks[i]["symbol"], ticks[i]["venue"], ticks[i]["side"] = symbol, venue, side
        ticks[i]["price"], ticks[i]["size"], ticks[i]["trade_id"] = price, size, str(ident).encode()
    verdict = np.array([row[8] for row in rows], np.int8)
    readmitted = np.array([row[9] for row in rows], bool)
    release = np.array([DAY_NS + (row[0] + row[1]) * MS for row in rows], np.int64)
    return ticks, verdict, readmitted, release


def trade(
    event_ms, price, *, delay_ms=200, symbol=2, venue=0, size=1.0, side=BUY, ident=1, verdict=CONFIRMED, back=False
):
    return (event_ms, delay_ms, symbol, venue, price, size, side, ident, verdict, back)


def kernel(intervals=INTERVALS, hold_ns=HOLD_NS):
    return CandleKernel(SYMBOLS, intervals, hold_ns=hold_ns)


def feed(candles, columns, watermarks, after=None):
    """Give rows call by call up to each watermark; `after(kernel)` may replace the kernel between calls."""
    ticks, verdict, readmitted, release = columns
    out, done = [np.zeros(0, CANDLE)], 0
    for watermark in watermarks:
        stop = int(np.searchsorted(release, watermark, side="right"))
        part = slice(done, stop)
        out.append(candles.add(ticks[part], verdict[part], readmitted[part], release[part], watermark))
        done = stop
        if after is not None:
            candles = after(candles)
    assert done == release.size
    return np.concatenate(out), candles


def at_ms(*times):
    return [DAY_NS + time * MS for time in times]


def order(row):
    return row[0], row[3], len(str(row[7])), str(row[7])


def reference(rows, intervals, clock_s):
    """Candles that ended by the second `clock_s`, from all trades at once; every one carries its newest values."""
    out = {}
    for interval in intervals:
        for symbol in {row[2] for row in rows}:
            mine = [row for row in rows if row[2] == symbol and row[0] + row[1] <= clock_s * 1000 + HOLD_NS // MS]
            traded = sorted((row for row in mine if row[8] != WICK or row[9]), key=order)
            wicks = [(row[0] // 1000 // interval, -1 if row[9] else 1) for row in mine if row[8] == WICK or row[9]]
            if not traded:
                continue
            for bucket in range(traded[0][0] // 1000 // interval, clock_s // interval):
                inside = [row for row in traded if row[0] // 1000 // interval == bucket]
                count = sum(change for at, change in wicks if at == bucket)
                opened = bucket * interval
                key = (symbol, interval, DAY_NS + opened * NS_PER_S)
                if inside:
                    prices = [row[4] for row in inside]
                    volume, quote = sum(row[5] for row in inside), sum(row[4] * row[5] for row in inside)
                    bought = sum(row[5] for row in inside if row[6] == BUY)
                    venues = len({row[3] for row in inside})
                    ends = (prices[0], max(prices), min(prices), prices[-1])
                    out[key] = (*ends, volume, quote, bought, quote / volume, len(inside), venues, count)
                elif interval >= 60:
                    last = [row for row in traded if row[0] < opened * 1000][-1]
                    if opened * 1000 < last[0] + QUIET_NS // MS:
                        out[key] = (last[4],) * 4 + (0.0, 0.0, 0.0, last[4], 0, 0, count)
    return out


VALUES = [name for name in CANDLE.names if name not in ("symbol", "interval_s", "open_ns", "revision", "as_of_ns")]


def newest(candles):
    """The last row of each candle, and that revisions count up from 0."""
    out, revisions = {}, {}
    for row in candles:
        key = (int(row["symbol"]), int(row["interval_s"]), int(row["open_ns"]))
        assert row["revision"] == revisions.get(key, -1) + 1
        revisions[key] = int(row["revision"])
        out[key] = tuple(row[name].item() for name in VALUES)
    return out


def one(candles, interval_s, open_s=0, symbol=2):
    at = (candles["interval_s"] == interval_s) & (candles["open_ns"] == DAY_NS + open_s * NS_PER_S)
    return candles[at & (candles["symbol"] == symbol)]


rows_within = st.lists(
    st.tuples(
        st.integers(0, 240_000) | st.integers(0, 3_000),
        st.integers(0, 50_000) | st.integers(0, 400),
        st.sampled_from(SYMBOLS.tolist()),
        st.integers(0, 6),
        st.sampled_from([99.5, 100.0, 100.1, 100.25, 101.0]),
        st.sampled_from([0.1, 0.25, 1.0, 3.3]),
        st.sampled_from([BUY, SELL, NO_SIDE]),
        st.integers(1, 10_000),
        st.sampled_from([CONFIRMED, CONFIRMED, UNVERIFIED, WICK]),
        st.just(False),
    ),
    max_size=60,
    unique_by=lambda row: (row[3], row[7]),
)


@st.composite
def markets(draw):
    """Trades delayed by less than every horizon, some wicks of them re-admitted later; and two ways to cut the time."""
    rows = draw(rows_within)
    for row in [row for row in rows if row[8] == WICK]:
        if draw(st.booleans()):
            later = draw(st.integers(1, 5_000))
            rows.append((row[0], row[1] + later, *row[2:8], CONFIRMED, True))
    cuts = draw(st.lists(st.integers(0, 400_000), max_size=25))
    return rows, [*at_ms(*sorted(cuts)), *at_ms(400_000)]


@settings(max_examples=120, deadline=None)
@given(markets())
def test_any_split_equals_one_call_and_the_reference(market):
    rows, cuts = market
    columns = stream(rows)
    split, _ = feed(kernel(), columns, cuts)
    whole, _ = feed(kernel(), columns, cuts[-1:])
    assert split.tobytes() == whole.tobytes()
    expected = reference(rows, INTERVALS, 399)
    got = newest(whole)
    assert got.keys() == expected.keys()
    for key, values in expected.items():
        assert got[key] == pytest.approx(values, rel=1e-12), key


@settings(max_examples=60, deadline=None)
@given(markets())
def test_a_restart_after_any_call_changes_nothing(market):
    rows, cuts = market

    def restart(old):
        fresh = kernel()
        fresh.restore(old.snapshot())
        return fresh

    columns = stream(rows)
    resumed, last = feed(kernel(), columns, cuts, after=restart)
    whole, straight = feed(kernel(), columns, cuts[-1:])
    assert resumed.tobytes() == whole.tobytes()
    assert last.late.tolist() == straight.late.tolist()


@settings(max_examples=60, deadline=None)
@given(markets(), st.randoms(use_true_random=False))
def test_the_order_of_rows_between_two_boundaries_does_not_matter(market, random):
    rows, cuts = market
    ticks, verdict, readmitted, release = stream(rows)
    shuffled = np.array(random.sample(range(release.size), release.size), np.int64)
    one_call = kernel().add(ticks, verdict, readmitted, release, cuts[-1])
    moved = kernel().add(ticks[shuffled], verdict[shuffled], readmitted[shuffled], release[shuffled], cuts[-1])
    assert one_call.tobytes() == moved.tobytes()


@settings(max_examples=60, deadline=None)
@given(markets())
def test_candles_conserve_volume_and_enclose_their_prices(market):
    rows, cuts = market
    candles, _ = feed(kernel(), stream(rows), cuts)
    assert (candles["low"] <= np.minimum(candles["open"], candles["close"])).all()
    assert (candles["high"] >= np.maximum(candles["open"], candles["close"])).all()
    assert (candles["buy_volume"] <= candles["volume"]).all()
    assert (candles["open_ns"] % (candles["interval_s"].astype(np.int64) * NS_PER_S) == 0).all()
    counted = [row for row in rows if row[8] != WICK or row[9]]
    for interval in (1, 60):
        last = {key: values for key, values in newest(candles).items() if key[1] == interval}
        traded = sum(values[VALUES.index("trades")] for values in last.values())
        volume = sum(values[VALUES.index("volume")] for values in last.values())
        assert traded == len(counted)
        assert volume == pytest.approx(sum(row[5] for row in counted))


def test_a_candle_closes_once_the_hold_after_its_end_has_passed():
    candles = kernel()
    ticks, verdict, readmitted, release = stream([trade(900, 100.0, delay_ms=200)])
    assert candles.add(ticks[:0], verdict[:0], readmitted[:0], release[:0], DAY_NS + 800 * MS).size == 0
    assert candles.add(ticks, verdict, readmitted, release, DAY_NS + 1_249 * MS).size == 0
    none = ticks[:0], verdict[:0], readmitted[:0], release[:0]
    closed = candles.add(*none, DAY_NS + 1_250 * MS)
    assert closed["interval_s"].tolist() == [1]
    assert closed["revision"].tolist() == [0]
    assert closed["as_of_ns"].tolist() == [DAY_NS + NS_PER_S]
    assert candles.clock_ns == DAY_NS + NS_PER_S


def test_open_and_close_go_by_event_time_venue_and_numeric_id_not_by_arrival():
    rows = [
        trade(500, 3.0, venue=1, ident=100, delay_ms=10),
        trade(500, 2.0, venue=1, ident=99, delay_ms=20),
        trade(500, 1.0, venue=0, ident=500, delay_ms=2_000),
        trade(500, 4.0, venue=1, ident=101, delay_ms=2_000),
    ]
    candles, _ = feed(kernel((1,)), stream(rows), at_ms(5_000))
    assert candles["open"].tolist() == [2.0, 1.0]
    assert candles["close"].tolist() == [3.0, 4.0]
    assert candles["venues"].tolist() == [1, 2]
    assert candles["revision"].tolist() == [0, 1]
    assert candles["as_of_ns"].tolist() == [DAY_NS + NS_PER_S, DAY_NS + 3 * NS_PER_S]


def test_wicks_are_counted_and_nothing_else():
    rows = [trade(100, 100.0), trade(200, 500.0, verdict=WICK, ident=2), trade(1_500, 1.0, verdict=WICK, ident=3)]
    candles, _ = feed(kernel((1, 60)), stream(rows), at_ms(61_000))
    assert candles["interval_s"].tolist() == [1, 60], "a second with a wick alone has no candle"
    assert candles["wicks"].tolist() == [1, 2]
    assert candles["high"].tolist() == [100.0, 100.0]
    assert candles["low"].tolist() == [100.0, 100.0]


def test_a_readmitted_wick_amends_its_candle():
    rows = [
        trade(100, 100.0),
        trade(200, 90.0, verdict=WICK, ident=2),
        trade(200, 90.0, ident=2, delay_ms=1_900, back=True),
    ]
    candles, _ = feed(kernel((1,)), stream(rows), at_ms(5_000))
    assert candles["revision"].tolist() == [0, 1]
    assert candles["wicks"].tolist() == [1, 0]
    assert candles["close"].tolist() == [100.0, 90.0]
    assert candles["trades"].tolist() == [1, 2]


def test_a_quiet_minute_is_flat_and_shows_its_wicks():
    rows = [trade(100, 100.0), trade(70_000, 900.0, verdict=WICK, ident=2)]
    candles, _ = feed(kernel((1, 60)), stream(rows), at_ms(181_000))
    flat = candles[candles["interval_s"] == 60][1:]
    assert flat["open_ns"].tolist() == at_ms(60_000, 120_000)
    for column in ("open", "high", "low", "close", "vwap"):
        assert flat[column].tolist() == [100.0, 100.0]
    assert flat["wicks"].tolist() == [1, 0]
    assert flat["trades"].tolist() == flat["venues"].tolist() == [0, 0]


@pytest.mark.parametrize("delay_ms", [65_000, 125_000])
def test_a_late_trade_amends_the_flat_candles_after_it(delay_ms):
    rows = [
        trade(100, 100.0),
        trade(59_000, 105.0, delay_ms=delay_ms, ident=2),
        trade(130_000, 105.0, ident=3),
    ]
    candles, _ = feed(kernel((60,)), stream(rows), at_ms(250_000))
    assert one(candles, 60, 0)["close"].tolist() == [100.0, 105.0]
    assert one(candles, 60, 60)["close"].tolist() == [100.0, 105.0]
    assert one(candles, 60, 60)["revision"].tolist() == [0, 1]
    assert one(candles, 60, 120)["revision"].tolist() == [0], "it had a trade of its own"


def test_a_late_trade_inside_a_flat_candle_makes_it_a_traded_one():
    rows = [trade(100, 100.0), trade(70_000, 105.0, size=2.0, delay_ms=60_000, ident=2)]
    candles, _ = feed(kernel((60,)), stream(rows), at_ms(181_000))
    amended = one(candles, 60, 60)
    assert amended["revision"].tolist() == [0, 1]
    assert amended["volume"].tolist() == [0.0, 2.0]
    assert amended["low"].tolist() == [100.0, 105.0]
    assert one(candles, 60, 120)["close"].tolist() == [105.0]


def test_trades_beyond_the_horizon_are_counted_and_not_applied():
    rows = [
        trade(1_000, 100.0),
        trade(1_500, 50.0, delay_ms=62_000, ident=2),
        trade(2_000, 70.0, delay_ms=61_500, ident=3),
    ]
    candles, done = feed(kernel((1, 60)), stream(rows), at_ms(100_000))
    assert one(candles, 1, 1)["close"].tolist() == [100.0]
    assert one(candles, 1, 2).size == 0
    assert one(candles, 60, 0)["trades"].tolist() == [1, 3]
    assert done.late.tolist() == [2, 0]


@pytest.mark.parametrize("hold_ms", [0, 250, 1_000, 1_700])
@pytest.mark.parametrize(("interval_s", "closed"), [(1, 60), (5, 12), (30, 2), (60, 5), (300, 2), (86_400, 2)])
def test_the_oldest_amendable_candle_also_after_a_restart(interval_s, closed, hold_ms):
    assert amendable(interval_s) == closed
    end = (closed + 3) * interval_s
    for now in (end, end + interval_s - 1):  # the clock when the late trades are folded
        boundary = now * 1_000 + hold_ms
        rows = [trade(second * 1_000, 100.0, ident=second + 1, delay_ms=0) for second in range(0, now, interval_s)]
        rows.append(trade(boundary, 100.0, ident=9, venue=2, delay_ms=0))  # as new as one can be
        for back, ident in ((closed, 7), (closed + 1, 8)):
            event = (end - back * interval_s) * 1_000
            rows.append(trade(event, 101.0, delay_ms=boundary - event, ident=ident, venue=3))

        def restart(old):
            fresh = kernel((interval_s,), hold_ms * MS)
            fresh.restore(old.snapshot())
            return fresh

        steps = at_ms(boundary - 1, boundary)
        candles, done = feed(kernel((interval_s,), hold_ms * MS), stream(rows), steps, after=restart)
        assert done.late.tolist() == [1]
        amended = candles[candles["revision"] == 1]
        assert amended["open_ns"].tolist() == [DAY_NS + (end - closed * interval_s) * NS_PER_S]
        assert amended["trades"].tolist() == [2]


def test_a_trade_released_on_a_boundary_belongs_to_it():
    rows = [trade(100, 100.0, ident=1), trade(900, 101.0, ident=2, delay_ms=350)]
    candles, _ = feed(kernel((1,)), stream(rows), at_ms(1_250))
    assert candles["trades"].tolist() == [2]
    assert candles["revision"].tolist() == [0]


def test_flat_candles_end_a_day_after_the_symbols_last_trade_and_long_silence_is_skipped():
    rows = [trade(30_000, 100.0), trade(601_000, 99.0, symbol=5, ident=2)]
    candles, done = feed(kernel((1, 60)), stream(rows), at_ms(10 * 86_400_000))
    for symbol, last in ((2, 86_400), (5, 86_400 + 600)):
        minutes = candles[(candles["interval_s"] == 60) & (candles["symbol"] == symbol)]
        assert minutes.size == 1_441
        assert minutes["open_ns"][-1] == DAY_NS + last * NS_PER_S
    none = stream([])
    assert done.add(*none, DAY_NS + 1_000 * 86_400 * NS_PER_S).size == 0, "years pass in one call"
    again, _ = feed(
        done,
        stream([trade(1_000 * 86_400_000 + 60_000, 5.0)]),
        at_ms(1_000 * 86_400_000 + 100, 1_000 * 86_400_000 + 200_000),
    )
    assert one(again, 60, 1_000 * 86_400 + 60)["open"].tolist() == [5.0]
    assert (again["close"] == 5.0).all()


def test_the_end_of_input_ends_open_candles_and_makes_no_flat_ones():
    rows = [trade(100, 100.0), trade(59_000, 99.0, ident=2), trade(130_000, 98.0, ident=3, symbol=5)]
    candles, done = feed(kernel((1, 60, 3600)), stream(rows), [*at_ms(500), END_OF_INPUT])
    assert one(candles, 60, 60)["close"].tolist() == [99.0], "another symbol's trade moved the clock past it"
    assert one(candles, 60, 120).size == 0
    assert one(candles, 60, 120, symbol=5)["close"].tolist() == [98.0]
    assert one(candles, 3600, 0)["as_of_ns"].tolist() == [DAY_NS + 3_600 * NS_PER_S]
    assert (candles["revision"] == 0).all()
    assert (np.diff(candles["as_of_ns"]) >= 0).all()
    assert done.clock_ns == END_OF_INPUT
    whole, _ = feed(kernel((1, 60, 3600)), stream(rows), [END_OF_INPUT])
    assert whole.tobytes() == candles.tobytes()


def test_broken_promises_are_refused():
    ticks, verdict, readmitted, release = stream([trade(100, 100.0)])
    candles = kernel()
    with pytest.raises(ValueError, match="outside"):
        candles.add(ticks, verdict, readmitted, release, int(release[0]) - 1)
    candles.add(ticks, verdict, readmitted, release, int(release[0]))
    with pytest.raises(ValueError, match="outside"):
        candles.add(ticks, verdict, readmitted, release, int(release[0]))
    with pytest.raises(ValueError, match="behind"):
        candles.add(ticks[:0], verdict[:0], readmitted[:0], release[:0], int(release[0]) - 1)
    with pytest.raises(ValueError, match=r"codes \[7\]"):
        feed(kernel(), stream([trade(100, 100.0, symbol=7)]), at_ms(5_000))
    with pytest.raises(ValueError, match="snapshot is of"):
        kernel((1, 60)).restore(kernel((1,)).snapshot())


def test_rows_of_a_boundary_come_by_interval_open_time_symbol():
    rows = [trade(1_000 * i, 100.0 + i, symbol=s, ident=i * 10 + s) for i in range(120) for s in (9, 5, 2)]
    candles, _ = feed(kernel(), stream(rows), at_ms(130_000))
    keys = list(zip(*(candles[name].tolist() for name in ("as_of_ns", "interval_s", "open_ns", "symbol")), strict=True))
    assert all(one < two for one, two in pairwise(keys))


def test_an_empty_key_group_is_served():
    candles = CandleKernel(np.zeros(0, np.int64), INTERVALS, hold_ns=HOLD_NS)
    assert candles.add(*stream([]), DAY_NS).size == 0
    assert candles.add(*stream([]), END_OF_INPUT).size == 0
    candles.restore(candles.snapshot())


def test_a_forgotten_symbol_gives_what_it_was_forming_and_starts_anew():
    rows = [trade(100 + 400 * i, 100.0 + i, symbol=s, ident=i) for i in range(160) for s in (2, 5)]
    candles = fed(rows)
    last = candles.forget([5])
    assert set(last["symbol"].tolist()) == {5}
    assert last["interval_s"].tolist() == [60, 300]  # the others have been given
    assert last["as_of_ns"].tolist() == [DAY_NS + 120 * NS_PER_S, DAY_NS + 300 * NS_PER_S]
    assert last["trades"].tolist() == [10, 160]
    assert candles.forget([5]).size == 0
    # Whoever has the code next is alone with it; the others notice nothing.
    more = [trade(66_100 + 400 * i, 7.0, symbol=s, ident=i) for i in range(200) for s in (2, 5)]
    rest, _ = feed(candles, stream(more), at_ms(150_000, 301_000))
    undisturbed, _ = feed(fed(rows), stream(more), at_ms(150_000, 301_000))
    assert rest[rest["symbol"] == 2].tobytes() == undisturbed[undisturbed["symbol"] == 2].tobytes()
    alone = kernel()
    alone.add(*stream([]), DAY_NS + 66_000 * MS)
    fresh, _ = feed(alone, stream([row for row in more if row[2] == 5]), at_ms(150_000, 301_000))
    assert rest[rest["symbol"] == 5].tobytes() == fresh.tobytes()
    assert fresh["low"].min() == fresh["high"].max() == 7.0


def fed(rows):
    """Return a kernel that has been given rows."""
    return feed(kernel(), stream(rows), at_ms(66_000))[1]
