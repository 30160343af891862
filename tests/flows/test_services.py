"""The processes around the flow, as real processes."""

import os

import psutil
import pytest

from flows.services import Child, Services, ServicesError
from market.settings import Settings
from tests.flows.whole import names_of, until

ECHO = """
import sys
print("ready", flush=True)
for line in sys.stdin:
    print(line, end="", flush=True)
"""


@pytest.fixture
def settings(data_dir):
    return Settings(data_dir=data_dir, feed="live")


@pytest.fixture
def services(settings):
    running = Services.start(settings)
    yield running
    running.finish(complete=False)


def writer_of_us():
    """The writer process of this test, if it runs."""
    return next((process for process in psutil.Process().children() if "sinks.writer" in names_of([process])), None)


def test_a_live_feed_has_no_simulator(settings):
    before = set(psutil.Process().children())
    running = Services.start(settings)
    names = names_of(process for process in psutil.Process().children() if process not in before)
    running.finish(complete=False)
    assert running.endpoints == {}
    assert "sinks.writer" in names
    assert "-m simulator" not in names


def test_a_writer_that_ends_is_started_again(services):
    first = writer_of_us()
    first.kill()
    second = until(lambda: (found := writer_of_us()) and found.pid != first.pid and found)
    assert second.pid != first.pid


def test_finish_ends_everything(settings):
    before = set(psutil.Process().children(recursive=True))
    running = Services.start(settings)
    processes = [process for process in psutil.Process().children(recursive=True) if process not in before]
    assert processes
    running.finish(complete=True)
    _, alive = psutil.wait_procs(processes, timeout=10)
    assert alive == []


def test_the_simulator_is_shared_by_processes_of_a_cluster(data_dir):
    sim = Settings(data_dir=data_dir, feed="sim", sim_rate=10)
    first = Services.start(sim)
    second = Services.start(sim)
    assert first.endpoints == second.endpoints
    assert set(first.endpoints) == set(sim.venues)
    second.finish(complete=False)
    first.finish(complete=False)


def test_a_store_that_is_not_there_is_one_line_without_the_password(data_dir):
    wrong = Settings(data_dir=data_dir, feed="live", redis_url="redis://:secret@127.0.0.1:1/0")
    with pytest.raises(ServicesError) as caught:
        Services.start(wrong)
    text = str(caught.value)
    assert "127.0.0.1:1" in text
    assert "secret" not in text
    assert "\n" not in text
    assert str(data_dir) not in names_of(psutil.process_iter()), "what was started has ended"


def test_a_child_is_heard_told_and_ended(tmp_path, monkeypatch):
    (tmp_path / "echo.py").write_text(
        "import sys\nprint('ready', flush=True)\nfor l in sys.stdin: print(l, end='', flush=True)\n"
    )
    monkeypatch.setenv("PYTHONPATH", os.fspath(tmp_path))
    child = Child("echo")
    assert child.hears("ready", 10)
    child.tell("hello")
    assert child.hears("hello", 10)
    assert not child.hears("never said", 0.1)
    child.end()
    assert child.has_ended


def test_a_child_that_does_not_end_is_killed(tmp_path, monkeypatch):
    (tmp_path / "deaf.py").write_text("import time\nprint('ready', flush=True)\ntime.sleep(60)\n")
    monkeypatch.setenv("PYTHONPATH", os.fspath(tmp_path))
    child = Child("deaf")
    assert child.hears("ready", 10)
    child.end(timeout_s=0.1)
    assert child.has_ended


def test_a_child_that_dies_is_not_waited_for():
    child = Child("this_module_does_not_exist")
    assert not child.hears("ready", 10)
    child.end()
