import json

import numpy as np

from connectors.recorder import Recorder


def lines(directory):
    return [json.loads(line) for path in sorted(directory.glob("*.jsonl")) for line in path.read_bytes().splitlines()]


def test_frames_are_there_as_soon_as_they_are_written(tmp_path):
    recorder = Recorder(tmp_path / "okx")
    recorder.write([b'{"a":"b\\n"}', b"pong"], np.array([5, 5]))
    assert lines(tmp_path / "okx") == [{"receive_ns": 5, "frame": '{"a":"b\\n"}'}, {"receive_ns": 5, "frame": "pong"}]
    recorder.write([b"two\nlines"], np.array([9]))
    assert lines(tmp_path / "okx")[-1] == {"receive_ns": 9, "frame": "two\nlines"}
    assert [path.name for path in (tmp_path / "okx").iterdir()] == ["5.jsonl"]
    recorder.close()
    recorder.close()


def test_nothing_received_leaves_no_file(tmp_path):
    Recorder(tmp_path / "okx").close()
    assert not (tmp_path / "okx").exists()


def test_a_second_recorder_does_not_touch_the_first_s_file(tmp_path):
    for start in (1, 2):
        recorder = Recorder(tmp_path)
        recorder.write([b"x"], np.array([start]))
        recorder.close()
    assert sorted(path.name for path in tmp_path.iterdir()) == ["1.jsonl", "2.jsonl"]


def test_bytes_that_are_no_text_are_replaced(tmp_path):
    recorder = Recorder(tmp_path)
    recorder.write([b"a\xff\x00b"], np.array([1]))
    recorder.close()
    assert lines(tmp_path) == [{"receive_ns": 1, "frame": "a\ufffd\x00b"}]
