import gzip
import json
import logging
import os
import resource
import signal
import subprocess
import sys
from contextlib import contextmanager
from pathlib import Path

import pytest

from connectors.frame_files import TornFileError, read_frames
from connectors.recorder import BLOCK_FRAMES, BLOCK_NS, FILE_BYTES, FILE_NS, Recorder, RecordFolder
from tests.connectors.peers import until
from tests.connectors.ticks import START_NS

ROOT = Path(__file__).parents[2]
MB = 1 << 20


def recorder_of(directory, venue="okx", max_bytes=64 * MB):
    return Recorder(RecordFolder(directory, max_bytes), venue)


def lines(directory):
    """Return what all files of a folder hold, in the order of their names."""
    paths = sorted(directory.glob("*.jsonl.gz"), key=lambda path: int(path.name.split(".")[0]))
    return [json.loads(line) for path in paths for line in gzip.open(path, "rb")]


def files(directory):
    return sorted(path.name for path in directory.rglob("*") if path.is_file())


def noise(number, size=200):
    """Return a frame that hardly compresses."""
    return f"{number}:{os.urandom(size // 2).hex()}".encode()


def test_a_line_is_a_frame_with_its_receive_time(tmp_path):
    recorder = recorder_of(tmp_path)
    recorder.write([b'{"a":"b\\n"}', b"pong"], 5)
    recorder.write([b"two\nlines"], 9)
    recorder.close()
    recorder.close()
    assert lines(tmp_path / "okx") == [
        {"receive_ns": 5, "frame": '{"a":"b\\n"}'},
        {"receive_ns": 5, "frame": "pong"},
        {"receive_ns": 9, "frame": "two\nlines"},
    ]
    assert files(tmp_path) == ["5.jsonl.gz"]


def test_a_block_is_on_disk_and_readable_as_soon_as_it_is_full_or_a_second_old(tmp_path):
    recorder = recorder_of(tmp_path)
    recorder.write([b"x"] * (BLOCK_FRAMES - 1), START_NS)
    recorder.flush(START_NS + BLOCK_NS - 1)
    assert files(tmp_path) == []
    recorder.write([b"y"], START_NS + 1)
    assert len(lines(tmp_path / "okx")) == BLOCK_FRAMES
    recorder.write([b"z"], START_NS + 5)
    recorder.flush(START_NS + 5 + BLOCK_NS)
    assert len(lines(tmp_path / "okx")) == BLOCK_FRAMES + 1
    recorder.close()


def test_nothing_received_leaves_no_file(tmp_path):
    recorder = recorder_of(tmp_path)
    recorder.flush(START_NS)
    recorder.close()
    assert files(tmp_path) == []


def test_a_second_recorder_does_not_touch_the_first_s_file(tmp_path):
    """Not even when the clock was set back to the same nanosecond."""
    for frame in (b"x", b"y"):
        recorder = recorder_of(tmp_path)
        recorder.write([frame], 1)
        recorder.close()
    assert files(tmp_path) == ["1.jsonl.gz", "2.jsonl.gz"]
    assert [line["frame"] for line in lines(tmp_path / "okx")] == ["x", "y"]


def test_bytes_that_are_no_text_are_replaced(tmp_path):
    recorder = recorder_of(tmp_path)
    recorder.write([b"a\xff\x00b", "\u2028é\x7f".encode()], 1)
    recorder.close()
    assert [line["frame"] for line in lines(tmp_path / "okx")] == ["a\ufffd\x00b", "\u2028é\x7f"]


def test_a_file_is_followed_by_another_after_an_hour(tmp_path):
    recorder = recorder_of(tmp_path)
    for at_ns in (START_NS, START_NS + FILE_NS - 1, START_NS + FILE_NS, START_NS + FILE_NS + 1):
        recorder.write([b"x"], at_ns)
        recorder.flush(at_ns + BLOCK_NS)
    recorder.close()
    assert files(tmp_path) == [f"{START_NS}.jsonl.gz", f"{START_NS + FILE_NS}.jsonl.gz"]


def test_and_when_it_is_large(tmp_path):
    recorder = recorder_of(tmp_path)
    for number in range(40):
        recorder.write([noise(number)] * 1 + [noise(n) for n in range(BLOCK_FRAMES)], START_NS + number)
    recorder.close()
    sizes = [path.stat().st_size for path in sorted(tmp_path.rglob("*.gz"))]
    assert len(sizes) > 1
    assert all(2 * MB <= size < 2.5 * MB for size in sizes[:-1])
    assert len(lines(tmp_path / "okx")) == 40 * (BLOCK_FRAMES + 1)
    assert RecordFolder(tmp_path, 10_240 * MB).file_bytes == FILE_BYTES


