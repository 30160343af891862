import os
import random
import signal
import subprocess
import sys
import zlib

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sinks import spool
from sinks.spool import Appender, Reader

ROOMY = 1 << 30


def read_all(reader, max_bytes=1 << 16):
    found = []
    while records := reader.read(max_bytes):
        found += records
    return found


@pytest.fixture
def root(tmp_path):
    return tmp_path / "spool"


def small(root, max_bytes=ROOMY, worker=0):
    return Appender(root, worker, max_bytes, segment_bytes=100)


def test_what_is_appended_is_read(root):
    appender = Appender(root, 0, ROOMY)
    reader = Reader(appender.directory, 0)
    assert reader.read(100) == []
    appender.append([b"one", b"two"])
    assert reader.read(100) == [b"one", b"two"]
    assert reader.position == appender.position
    assert reader.read(100) == []
    appender.append([b"three"])
    assert reader.read(100) == [b"three"]
    reader.close()
    appender.close()


@settings(max_examples=40, deadline=None)
@given(
    st.lists(st.lists(st.binary(min_size=1, max_size=90), min_size=1, max_size=4), max_size=12),
    st.integers(1, 400),
    st.integers(0, 11),
)
def test_round_trip_over_segments_and_restarts_of_the_reader(tmp_path_factory, batches, max_bytes, cut):
    appender = small(tmp_path_factory.mktemp("spool"))
    expected = [record for batch in batches for record in batch]
    for batch in batches[:cut]:
        appender.append(batch)
    first = Reader(appender.directory, 0)
    found = first.read(max_bytes)
    for batch in batches[cut:]:
        appender.append(batch)
    second = Reader(appender.directory, first.position)
    found += read_all(second, max_bytes)
    assert found == expected
    assert second.lost_bytes == 0
    for end in (first, second, appender):
        end.close()


def test_a_torn_last_record_is_waited_for(root):
    appender = Appender(root, 0, ROOMY)
    appender.append([b"whole"])
    path = spool.segments(appender.directory)[0].path
    payload = b"comes in two pieces"
    record = len(payload).to_bytes(4, "little") + zlib.crc32(payload).to_bytes(4, "little") + payload
    reader = Reader(appender.directory, 0)
    for cut in range(len(record)):
        with path.open("ab") as segment:
            segment.write(record[cut : cut + 1])
        assert reader.read(1 << 16) == ([b"whole"] if cut == 0 else [payload] if cut == len(record) - 1 else [])
    assert reader.lost_bytes == 0
    reader.close()
    appender.close()


def test_damage_costs_the_rest_of_its_segment_and_is_counted(root):
    appender = small(root)
    for number in range(12):
        appender.append([b"%030d" % number])
    path = spool.segments(appender.directory)[1].path
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 1
    path.write_bytes(data)
    reader = Reader(appender.directory, 0)
    numbers = [int(record) for record in read_all(reader, max_bytes=38)]
    assert numbers == [0, 1, 4, 5, 6, 7, 8, 9, 10, 11] or numbers == [0, 1, 2, 4, 5, 6, 7, 8, 9, 10, 11]
    assert reader.lost_bytes in (38, 76)
    reader.close()
    appender.close()


@pytest.mark.parametrize("tail", [b"\0" * 64, b"\xff" * 64, b"\x05"])
def test_a_tail_of_rubbish_ends_a_spool_quietly(root, tail):
    appender = Appender(root, 0, ROOMY)
    appender.append([b"last"])
    appender.close()
    with spool.segments(appender.directory)[0].path.open("ab") as segment:
        segment.write(tail)
    reader = Reader(appender.directory, 0)
    assert read_all(reader) == [b"last"]
    reader.close()


