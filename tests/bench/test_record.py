import sys

from bench.record import main, reads_of, record
from connectors.recorder import Recorder, RecordFolder


def recorded(folder):
    recorder = Recorder(RecordFolder(folder, 1 << 30), "okx")
    for number in range(300):
        recorder.write([b"%d" % number, b"again"], number)
    recorder.close()
    return folder


def test_frames_come_as_they_were_received(tmp_path):
    reads = list(reads_of(recorded(tmp_path)))
    assert reads == [("okx", [b"%d" % number, b"again"], number) for number in range(300)]


def test_what_it_counts(tmp_path):
    cost = record(list(reads_of(recorded(tmp_path))))
    assert cost.frames == 600
    assert cost.frame_bytes == (10 + 2 * 90 + 3 * 200 + 5 * 300) / 600
    assert 0 < cost.disk_bytes < 20
    assert cost.cpu_us > 0


def test_it_prints_a_line(tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(sys, "argv", ["record", str(recorded(tmp_path))])
    main()
    assert capsys.readouterr().out.startswith("600 frames of 4 bytes: ")