# the bound


def made(directory, venue, start, size):
    path = directory / venue / f"{start}.jsonl.gz"
    path.parent.mkdir(exist_ok=True)
    path.write_bytes(b"\0" * size)
    return path


def test_the_oldest_files_of_all_venues_make_room_and_one_line_says_so(tmp_path, caplog):
    caplog.set_level(logging.WARNING)
    for start in range(1, 13):
        made(tmp_path, ("okx", "bybit")[start % 2], start, 8 * MB)
    foreign = [made(tmp_path, "okx", "notes", 8 * MB), made(tmp_path, "photos", 1, 8 * MB)]
    folder = RecordFolder(tmp_path, 64 * MB)
    folder.wrote(1)
    assert folder.deleted == 5
    assert files(tmp_path / "okx") == ["10.jsonl.gz", "12.jsonl.gz", "6.jsonl.gz", "8.jsonl.gz", "notes.jsonl.gz"]
    assert files(tmp_path / "bybit") == ["11.jsonl.gz", "7.jsonl.gz", "9.jsonl.gz"]
    assert all(path.exists() for path in foreign)
    made(tmp_path, "okx", 13, 8 * MB)
    folder.wrote(MB)
    assert folder.deleted == 6
    assert [record.getMessage() for record in caplog.records] == [
        f"{tmp_path} is full (64 MB): its oldest files are deleted"
    ]


def test_a_venue_s_newest_file_stays_however_old_it_is(tmp_path):
    """Its recorder may have it open: what goes into a deleted file is on no disk and in no count."""
    quiet = made(tmp_path, "kraken", 1, MB)
    for start in range(2, 12):
        made(tmp_path, "okx", start, 10 * MB)
    RecordFolder(tmp_path, 64 * MB).wrote(1)
    assert quiet.exists()
    assert files(tmp_path / "okx") == [f"{start}.jsonl.gz" for start in (10, 11, 7, 8, 9)]


def test_recorders_of_a_folder_never_exceed_the_bound(tmp_path):
    folder = RecordFolder(tmp_path, 3 * MB)
    recorders = [Recorder(folder, venue) for venue in ("okx", "kraken", "gateio")]
    largest = 0
    for number in range(60):
        for recorder in recorders:
            recorder.write([noise(n) for n in range(BLOCK_FRAMES // 4)], START_NS + number)
        largest = max(largest, sum(path.stat().st_size for path in tmp_path.rglob("*.gz")))
    for recorder in recorders:
        recorder.close()
    assert 2 * MB < largest <= 3 * MB
    assert folder.deleted > 10
    kept = [line["receive_ns"] for line in lines(tmp_path / "okx")]
    assert kept == sorted(kept)
    assert kept[-1] == START_NS + 59


# what goes wrong


@contextmanager
def full_after(size):
    """Let no file of this process grow beyond `size` bytes, as a disk that is full would."""
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, before[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)


def test_a_full_disk_is_an_error_and_what_is_on_it_stays_readable(tmp_path):
    recorder = recorder_of(tmp_path)
    recorder.write([noise(number) for number in range(BLOCK_FRAMES)], START_NS)
    path = next(tmp_path.rglob("*.gz"))
    with full_after(path.stat().st_size + 1_000), pytest.raises(OSError, match="File too large"):
        recorder.write([noise(number) for number in range(BLOCK_FRAMES)], START_NS + 1)
    recorder.close()
    found = []
    with pytest.raises(TornFileError, match="ends within a block"):
        found += (chunk for chunk in read_frames(path))
    assert sum((chunk.receive_ns == START_NS).sum() for chunk in found) == BLOCK_FRAMES


KILLED = """
import sys
from pathlib import Path
from connectors.recorder import Recorder, RecordFolder
recorder = Recorder(RecordFolder(Path(sys.argv[1]), 1 << 30), "okx")
for number in range(10**9):
    recorder.write([b'{"number":%d}' % number], number)
    recorder.flush(number + 50)
    print(number, flush=True)
"""


def test_kill_9_loses_nothing_of_what_was_flushed(tmp_path):
    process = subprocess.Popen(
        [sys.executable, "-c", KILLED, str(tmp_path)], cwd=ROOT, stdout=subprocess.PIPE, text=True
    )
    with process:
        until(lambda: any(path.stat().st_size > 5_000 for path in tmp_path.rglob("*.gz")))
        process.send_signal(signal.SIGKILL)
        last = int(process.stdout.read().split()[-1])
    numbers = [line["receive_ns"] for line in lines(tmp_path / "okx")]
    assert numbers == list(range(len(numbers)))
    assert last - len(numbers) <= BLOCK_FRAMES