def test_truncate_keeps_what_is_not_passed(root):
    appender = small(root)
    for number in range(20):
        appender.append([b"%030d" % number])
    reader = Reader(appender.directory, 0)
    while len(reader.read(38)) and reader.position < appender.position // 2:
        pass
    before = spool.segments(appender.directory)
    spool.truncate(appender.directory, reader.position)
    after = spool.segments(appender.directory)
    assert 0 < len(after) < len(before)
    assert after[0].start <= reader.position
    again = Reader(appender.directory, reader.position)
    assert read_all(again) == read_all(reader)
    spool.truncate(appender.directory, appender.position)
    assert len(spool.segments(appender.directory)) == 1
    assert spool.end(appender.directory) == appender.position
    for end in (reader, again, appender):
        end.close()


def test_the_bound_drops_the_oldest_counts_and_logs_once(root, caplog):
    appender = small(root, max_bytes=1000)
    reader = Reader(appender.directory, 0)
    assert reader.read(10) == []
    for number in range(100):
        appender.append([b"%030d" % number])
    used = sum(segment.size() for segment in spool.segments(appender.directory))
    assert used <= 1000
    assert spool.dropped_segments(root) > 10
    assert [record.getMessage() for record in caplog.records] == [
        "the spool is full (0 MB): the oldest rows are dropped"
    ]
    numbers = [int(record) for record in read_all(reader)]
    assert numbers[-1] == 99
    assert numbers == sorted(numbers)
    assert len(numbers) < 40
    assert reader.lost_bytes == (100 - len(numbers)) * 38
    reader.close()
    appender.close()


def test_the_bound_counts_all_spools_and_spares_segments_in_use(root):
    ended, other = small(root), small(root, worker=1)
    for number in range(10):
        ended.append([b"%030d" % number])
    other.append([b"x" * 30])
    ended.close()
    appender = small(root, max_bytes=300, worker=2)
    for number in range(10):
        appender.append([b"%030d" % number])
    assert spool.segments(ended.directory) == []
    assert spool.end(other.directory) == 38
    other.close()
    appender.close()


def test_a_full_disk_costs_records_and_no_more(root, monkeypatch, caplog):
    appender = Appender(root, 0, ROOMY)
    appender.append([b"before"])
    real = os.write

    def half_then_refuse(descriptor, data):
        if len(data) > 10:
            return real(descriptor, bytes(data[:10]))
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "write", half_then_refuse)
    appender.append([b"lost record"])
    appender.append([b"lost record"])
    monkeypatch.setattr(os, "write", real)
    appender.append([b"after"])
    reader = Reader(appender.directory, 0)
    assert read_all(reader) == [b"before", b"after"]
    assert appender.lost_records == 2
    assert len(caplog.records) == 1
    reader.close()
    appender.close()


def test_spools_are_listed_oldest_first_whatever_their_worker(root):
    made = [Appender(root, worker, ROOMY) for worker in (3, 10, 0)]
    assert spool.spools(root) == [appender.directory for appender in made]
    assert not any(spool.has_ended(appender.directory) for appender in made)
    for appender in made:
        appender.close()
    assert all(spool.has_ended(appender.directory) for appender in made)


CRASHING = """
import sys
from pathlib import Path
from sinks.spool import Appender
appender = Appender(Path(sys.argv[1]), 0, 1 << 30, segment_bytes=4000)
number = 0
while True:
    appender.append([b"%d" % (number + extra) for extra in range(3)])
    number += 3
    print(number, flush=True)
"""


def test_kill_loses_nothing_that_append_returned_for(root):
    for attempt in range(3):
        process = subprocess.Popen([sys.executable, "-c", CRASHING, root], stdout=subprocess.PIPE)
        with process:
            for _ in range(random.Random(attempt).randint(1, 600)):
                process.stdout.readline()
            process.send_signal(signal.SIGKILL)
            told = [int(line) for line in process.stdout.read().split()]
        path = spool.spools(root)[-1]
        assert spool.has_ended(path)
        reader = Reader(path, 0)
        numbers = [int(record) for record in read_all(reader)]
        reader.close()
        assert numbers == list(range(len(numbers)))
        assert len(numbers) >= max(told[:-1], default=0)
