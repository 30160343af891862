import gzip
import json
import tracemalloc
import zlib

import numpy as np
import pytest

from connectors import frame_files as module
from connectors.frame_files import TornFileError, read_frames, start_of, venue_files


def recorded(numbers):
    """Return lines of a recording, a number each as frame and as receive time."""
    return b"".join(b'{"receive_ns":%d,"frame":"%d"}\n' % (number, number) for number in numbers)


def blocks(count, rows=100):
    """Return gzip members that count on."""
    return [gzip.compress(recorded(range(rows * block, rows * (block + 1)))) for block in range(count)]


def read(path):
    """Return the frames as numbers, the receive times, and what ended the reading early."""
    frames, times = [], []
    try:
        for chunk in read_frames(path):
            frames += [frame.decode() for frame in chunk.frames]
            times += chunk.receive_ns.tolist()
    except TornFileError as error:
        return frames, times, str(error)
    return frames, times, None


def write(folder, name, data):
    path = folder / name
    path.write_bytes(data)
    return path


def test_plain_and_compressed_files_read_alike(tmp_path):
    lines = recorded(range(1_000))
    wanted = [str(number) for number in range(1_000)], list(range(1_000)), None
    assert read(write(tmp_path, "1.jsonl", lines)) == wanted
    assert read(write(tmp_path, "1.jsonl.gz", gzip.compress(lines))) == wanted
    assert read(write(tmp_path, "2.jsonl.gz", b"".join(blocks(10)))) == wanted


def test_an_empty_file_holds_nothing(tmp_path):
    for name in ("1.jsonl", "1.jsonl.gz"):
        assert read(write(tmp_path, name, b"")) == ([], [], None)


def test_bare_frames_have_no_receive_time(tmp_path):
    path = write(tmp_path, "x.jsonl", b'{"a":1}\n\npong\r\n{"receive_ns":"x","frame":1}\n\xff\xfe\n')
    frames = [frame for chunk in read_frames(path) for frame in chunk.frames]
    assert frames == [b'{"a":1}', b"pong", b'{"receive_ns":"x","frame":1}', b"\xff\xfe"]
    assert not np.concatenate([chunk.receive_ns for chunk in read_frames(path)]).any()


def test_a_lone_surrogate_makes_a_line_a_bare_frame(tmp_path):
    line = json.dumps({"receive_ns": 5, "frame": "a\ud800"}).encode()
    assert read(write(tmp_path, "x.jsonl", line))[1] == [0]


@pytest.mark.parametrize("cut", [1, 7, 8, 9, 100])
def test_a_torn_block_is_read_up_to_the_tear(tmp_path, cut):
    data = b"".join(blocks(5))
    frames, times, torn = read(write(tmp_path, "1.jsonl.gz", data[:-cut]))
    assert torn == "it ends within a block"
    assert 400 <= len(times) <= 500
    assert times[:400] == list(range(400))
    assert frames[:400] == [str(number) for number in range(400)]


def test_a_tear_may_be_anywhere_and_no_whole_block_is_lost(tmp_path):
    parts = blocks(4, 20)
    data = b"".join(parts)
    ends = np.cumsum([len(part) for part in parts])
    for size in range(len(data)):
        frames, times, torn = read(write(tmp_path, "1.jsonl.gz", data[:size]))
        whole = int((ends <= size).sum()) * 20
        assert times[:whole] == list(range(whole))
        assert (torn is None) == (size in (0, *ends))
        assert all(f"{time}" == frame for time, frame in zip(times, frames, strict=True) if time)


@pytest.mark.parametrize("tail", [b"\0" * 5_000, b"garbage", b"\x1f\x8b\x08"])
def test_what_is_no_block_ends_the_file(tmp_path, tail):
    _, times, torn = read(write(tmp_path, "1.jsonl.gz", b"".join(blocks(3)) + tail))
    assert times == list(range(300))
    assert torn


def test_a_flipped_bit_ends_the_file_where_it_is(tmp_path):
    parts = blocks(3)
    damaged = bytearray(parts[1])
    damaged[len(damaged) // 2] ^= 4
    _, times, torn = read(write(tmp_path, "1.jsonl.gz", parts[0] + bytes(damaged) + parts[2]))
    assert times[:100] == list(range(100))
    assert torn


def test_chunks_are_bounded_and_their_bytes_sum_up(tmp_path, monkeypatch):
    monkeypatch.setattr(module, "DECODE_FRAMES", 64)
    monkeypatch.setattr(module, "READ_BYTES", 100)
    for name, data in (("1.jsonl", recorded(range(500))), ("1.jsonl.gz", b"".join(blocks(5)))):
        chunks = list(read_frames(write(tmp_path, name, data)))
        assert max(len(chunk.frames) for chunk in chunks) == 64
        assert sum(chunk.read_bytes for chunk in chunks) == len(data)
        assert np.concatenate([chunk.receive_ns for chunk in chunks]).tolist() == list(range(500))


def test_memory_does_not_depend_on_how_well_it_was_compressed(tmp_path):
    """100 MB of one line repeated are 100 KB on disk."""
    line = recorded([7])
    deflate = zlib.compressobj(9, wbits=31)
    data = b"".join(deflate.compress(line * 10_000) for _ in range(100_000_000 // len(line) // 10_000))
    path = write(tmp_path, "1.jsonl.gz", data + deflate.flush())
    chunks = read_frames(path)
    tracemalloc.start()
    for _ in range(20):
        next(chunks)
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    chunks.close()
    assert path.stat().st_size < 1_000_000
    assert peak < 5_000_000


# which files there are


def test_files_are_in_receive_order_and_those_of_others_after_them(tmp_path):
    names = ["999.jsonl", "1000.jsonl.gz", "20000.jsonl", "3.jsonl.gz", "b.jsonl", "a.jsonl.gz", "note.txt", "5.json"]
    for venue in ("okx", "binance", "photos"):
        (tmp_path / venue).mkdir()
    for name in names:
        write(tmp_path / "okx", name, b"")
    write(tmp_path / "photos", "1.jsonl", b"")
    found = venue_files(tmp_path)
    assert list(found) == ["okx"]
    assert [path.name for path in found["okx"]] == [
        "3.jsonl.gz", "999.jsonl", "1000.jsonl.gz", "20000.jsonl", "a.jsonl.gz", "b.jsonl"
    ]  # fmt: skip


def test_only_the_recorder_s_names_are_starts():
    assert start_of("1790000000000000000.jsonl.gz") == 1_790_000_000_000_000_000
    assert start_of("17.jsonl") == 17
    for name in ("x.jsonl", "17.jsonl.gz.part", "17.json", "-17.jsonl", "17 .jsonl", "9" * 20 + ".jsonl"):
        assert start_of(name) is None
