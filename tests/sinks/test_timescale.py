import contextlib
from datetime import UTC, datetime

import numpy as np
import psycopg
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from market.records import CANDLE, WickBatch
from sinks import tables
from sinks.encode import Message, encode, encode_gap, unpack
from sinks.timescale import HistoryStore
from tests.sinks.made import MINUTE_NS, NAMES, OPEN_NS, correlation, studies, wick


@pytest.fixture
def store(database_url):
    store = HistoryStore(database_url)
    store.connect()
    yield store
    store.close()


@pytest.fixture
def rows_of(database_url):
    with psycopg.connect(database_url, autocommit=True) as connection:
        connection.execute("SET timezone = 'UTC'")
        yield lambda query: connection.execute(query).fetchall()


def message(item):
    return unpack(encode(item, NAMES))


def when(stamp_ns):
    return datetime.fromtimestamp(stamp_ns // 10**9, UTC).replace(microsecond=stamp_ns // 1000 % 10**6)


def test_a_candle_row_equals_the_record(store, rows_of):
    batch = studies(6)
    store.write("s", [message(batch)], 12)
    names = [column.name for column in tables.candles.columns]
    found = rows_of("SELECT * FROM candles ORDER BY open_time, symbol")
    assert len(found) == 6
    for values, candle in zip(found, batch.candles, strict=True):
        row = dict(zip(names, values, strict=True))
        assert (row.pop("symbol"), row.pop("interval")) == (NAMES[candle["symbol"]], "1m")
        assert row.pop("open_time") == when(int(candle["open_ns"]))
        assert row == {name: candle[name] for name in row}
    found = rows_of("SELECT rsi_14, macd FROM indicators ORDER BY open_time, symbol")
    assert [macd for _, macd in found[:3]] == [None] * 3
    assert [rsi for rsi, _ in found] == batch.studies["rsi_14"].tolist()
    assert store.positions(["s", "other"]) == {"s": 12, "other": 0}


def test_an_older_revision_never_replaces_a_newer_one(store, rows_of):
    for revision, seed in ((1, 1), (0, 2), (1, 3)):
        store.write("s", [message(studies(1, revision=revision, seed=seed))], 1)
    newest = studies(1, seed=3)
    assert rows_of("SELECT revision, close FROM candles") == [(1, newest.candles["close"][0])]
    assert rows_of("SELECT revision, rsi_14 FROM indicators") == [(1, newest.studies["rsi_14"][0])]


def test_of_one_transaction_the_newest_revision_stays(store, rows_of):
    batches = [studies(1, revision=revision, seed=revision + 1) for revision in (0, 2, 1)]
    store.write("s", [message(batch) for batch in batches], 1)
    assert rows_of("SELECT revision, close FROM candles") == [(2, batches[1].candles["close"][0])]


@settings(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.lists(st.tuples(st.integers(0, 2), st.integers(0, 3)), max_size=8), st.data())
def test_any_split_and_repetition_ends_in_the_same_rows(store, rows_of, updates, data):
    """Candles with rising revisions, cut into transactions anywhere, each perhaps written twice."""
    rows_of("DELETE FROM candles RETURNING 1")
    newest = {}
    messages = []
    for minute, revision in updates:
        batch = studies(1, minute=minute, revision=revision, seed=10 * minute + revision + 1)
        messages.append(message(batch))
        if revision >= newest.get(minute, (-1, 0))[0]:
            newest[minute] = (revision, batch.candles["close"][0])
    cut = data.draw(st.integers(0, len(messages)))
    for part in (messages[:cut], messages[cut:]):
        for _ in range(data.draw(st.integers(1, 2))):
            store.write("s", part, 1)
    expected = sorted((when(OPEN_NS + minute * MINUTE_NS), *row) for minute, row in newest.items())
    assert rows_of("SELECT open_time, revision, close FROM candles ORDER BY 1") == expected


def test_a_wick_keeps_its_readmission(store, rows_of):
    store.write("s", [message(WickBatch([wick(1), wick(2)]))], 1)
    store.write("s", [message(WickBatch([wick(1, readmitted_ns=OPEN_NS + 7_000), wick(1)]))], 2)
    store.write("s", [message(WickBatch([wick(1), wick(2)]))], 3)
    found = rows_of("SELECT trade_id, readmitted_time, side, evidence, event_time FROM wicks ORDER BY trade_id")
    assert found == [
        ("t-1", when(OPEN_NS + 7_000), "sell", wick().evidence, when(OPEN_NS + 1_000)),
        ("t-2", None, "sell", wick().evidence, when(OPEN_NS + 2_000)),
    ]


def test_correlations_and_gaps(store, rows_of):
    for _ in range(2):
        store.write("s", [message(correlation())], 1)
    assert rows_of("SELECT symbol_a, symbol_b, pearson, open_time FROM correlations ORDER BY 1") == [
        ("BTC-USDT", "ETH-USDT", 0.5, when(OPEN_NS)),
        ("ETH-USDT", "SOL-USDT", -0.25, when(OPEN_NS)),
    ]
    for filled in (False, True):
        store.write("s", [unpack(encode_gap("okx", "BTC-USDT", OPEN_NS, OPEN_NS + MINUTE_NS, filled=filled))], 1)
    assert rows_of("SELECT venue, to_time, filled FROM gaps") == [("okx", when(OPEN_NS + MINUTE_NS), True)]


def test_rows_and_position_are_one_transaction(store, rows_of, database_url):
    store.write("s", [message(studies(1))], 5)
    with psycopg.connect(database_url) as other:
        other.execute("LOCK TABLE spool_positions IN ACCESS EXCLUSIVE MODE")
        store._open().execute("SET statement_timeout = 100")
        with pytest.raises(psycopg.errors.QueryCanceled):
            store.write("s", [message(studies(1, minute=1))], 9)
    assert rows_of("SELECT count(*) FROM candles") == [(1,)]
    assert store.positions(["s"]) == {"s": 5}


@pytest.mark.parametrize("bad", ["text", "null", "range", "missing"])
def test_a_message_that_never_fits_is_left_out(store, rows_of, caplog, bad):
    good = message(studies(1, minute=1))
    broken = message(studies(1, minute=2))
    if bad == "text":
        broken.texts["symbol"][0] = "NUL\0-USDT"
    elif bad == "null":
        del broken.numbers["close"]
    elif bad == "range":
        broken.numbers["venues"] = type(broken.numbers["venues"])("<i8", np.int64(1 << 40).tobytes())
    else:
        del broken.numbers["open_ns"]
    store.write("s", [good, broken, message(studies(1, minute=3))], 77)
    assert rows_of("SELECT count(*) FROM candles") == [(2,)]
    assert store.positions(["s"]) == {"s": 77}
    assert store.failed_messages == 1
    assert len(caplog.records) == 1


def test_a_kind_of_a_later_version_is_passed_over(store):
    store.write("s", [Message("moods", texts={"mood": ["calm"]})], 3)
    assert store.positions(["s"]) == {"s": 3}
    store.forget("s")
    assert store.positions(["s"]) == {"s": 0}


def test_a_bare_database_gets_its_tables(bare_database_url):
    store = HistoryStore(bare_database_url)
    store.connect()
    store.write("s", [message(studies(3))], 3)
    store.close()
    with contextlib.closing(HistoryStore(bare_database_url)) as again:
        again.connect()
        assert again.positions(["s"]) == {"s": 3}


def test_not_connected_raises_what_a_drainer_expects(tmp_path):
    store = HistoryStore(f"postgresql://postgres@/x?host={tmp_path}")
    with pytest.raises(psycopg.OperationalError):
        store.connect()
    with pytest.raises(psycopg.OperationalError):
        store.positions(["s"])


def test_every_candle_column_but_the_clock_has_its_table_column():
    columns = {column.name for column in tables.candles.columns}
    assert set(CANDLE.names) - {"interval_s", "open_ns", "as_of_ns"} == columns - {"interval", "open_time"}
