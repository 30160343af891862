import io
import json
import os
import pty
import tracemalloc
from contextlib import suppress

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from connectors import frame_files, importing
from connectors.frame_files import venue_files
from connectors.importing import Imported, import_folder, merge, read_folder
from connectors.recorder import Recorder, RecordFolder
from connectors.recording import RecordingError, check_recording, columns_of, frame_to_ticks, scan
from connectors.source import VenueSource
from market.schema import REPLAYED, empty_ticks, join
from market.venues import VENUE_CODES, VENUES
from tests.connectors.feeds import Heard, config_of, drive
from tests.connectors.ticks import START_NS


def okx_trade(number, instrument="BTC-USDT", at_ms=1_790_000_000_000):
    row = {
        "instId": instrument, "tradeId": str(number), "px": "100.5", "sz": "0.25", "side": "buy", "ts": str(at_ms)
    }  # fmt: skip
    return json.dumps({"arg": {"channel": "trades", "instId": instrument}, "data": [row]}).encode()


def bybit_trade(number, at_ms=1_790_000_000_000):
    row = {"T": at_ms, "s": "BTCUSDT", "S": "Sell", "v": "0.5", "p": "101", "i": str(number), "BT": False}
    return json.dumps({"topic": "publicTrade.BTCUSDT", "type": "snapshot", "ts": at_ms, "data": [row]}).encode()


def record(folder, venue, frames, times_ns):
    recorder = Recorder(RecordFolder(folder, 1 << 30), venue)
    for frame, at_ns in zip(frames, times_ns, strict=True):
        recorder.write([frame], int(at_ns))
    recorder.close()


def read(folder):
    """Return all ticks of a folder, their symbols by name, and what was counted."""
    found = Imported()
    ticks = join([empty_ticks(), *read_folder(venue_files(folder), found)])
    return ticks, [found.names[code] for code in ticks["symbol"]], found


def ticks_in(recording, names):
    table = scan(recording).select(columns_of(recording)).collect()
    return frame_to_ticks(table, {name: code for code, name in enumerate(names)})


# merging


@st.composite
def streams(draw):
    """Arrays in receive order, cut anywhere, also into empty parts; few distinct times, so that many are equal."""
    made = []
    for place in range(draw(st.integers(0, 4))):
        times = sorted(draw(st.lists(st.integers(0, 6), max_size=12)))
        rows = empty_ticks(len(times))
        rows["receive_ns"], rows["venue"], rows["symbol"] = times, place, np.arange(len(times))
        cuts = sorted(draw(st.lists(st.integers(0, len(times)), max_size=4)))
        made.append(np.split(rows, cuts))
    return made


@given(streams())
def test_merged_streams_are_what_sorting_all_at_once_gives(made):
    whole = join([empty_ticks(), *[part for parts in made for part in parts]])
    wanted = whole[np.argsort(whole["receive_ns"], kind="stable")]
    assert join([empty_ticks(), *merge([iter(parts) for parts in made])]).tobytes() == wanted.tobytes()


def test_merging_reads_no_stream_further_than_needed():
    """One venue is recorded for an hour, the other for the hour after it."""
    read_parts = [0, 0]

    def stream(place, start):
        for number in range(100):
            read_parts[place] += 1
            rows = empty_ticks(10)
            rows["receive_ns"] = start + number * 10 + np.arange(10)
            yield rows

    merged = merge([stream(0, 0), stream(1, 1_000)])
    for number, rows in enumerate(merged):
        if number < 50:
            assert rows["receive_ns"][-1] < 1_000
            assert read_parts == [number + 1, 1]
    assert read_parts == [100, 100]


# decoding


def test_recorded_frames_become_ticks_of_all_venues_in_receive_order(tmp_path):
    record(tmp_path, "okx", [okx_trade(1), okx_trade(2, "ETH-USDT"), okx_trade(3)], START_NS + np.array([10, 30, 30]))
    record(tmp_path, "bybit", [bybit_trade(7), bybit_trade(8)], START_NS + np.array([20, 30]))
    (tmp_path / "notes").mkdir()
    (tmp_path / "okx" / "readme.txt").write_text("not frames")
    ticks, names, found = read(tmp_path)
    assert (ticks["receive_ns"] - START_NS).tolist() == [10, 20, 30, 30, 30]
    assert ticks["trade_id"].tolist() == [b"1", b"7", b"2", b"3", b"8"]
    assert names == ["BTC-USDT", "BTC-USDT", "ETH-USDT", "BTC-USDT", "BTC-USDT"]
    assert dict(found.frames) == {"okx": 3, "bybit": 2}
    assert dict(found.ticks) == {"okx": 3, "bybit": 2}
    assert not found.rejects


