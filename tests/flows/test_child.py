import os
import signal
import sys
import time

import pytest

from flows import child
from flows.child import Child

DEADLINE_S = 20
IGNORES_SIGTERM = "import signal, time; signal.signal(signal.SIGTERM, signal.SIG_IGN); print('up'); time.sleep(60)"
DRAINS = "import signal, sys, time; signal.signal(signal.SIGTERM, lambda *_: sys.exit(0)); print('up'); time.sleep(60)"


@pytest.fixture
def start(tmp_path):
    def python(code):
        return Child([sys.executable, "-u", "-c", code], tmp_path / "run" / "mie.log", os.environ)

    return python


def ended(started):
    deadline = time.monotonic() + DEADLINE_S
    while (code := started.wait(0.05)) is None:
        assert time.monotonic() < deadline
    return code


def says(started, text):
    deadline = time.monotonic() + DEADLINE_S
    while text not in started.tail:
        assert time.monotonic() < deadline
        time.sleep(0.005)


def test_status_and_output_are_kept(start):
    with start("import sys; print('out'); sys.stderr.write('err\\n'); sys.exit(3)") as started:
        assert ended(started) == 3
    assert sorted(started.tail) == ["err", "out"]
    assert sorted(started.log.read_text().split()) == ["err", "out"]


def test_a_running_child_has_no_status(start):
    with start("import time; time.sleep(60)") as started:
        assert started.wait(0) is None


def test_leaving_ends_it(start):
    with start(IGNORES_SIGTERM) as started:
        says(started, "up")
        pid = started.pid
    with pytest.raises(ProcessLookupError):
        os.kill(pid, 0)


def test_a_signal_drains_it(start):
    with start(DRAINS) as started:
        says(started, "up")
        started.stop(signal.SIGTERM, DEADLINE_S)
        assert started.stopping
        assert ended(started) == 0


def test_death_by_a_signal_is_a_status_as_in_a_shell(start):
    with start("import os, signal; os.kill(os.getpid(), signal.SIGKILL)") as started:
        assert ended(started) == 128 + signal.SIGKILL


def test_what_does_not_drain_in_time_is_killed(start):
    with start(IGNORES_SIGTERM) as started:
        says(started, "up")
        started.stop(signal.SIGTERM, 0.1)
        assert ended(started) == 128 + signal.SIGKILL


def test_a_second_signal_does_not_wait(start):
    with start(IGNORES_SIGTERM) as started:
        says(started, "up")
        started.stop(signal.SIGTERM, 60)
        started.stop(signal.SIGTERM, 60)
        assert ended(started) == 128 + signal.SIGKILL


def test_the_log_is_bounded(start, monkeypatch):
    monkeypatch.setattr(child, "LOG_BYTES", 1_000)
    with start("for i in range(1000): print(f'line {i}')") as started:
        assert ended(started) == 0
    older = started.log.with_name("mie.log.1")
    assert {path.name for path in started.log.parent.iterdir()} == {"mie.log", "mie.log.1"}
    assert older.stat().st_size <= 1_000
    assert started.log.read_text().endswith("line 999\n")
    assert started.tail[0] == f"line {1000 - child.TAIL_LINES}"


def test_an_earlier_log_is_kept_once(start):
    for number in range(3):
        with start(f"print('run {number}')") as started:
            assert ended(started) == 0
    assert started.log.read_text() == "run 2\n"
    assert started.log.with_name("mie.log.1").read_text() == "run 1\n"


def test_output_that_is_no_text_is_kept(start):
    with start("import sys; sys.stdout.buffer.write(b'\\xff' * 200_000)") as started:
        assert ended(started) == 0
    assert started.log.stat().st_size == 200_000
