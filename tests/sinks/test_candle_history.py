import numpy as np
import psycopg
import pytest

from market.records import CANDLE, STUDIES, StudyBatch
from market.schema import NS_PER_S
from sinks.candle_history import last_candles
from sinks.encode import encode, unpack
from sinks.timescale import HistoryStore

NAMES = ("BTC-USDT", "ETH-USDT")
NOW_S = 1_790_000_000 // 3600 * 3600 + 7


def candles(symbol, opens_s, interval_s=60):
    rows = np.zeros(len(opens_s), CANDLE)
    rows["symbol"], rows["interval_s"] = symbol, interval_s
    rows["open_ns"] = np.array(opens_s) * NS_PER_S
    for shift, name in enumerate(("open", "high", "low", "close", "volume", "quote_volume", "buy_volume", "vwap")):
        rows[name] = 100 + shift + np.arange(len(opens_s))
    rows["trades"], rows["venues"] = 7, 3
    return rows


@pytest.fixture
def kept(database_url):
    def keep(*parts):
        rows = np.concatenate(parts)
        studies = {name: np.zeros(rows.size) for name in STUDIES}
        store = HistoryStore(database_url)
        store.connect()
        store.write("s", [unpack(encode(StudyBatch(rows, studies), NAMES))], 1)
        store.close()
        return database_url

    return keep


def minutes(count, last=1):
    """Return the opens of the last `count` minutes but `last - 1`."""
    end_s = NOW_S // 60 * 60
    return [end_s - 60 * back for back in range(count + last - 1, last - 1, -1)]


def test_whole_series_up_to_now_are_read_back(kept):
    rows = candles(1, minutes(6))
    url = kept(rows, candles(1, [NOW_S // 3600 * 3600 - 3600], 3600))
    found = last_candles(url, NAMES, (60, 3600), 5, NOW_S)
    assert set(found) == {(1, 60)}
    assert found[1, 60].tobytes() == rows[1:].tobytes()


def test_a_series_with_a_hole_or_that_ends_too_early_is_left_out(kept):
    url = kept(candles(0, minutes(9, last=2)), candles(1, [at for at in minutes(9) if at != minutes(3)[0]]))
    assert last_candles(url, NAMES, (60,), 5, NOW_S) == {}


def test_a_database_without_tables_is_an_error(bare_database_url):
    with pytest.raises(psycopg.Error):
        last_candles(bare_database_url, NAMES, (60,), 5, NOW_S)
