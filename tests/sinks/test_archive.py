import pickle

import numpy as np
import polars as pl
import pytest

from market.records import ForgedTicks, LetGo
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
def begin(tmp_path, clock):
    """Return a function that begins a key group's series, or goes on from a snapshot."""
    return lambda mark=None, part="2": ArchiveSink(tmp_path / "archive", NAMES, clock).build_part("archive", part, mark)


@pytest.fixture
def partition(begin):
    return begin()


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


def stamps(tmp_path):
    """Return the receive times in all finished files, file by file."""
    finished = [path for path in files(tmp_path) if path.suffix == ".parquet"]
    return [stamp for path in finished for stamp in pl.read_parquet(path)["receive_ns"].to_list()]


def stamps_of(*items):
    return [stamp for item in items for stamp in item.ticks["receive_ns"].tolist()]


def item(place, rows=4):
    return forged(rows, OPEN_NS + 1_000 * place)


def test_everything_is_there_in_order_after_close(partition, tmp_path, monkeypatch):
    monkeypatch.setattr(archive, "FILE_ROWS", 10)
    expected = [item(place, rows) for place, rows in enumerate((3, 4, 5, 0, 1, 9, 2))]
    for each in expected[:3]:
        partition.write_batch([each])
        partition.snapshot()
    partition.write_batch(expected[3:])
    assert [path.suffix for path in files(tmp_path)] == [".parquet"]
    partition.close()
    assert [path.suffix for path in files(tmp_path)] == [".parquet"] * 2
    assert stamps(tmp_path) == stamps_of(*expected)


def test_a_file_is_finished_after_some_time(partition, tmp_path, clock):
    partition.write_batch([forged()])
    partition.snapshot()
    clock.now_s += archive.FILE_S
    partition.write_batch([forged(first_ns=OPEN_NS + 10)])
    assert [path.suffix for path in files(tmp_path)] == [".part"]
    partition.snapshot()
    (path,) = files(tmp_path)
    assert path.match(f"ticks-{OPEN_NS + 150_000_000:020d}-*g2-0.parquet")
    assert pl.read_parquet(path).height == 8
    partition.close()
    assert len(files(tmp_path)) == 1


def test_a_run_over_the_same_ticks_overwrites_nothing(begin, tmp_path):
    for _ in range(2):
        partition = begin()
        partition.write_batch([forged()])
        partition.close()
    assert len(files(tmp_path)) == 2


def test_memory_is_bounded_between_snapshots(partition, tmp_path, monkeypatch):
    monkeypatch.setattr(archive, "HELD_ROWS", 10)
    for place in range(10):
        partition.write_batch([item(place)])
        assert partition._held_rows < 10
    partition.close()
    assert stamps(tmp_path) == stamps_of(*(item(place) for place in range(10)))


def killed(partition):
    """Leave a partition as a kill does: what it holds is gone, its files are nobody's."""
    if partition._file is not None:
        partition._file.close()


@pytest.mark.parametrize("lost", [[], [5], [5, 6, 7]])
@pytest.mark.parametrize("finished", [False, True])
def test_a_resumed_run_has_each_tick_once(begin, tmp_path, clock, lost, finished):
    """What came after the snapshot comes again, whether its file was finished since or not."""
    first = begin()
    first.write_batch([item(1), item(2)])
    first.snapshot()
    first.write_batch([item(3)])
    mark = pickle.loads(pickle.dumps(first.snapshot()))
    for place in lost:
        first.write_batch([item(place)])
        clock.now_s += finished * archive.FILE_S
        first.snapshot()
    first.write_batch([item(8)])
    killed(first)
    second = begin(mark)
    second.write_batch([item(4)])
    second.close()
    assert stamps(tmp_path) == stamps_of(item(1), item(2), item(3), item(4))
    assert {path.suffix for path in files(tmp_path)} == {".parquet"}


def test_a_run_that_drained_can_be_gone_on_with_from_the_snapshot_before(begin, tmp_path):
    first = begin()
    empty = first.snapshot()
    first.write_batch([item(1)])
    mark = first.snapshot()
    first.write_batch([item(2)])
    first.close()
    second = begin(mark)
    second.close()
    assert stamps(tmp_path) == stamps_of(item(1))
    begin(empty).close()
    assert stamps(tmp_path) == []


def test_a_kill_between_a_file_and_the_end_of_its_parts_is_mended(begin, tmp_path):
    first = begin()
    first.write_batch([item(1)])
    mark = first.snapshot()
    (part,) = files(tmp_path)
    part.with_suffix(".parquet").write_bytes(b"whole, as far as anybody knows")
    part.with_suffix(".tmp").write_bytes(b"half")
    killed(first)
    begin(mark).close()
    assert stamps(tmp_path) == stamps_of(item(1))


def test_what_a_killed_run_without_state_left_is_finished_by_the_next(begin, tmp_path):
    first = begin()
    first.write_batch([item(1)])
    first.snapshot()
    (part,) = files(tmp_path)
    with part.open("ab") as file:
        file.write((1 << 20).to_bytes(8, "little") + b"torn")
    killed(first)
    begin(part="5")  # of another key group
    assert stamps(tmp_path) == []
    begin()
    assert stamps(tmp_path) == stamps_of(item(1))


def test_a_file_that_a_running_flow_writes_is_left_alone(begin, tmp_path):
    first, second = begin(), None
    first.write_batch([item(1)])
    first.snapshot()
    second = begin()
    first.write_batch([item(2)])
    first.close()
    second.close()
    assert stamps(tmp_path) == stamps_of(item(1), item(2))


def test_key_groups_have_series_of_their_own(tmp_path):
    sink = ArchiveSink(tmp_path, NAMES)
    assert [sink.list_parts()[sink.part_fn(str(group))] for group in range(8)] == [str(group) for group in range(8)]


def test_ticks_have_the_names_that_their_codes_had(tmp_path, clock):
    names = list(NAMES)
    partition = ArchiveSink(tmp_path / "archive", names, clock).build_part("archive", "0", None)
    partition.write_batch([forged(), LetGo([1], "ticks"), LetGo([2], "ticks")])
    names[1] = "NEW-USDT"
    partition.write_batch([forged(first_ns=OPEN_NS + 10)])
    partition.close()
    (path,) = files(tmp_path)
    found = pl.read_parquet(path)["symbol"].to_list()
    assert (found[: len(names)], found[len(names) :]) == (list(NAMES), names)
