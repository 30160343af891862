"""Archives made recordings again: whole, and in receive order, however the workers' files overlap."""

import polars as pl
import pytest

from connectors import archived
from connectors.recording import COLUMNS, RecordingError, check_recording
from tests.flows.markets import recording


@pytest.fixture
def table():
    return recording(4)[0].with_columns(pl.col("trade_id").replace("", None)).select(*COLUMNS)


def write(folder, table, *cuts):
    """Write rows as workers do: two series of files, each in order of release, which is not that of receipt."""
    folder.mkdir()
    released = table.with_columns((pl.col("receive_ns") // 10_000_000 * -10_000_000).alias(archived.RELEASED))
    for worker in range(2):
        own = released[worker::2].sort((pl.col("receive_ns") // 50_000_000), "venue", "trade_id")
        for number, (start, stop) in enumerate(zip((0, *cuts), (*cuts, len(own)), strict=True)):
            own[start:stop].write_parquet(folder / f"ticks-{number:020d}-w{worker}.parquet")


@pytest.mark.parametrize("cuts", [(), (700,), (100, 101, 2_000)])
def test_an_archive_comes_back_in_receive_order_and_whole(tmp_path, table, cuts, monkeypatch):
    monkeypatch.setattr(archived, "PART_ROWS", 1_000)
    write(tmp_path / "out", table, *cuts)
    assert archived.is_archive(tmp_path / "out")
    path = archived.import_archive(tmp_path / "out", tmp_path / "replay")
    venues, symbols, rows = check_recording(path)
    assert (len(venues), len(symbols), rows) == (5, 5, len(table))
    found = pl.concat([pl.read_parquet(part) for part in archived.parts_of(path)])
    assert found["receive_ns"].is_sorted()
    key = ["receive_ns", "venue", "symbol", "kind", "trade_id", "bid"]
    assert found.sort(key).equals(table.sort(key))


def test_one_file_of_an_archive_is_one_too(tmp_path, table):
    write(tmp_path / "out", table)
    (file, _) = archived.parts_of(tmp_path / "out")
    assert archived.is_archive(file)
    assert check_recording(archived.import_archive(file, tmp_path / "replay"))[2] == len(table) // 2


def test_what_is_no_archive(tmp_path, table):
    table.write_parquet(tmp_path / "ticks.parquet")
    (tmp_path / "odd.parquet").write_bytes(b"PAR1 and no more")
    (tmp_path / "empty").mkdir()
    for name in ("ticks.parquet", "odd.parquet", "empty", "absent.parquet"):
        assert not archived.is_archive(tmp_path / name)


def test_a_torn_file_is_said_and_nothing_is_left(tmp_path, table):
    write(tmp_path / "out", table)
    (tmp_path / "out" / "ticks-9-w0.parquet").write_bytes(b"PAR1 and no more")
    with pytest.raises(RecordingError, match="is not a readable archive"):
        archived.import_archive(tmp_path / "out", tmp_path / "replay")
    assert list((tmp_path / "replay").iterdir()) == []


def test_an_archive_without_rows(tmp_path, table):
    write(tmp_path / "out", table[:0])
    assert check_recording(archived.import_archive(tmp_path / "out", tmp_path / "replay"))[2] == 0