def test_bare_frames_count_as_received_when_the_venue_sent_them(tmp_path):
    (tmp_path / "okx").mkdir()
    stamps = [1_790_000_000_500, 1_790_000_000_400, 1_790_000_000_600]
    lines = [okx_trade(number, at_ms=at_ms) for number, at_ms in enumerate(stamps)]
    (tmp_path / "okx" / "frames.jsonl").write_bytes(b"\n".join([lines[0], b"", b"pong", *lines[1:]]))
    ticks, _, _ = read(tmp_path)
    assert ticks["trade_id"].tolist() == [b"0", b"1", b"2"]
    assert (ticks["receive_ns"] // 1_000_000).tolist() == [stamps[0], stamps[0], stamps[2]]


def test_a_torn_last_line_of_a_plain_file_is_a_reject(tmp_path):
    (tmp_path / "okx").mkdir()
    lines = [json.dumps({"receive_ns": START_NS + n, "frame": okx_trade(n).decode()}) for n in (1, 2)]
    (tmp_path / "okx" / f"{START_NS + 1}.jsonl").write_text("\n".join(lines)[:-30])
    ticks, _, found = read(tmp_path)
    assert ticks["trade_id"].tolist() == [b"1"]
    assert dict(found.rejects) == {("okx", "malformed"): 1}


def test_a_torn_block_costs_itself_and_nothing_after_its_file(tmp_path, caplog):
    for hour in range(2):
        record(tmp_path, "okx", [okx_trade(10 * hour + n) for n in range(3)], START_NS + 10 * hour + np.arange(3))
    path = tmp_path / "okx" / f"{START_NS}.jsonl.gz"
    path.write_bytes(path.read_bytes() + path.read_bytes()[:40])
    ticks, _, found = read(tmp_path)
    assert [int(number) for number in ticks["trade_id"]] == [0, 1, 2, 10, 11, 12]
    assert dict(found.rejects) == {("okx", "torn file"): 1}
    assert f"{path} is read up to where it is torn" in caplog.text


def test_files_follow_each_other_by_start_and_time_never_goes_back(tmp_path):
    for start, times in ((START_NS, [0, 50]), (START_NS + 40, [40, 60])):
        record(tmp_path, "okx", [okx_trade(start + number) for number in range(2)], np.array(times) + START_NS)
    assert (read(tmp_path)[0]["receive_ns"] - START_NS).tolist() == [0, 50, 50, 60]


# the recording made of it


def test_a_folder_without_venues_or_none_at_all_is_one_line(tmp_path):
    with pytest.raises(RecordingError, match="holds no <venue>/"):
        import_folder(tmp_path, tmp_path)
    (tmp_path / "okx").mkdir()
    with pytest.raises(RecordingError, match="holds no <venue>/"):
        import_folder(tmp_path, tmp_path)
    with pytest.raises(RecordingError, match="no folder"):
        import_folder(tmp_path / "missing", tmp_path)


def test_a_file_that_cannot_be_read_is_one_line(tmp_path):
    (tmp_path / "okx" / "1.jsonl").mkdir(parents=True)
    with pytest.raises(RecordingError, match=r"1\.jsonl cannot be read: Is a directory"):
        import_folder(tmp_path, tmp_path / "into")
    assert list((tmp_path / "into").iterdir()) == []


def test_an_imported_folder_is_a_recording(tmp_path, monkeypatch):
    monkeypatch.setattr(importing, "PART_ROWS", 100)
    monkeypatch.setattr(frame_files, "DECODE_FRAMES", 64)
    frames = [okx_trade(number, f"C{number % 3}-USDT") for number in range(1_300)]
    record(tmp_path / "raw", "okx", frames, START_NS + np.arange(1_300))
    path, found = import_folder(tmp_path / "raw", tmp_path / "into" / "here")
    assert len(list(path.iterdir())) > 10
    assert check_recording(path) == (["okx"], ["C0-USDT", "C1-USDT", "C2-USDT"], 1_300)
    assert ticks_in(path, found.names)[0].tobytes() == read(tmp_path / "raw")[0].tobytes()


def test_a_folder_of_which_nothing_can_be_read_is_an_empty_recording(tmp_path):
    (tmp_path / "raw" / "okx").mkdir(parents=True)
    (tmp_path / "raw" / "okx" / "x.jsonl").write_text("nothing\nof use\n")
    path, found = import_folder(tmp_path / "raw", tmp_path)
    assert check_recording(path) == ([], [], 0)
    assert sum(found.rejects.values()) == 2
    assert ticks_in(path, [])[0].dtype == empty_ticks().dtype


def test_importing_again_replaces_what_is_there(tmp_path):
    record(tmp_path / "raw", "okx", [okx_trade(1)], [START_NS])
    for _ in range(2):
        path, _ = import_folder(tmp_path / "raw", tmp_path)
        (path / "999999.parquet").write_bytes((path / "000000.parquet").read_bytes())
    path, _ = import_folder(tmp_path / "raw", tmp_path)
    assert check_recording(path)[2] == 1


def test_memory_does_not_grow_with_the_recording(tmp_path, monkeypatch):
    monkeypatch.setattr(importing, "PART_ROWS", 4_000)
    monkeypatch.setattr(frame_files, "DECODE_FRAMES", 500)

    def peak_of(rows):
        folder = tmp_path / str(rows)
        for venue, frame in (("okx", okx_trade(1)), ("bybit", bybit_trade(1))):
            record(folder, venue, [frame] * rows, START_NS + np.arange(rows))
        tracemalloc.start()
        import_folder(folder, tmp_path / "into")
        peak = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
        return peak

    peak_of(100)  # what is built once
    assert peak_of(40_000) < 1.2 * peak_of(10_000)


def read_terminal(end):
    """Return all that was written to the other end, which is closed."""
    text = b""
    with os.fdopen(end, "rb", buffering=0) as terminal, suppress(OSError):  # EIO: the end, on Linux
        while part := terminal.read(10_000):
            text += part
    return text


def test_progress_shows_on_a_terminal_and_only_there(tmp_path, monkeypatch):
    record(tmp_path / "raw", "okx", [okx_trade(1)], [START_NS])
    quiet = io.StringIO()
    monkeypatch.setattr("sys.stderr", quiet)
    import_folder(tmp_path / "raw", tmp_path)
    assert quiet.getvalue() == ""
    ours, theirs = pty.openpty()
    with os.fdopen(theirs, "w") as terminal:
        monkeypatch.setattr("sys.stderr", terminal)
        import_folder(tmp_path / "raw", tmp_path)
    shown = read_terminal(ours).decode()
    assert "decoding raw frames" in shown
    assert "100%" in shown


# the round trip


def test_what_collectors_sent_is_what_their_recording_gives_back(start_simulator, tmp_path):
    """All venues, with the history that some repeat after a subscription, and a drain at the end."""
    simulator = start_simulator("--rate", "4000", "--symbols", "12")
    config = config_of(simulator, tmp_path, wanted="top:12", record_dir=str(tmp_path / "raw"))
    source = VenueSource(VENUES, config)
    parts = {name: source.build_part("venues", name, None) for name in VENUES}
    heard = {name: Heard() for name in VENUES}
    drive(parts, heard, lambda: all(h.rows > 600 for h in heard.values()))
    source.stop()
    drive(parts, heard, lambda: all(h.over for h in heard.values()))
    path, found = import_folder(tmp_path / "raw", tmp_path / "into")
    replayed, rejects = ticks_in(path, config.symbols)
    assert not rejects
    repeated = 0
    for name, h in heard.items():
        sent = join([batch.ticks for batch in h.batches])
        again = replayed[replayed["venue"] == VENUE_CODES[name]]
        assert again.tobytes() == sent.tobytes(), name
        assert found.ticks[name] == sent.size
        assert found.frames[name] == h.batches[-1].status.messages
        repeated += int((sent["flags"] & REPLAYED != 0).sum())
    assert repeated
    assert (np.diff(replayed["receive_ns"]) >= 0).all()
