import numpy as np
import polars as pl
import pytest

from market.records import ForgedTicks
from market.schema import BUY, QUOTE, TRADE, UNSTAMPED, empty_ticks
from sinks import archive
from sinks.archive import ArchiveSink, archive_frame
from tests.sinks.made import NAMES, OPEN_NS


def forged(rows=4, first_ns=OPEN_NS):
    """Trades and quotes in turn; every fourth tick has no stamp."""
    ticks = empty_ticks(rows)
    number = np.arange(rows)
    is_trade = number % 2 == 0
    ticks["symbol"] = number % len(NAMES)
    ticks["venue"] = 1
    ticks["kind"] = np.where(is_trade, TRADE, QUOTE)
    ticks["receive_ns"] = first_ns + number
    ticks["event_ns"] = first_ns + number - 1
    ticks["exchange_ns"] = np.where(number % 4 == 3, 0, first_ns + number - 2)
    ticks["flags"] = np.where(number % 4 == 3, UNSTAMPED, 0)
    ticks["price"][is_trade] = 60_000.5
    ticks["size"][is_trade] = 0.1
    ticks["side"][is_trade] = BUY
    ticks["trade_id"][is_trade] = [b"id-%d" % trade for trade in number[is_trade]]
    ticks["bid"][~is_trade] = 59_999.5
    ticks["bid_size"][~is_trade] = 2.0
    verdict = np.where(is_trade, number % 3, -1).astype(np.int8)
    nan = np.where(is_trade, 1.0, np.nan)
    return ForgedTicks(ticks, first_ns + number + 150_000_000, verdict, 60_000.0 * nan, 0.1 * nan)


class Clock:
    now_s = 0.0

    def __call__(self):
        return self.now_s


@pytest.fixture
def clock():
    return Clock()


@pytest.fixture
def partition(tmp_path, clock):
    return ArchiveSink(tmp_path / "archive", NAMES, clock).build("archive", 2, 4)


def files(tmp_path):
    return sorted((tmp_path / "archive").iterdir())


def test_columns_names_and_nulls():
    frame = archive_frame(forged(), NAMES)
    assert frame.columns == [
        "receive_ns", "exchange_ns", "venue", "symbol", "kind", "price", "size", "side", "trade_id",
        "bid", "bid_size", "ask", "ask_size", "event_ns", "release_ns", "verdict", "reference", "deviation_bps",
    ]  # fmt: skip
    assert frame.schema["side"] == pl.Int8
    assert {frame.schema[name] for name in ("venue", "symbol", "kind", "verdict", "trade_id")} == {pl.String()}
    assert frame.row(0) == (
        OPEN_NS, OPEN_NS - 2, "okx", "BTC-USDT", "trade", 60_000.5, 0.1, 1, "id-0",
        None, None, None, None, OPEN_NS - 1, OPEN_NS + 150_000_000, "confirmed", 60_000.0, 0.1,
    )  # fmt: skip
    assert frame.row(3) == (
        OPEN_NS + 3, None, "okx", "XRP-USDT", "quote", None, None, None, None,
        59_999.5, 2.0, None, None, OPEN_NS + 2, OPEN_NS + 150_000_003, None, None, None,
    )  # fmt: skip


def test_everything_is_there_in_order_after_close(partition, tmp_path, monkeypatch):
    monkeypatch.setattr(archive, "FILE_ROWS", 10)
    expected = [forged(rows, OPEN_NS + 1_000 * place) for place, rows in enumerate((3, 4, 5, 0, 1, 9, 2))]
    for item in expected[:3]:
        partition.write_batch([item])
    partition.write_batch(expected[3:])
    assert [path.suffix for path in files(tmp_path)] == [".parquet"] * 2
    partition.close()
    frame = pl.concat([pl.read_parquet(path) for path in files(tmp_path)])
    assert frame["receive_ns"].to_list() == [stamp for item in expected for stamp in item.ticks["receive_ns"].tolist()]


def test_a_file_is_finished_after_some_time(partition, tmp_path, clock):
    partition.write_batch([forged()])
    clock.now_s += archive.FILE_S
    assert files(tmp_path) == []
    partition.write_batch([forged(first_ns=OPEN_NS + 10)])
    (path,) = files(tmp_path)
    assert path.name == f"ticks-{OPEN_NS + 150_000_000:020d}-w2.parquet"
    assert pl.read_parquet(path).height == 8
    partition.close()
    assert len(files(tmp_path)) == 1


def test_a_run_over_the_same_ticks_overwrites_nothing(partition, tmp_path, clock):
    for _ in range(2):
        partition.write_batch([forged()])
        partition.close()
    assert len(files(tmp_path)) == 2
