"""The launcher as a process, over a stand-in for the dataflow that publishes a real store."""

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from sinks import keys

ROOT = Path(__file__).parents[2]
DEADLINE_S = 30
LAUNCH = "import sys; from flows.run import main; sys.exit(main(sys.argv[2:], (sys.executable, '-c', sys.argv[1])))"
DRAINS = """
import os, signal, sys, time
signal.signal(signal.SIGTERM, lambda *_: sys.exit(int(os.environ["BYTEWAX_SNAPSHOT_INTERVAL"]) - 1))
signal.signal(signal.SIGINT, lambda *_: sys.exit(7))
print("up", *sys.argv[1:])
time.sleep(60)
"""


@pytest.fixture
def launch(tmp_path):
    started = []

    def run(code, *arguments, **settings):
        kept = {name: value for name, value in os.environ.items() if not name.startswith(("MIE_", "BYTEWAX_"))}
        chosen = {f"MIE_{name.upper()}": str(value) for name, value in {"data_dir": tmp_path, **settings}.items()}
        process = subprocess.Popen(
            [sys.executable, "-c", LAUNCH, code, *arguments],
            cwd=ROOT,
            env=kept | chosen,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        started.append(process)
        return process

    yield run
    for process in started:
        if process.poll() is None:
            process.kill()
        process.communicate()


def up(tmp_path):
    log = tmp_path / "run" / "mie.log"
    deadline = time.monotonic() + DEADLINE_S
    while not (log.exists() and "up" in log.read_text()):
        assert time.monotonic() < deadline
        time.sleep(0.01)
    return log.read_text()


def test_a_bad_setting_is_one_line(launch):
    process = launch("", feed="radio")
    out, err = process.communicate(timeout=DEADLINE_S)
    assert process.returncode == 2
    assert out == ""
    assert err == "MIE_FEED='radio': allowed is sim, live or replay:PATH\n"


def test_a_death_shows_the_last_lines_and_its_status(launch):
    process = launch("import sys; sys.exit('the reason it died')")
    _, err = process.communicate(timeout=DEADLINE_S)
    assert process.returncode == 1
    assert err.startswith("the reason it died\nthe dataflow ended with status 1; its log is ")


@pytest.mark.parametrize(
    ("number", "code"), [(signal.SIGTERM, 0), (signal.SIGINT, 7), (signal.SIGHUP, 0)], ids=["TERM", "INT", "HUP"]
)
def test_signals_and_arguments_reach_the_dataflow(launch, tmp_path, number, code):
    process = launch(DRAINS, "-w", "2")
    assert up(tmp_path) == "up -w 2\n"
    process.send_signal(number)
    process.communicate(timeout=DEADLINE_S)
    assert process.returncode == code


def test_shows_the_market_of_the_store(launch, tmp_path, redis_url, hot):
    hot.hset(keys.venue("okx"), mapping={"state": "live", "messages": 10})
    hot.hset(keys.ticker("BTC-USDT"), "price", 1)
    (tmp_path / "run").mkdir()
    (tmp_path / "run" / "stores.json").write_text(json.dumps({"redis": redis_url, "database": "postgresql:///none"}))
    process = launch(DRAINS)
    lines = [process.stdout.readline() for _ in range(5)]
    assert "HGETALL tk:BTC-USDT" in lines[1]
    assert "1/1 venues live" in lines[4]
    up(tmp_path)
    process.send_signal(signal.SIGTERM)
    assert process.wait(DEADLINE_S) == 0
