import io
import itertools

import pytest
from rich.console import Console

from flows import display, status
from flows.watch import Watch
from sinks.stores import Stores

STORES = Stores("unix:///data/run/redis.sock", "postgresql://postgres@/postgres?host=/data/postgres")
LIVE = status.VenueRow("okx", "live", 10, 0, 0, 0, 0, 0)


@pytest.fixture
def watch(settings_of):
    return Watch(settings_of())


def text_of(renderable):
    console = Console(width=200, file=io.StringIO())
    console.print(renderable)
    return console.file.getvalue()


def test_the_start_is_told_step_by_step(watch):
    assert display.steps(watch) == [("stores", False), ("venues (0 live)", False), ("first ticks", False)]
    watch.stores, watch.snapshot = STORES, status.Snapshot(0.0, (LIVE,))
    assert display.steps(watch) == [("stores", True), ("venues (1 live)", True), ("first ticks", False)]
    text = text_of(display.picture(watch, "the newest line of the log"))
    assert "done  stores" in text
    assert "...   first ticks" in text
    assert "the newest line of the log" in text


def test_the_market_replaces_the_steps(watch):
    watch.stores, watch.snapshot = STORES, status.Snapshot(0.0, (LIVE,), symbols=50)
    watch.trouble = "the hot store does not answer"
    text = text_of(display.picture(watch, "the newest line of the log"))
    assert "50 symbols" in text
    assert "the hot store does not answer" in text
    assert "done" not in text
    assert "the newest line" not in text


def test_hints_can_be_pasted(watch):
    api, redis, history, _ = display.hints(STORES, watch.settings)
    assert "http://127.0.0.1:8000/" in api
    assert redis.endswith("redis-cli -s /data/run/redis.sock HGETALL tk:BTC-USDT")
    assert history.endswith(f"psql '{STORES.database}'")


def test_hints_never_show_a_configured_url(settings_of):
    secret = {"redis_url": "redis://:hunter2@there:6379/0", "database_url": "postgresql://mie:hunter2@there/mie"}
    settings = settings_of(**secret)
    text = "\n".join(display.hints(Stores(settings.redis_url, settings.database_url), settings))
    assert "hunter2" not in text
    assert '-u "$MIE_REDIS_URL"' in text
    assert 'psql "$MIE_DATABASE_URL"' in text


@pytest.mark.parametrize("name", ["redis-cli", "psql"])
def test_programs_come_with_the_embedded_stores(monkeypatch, name):
    import subprocess

    monkeypatch.setenv("PATH", "")
    path = display.program(name)
    assert path.endswith(f"/bin/{name}")
    assert subprocess.run([path, "--version"], capture_output=True, check=True, timeout=20).stdout


def test_a_program_on_the_path_is_named_plainly(monkeypatch, tmp_path):
    (tmp_path / "psql").touch(mode=0o755)
    monkeypatch.setenv("PATH", str(tmp_path))
    assert display.program("psql") == "psql"


def test_lines_tell_the_start_the_hints_once_and_the_state(watch):
    output = io.StringIO()
    with display.Lines(watch, output, clock=itertools.count(0).__next__) as lines:
        lines.show()
        watch.stores = STORES
        watch.snapshot = status.Snapshot(0.0, (LIVE,), symbols=50)
        lines.show()
        watch.trouble = "the hot store does not answer"
        lines.show()
    text = output.getvalue().splitlines()
    assert text[0] == "00:00:00Z starting: waiting for stores"
    assert [line.split(":")[0] for line in text[1:4]] == ["API", "Redis", "History"]
    assert text[5].startswith("00:00:01Z 1/1 venues live")
    assert text[6] == "00:00:02Z the hot store does not answer"
    assert len(text) == 7


def test_a_screen_redraws_and_leaves_the_last_picture(watch):
    console = Console(file=io.StringIO(), force_terminal=True, width=100)
    with display.Screen(watch, lambda: "the newest line", console) as screen:
        screen.show()
        watch.stores, watch.snapshot = STORES, status.Snapshot(0.0, (LIVE,), symbols=50)
        screen.show()
    assert "50 symbols" in console.file.getvalue()
