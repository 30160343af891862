"""The writer as a process, over real stores and real spools."""

import contextlib
import json
import os
import random
import select
import signal
import subprocess
import sys
import tempfile
from pathlib import Path

import psutil
import psycopg
import pytest
import redis

from market.records import WickBatch
from market.settings import Settings
from sinks import embedded, keeper, spool, writer
from sinks.encode import encode
from sinks.outputs import HotSink
from sinks.paths import spool_root
from sinks.spool import Appender
from tests.sinks.made import NAMES, correlation, hot, status, studies, until, wick

ROOMY = 1 << 30


class Running:
    """A writer process and its two pipes."""

    def __init__(self, data_dir, redis_url, database_url, *options):
        command = [sys.executable, "-m", "sinks.writer", "--data-dir", data_dir]
        command += ["--redis-url", redis_url, "--database-url", database_url, *options]
        kept = {name: value for name, value in os.environ.items() if not name.startswith("MIE_")}
        self.errors = tempfile.TemporaryFile("w+")  # noqa: SIM115 - closed in `end`
        self.process = subprocess.Popen(
            command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=self.errors, env=kept
        )
        assert self.line() == "writer ready"

    def line(self, seconds=30):
        readable, _, _ = select.select([self.process.stdout], [], [], seconds)
        return self.process.stdout.readline().decode().strip() if readable else None

    def drain(self):
        self.process.stdin.write(b"drain\n")
        self.process.stdin.flush()
        assert self.line() == "drained", self.log()

    def log(self):
        self.errors.seek(0)
        return self.errors.read().splitlines()

    def end(self):
        if self.process.poll() is None:
            self.process.kill()
        self.process.wait(10)
        for pipe in (self.process.stdin, self.process.stdout, self.errors):
            with contextlib.suppress(BrokenPipeError):
                pipe.close()


@pytest.fixture
def data_dir():
    with tempfile.TemporaryDirectory(prefix="mie-test-") as folder:
        yield Path(folder)


@pytest.fixture
def start(data_dir, redis_url, database_url):
    """Return a function that starts a writer."""
    started = []

    def writer(*options, redis_at=redis_url, database_at=database_url):
        started.append(Running(data_dir, redis_at, database_at, *options))
        return started[-1]

    yield writer
    for running in started:
        running.end()


@pytest.fixture
def appender(data_dir):
    appender = Appender(spool_root(data_dir), 0, ROOMY, segment_bytes=20_000)
    yield appender
    appender.close()


@pytest.fixture
def client(redis_url):
    with redis.Redis.from_url(redis_url, decode_responses=True) as client:
        yield client


def payloads(batches, rows=8):
    return [encode(studies(rows, seed=number + 1, minute=2 * number), NAMES) for number in range(batches)]


def closes(database_url):
    with psycopg.connect(database_url) as connection:
        return connection.execute("SELECT symbol, open_time, close FROM candles ORDER BY 1, 2").fetchall()


def streamed(client):
    """Return (symbol, open time, revision) of every stream entry."""
    found = [fields for _, fields in client.xrange("candles:1m")]
    return [(fields["symbol"], fields["open_ns"], fields["revision"]) for fields in found]


def test_everything_reaches_both_stores_and_the_spool_empties(start, appender, data_dir, client, database_url):
    running = start()
    appender.append(payloads(50))
    appender.append([encode(item, NAMES) for item in (WickBatch([wick()]), correlation())])
    partition = HotSink(data_dir, NAMES).build("hot", 0, 1)
    partition.write_batch([hot([5.0]), status()])
    partition.close()
    running.drain()
    assert len(closes(database_url)) == 400
    assert len(streamed(client)) == len(set(streamed(client))) == 400
    assert client.xlen("wicks") == 1
    assert client.hget("tk:BTC-USDT", "price") == "5.0"
    assert client.zscore("corr:BTC-USDT:1m", "ETH-USDT") == 0.5
    until(lambda: client.hget("mie:writer", "candles") == "400")
    fields = client.hgetall("mie:writer")
    assert (fields["wicks"], fields["redis_state"], fields["database_state"]) == ("1", "up", "up")
    assert (fields["redis_backlog_bytes"], fields["dropped_segments"]) == ("0", "0")
    assert len(spool.segments(appender.directory)) == 1
    appender.close()
    running.drain()
    assert spool.spools(spool_root(data_dir)) == []
    with psycopg.connect(database_url) as connection:
        until(lambda: connection.execute("SELECT count(*) FROM spool_positions").fetchone() == (0,))
    running.process.stdin.close()
    running.process.send_signal(signal.SIGTERM)
    assert running.process.wait(10) == 0
    assert running.log() == []


def test_killed_at_any_moment_nothing_is_lost_and_nothing_repeats(start, appender, client, database_url):
    """No two kills meet the same moment; what the stores hold at the end is that of an undisturbed run."""
    dice = random.Random(7)
    batches = payloads(300)
    running = start()
    for first in range(0, len(batches), 60):
        appender.append(batches[first : first + 60])
        before = client.xlen("candles:1m")
        target = before + dice.randint(0, 300)
        until(lambda target=target: client.xlen("candles:1m") >= min(target, 2_400), 30)
        running.process.kill()
        running.process.wait(10)
        running = start()
    running.drain()
    entries = streamed(client)
    assert len(entries) == len(set(entries)) == 2_400
    rows = closes(database_url)
    assert len(rows) == 2_400
    assert {row[2] for row in rows} == {
        close for number in range(300) for close in studies(8, number + 1).candles["close"]
    }


def test_a_store_away_holds_up_nobody_and_gets_all_on_return(
    start, appender, data_dir, client, redis_url, database_url
):
    door = data_dir / "door"
    door.mkdir()
    socket_of_database = database_url.split("?host=")[1]
    running = start(database_at=database_url.replace(socket_of_database, str(door)))
    appender.append(payloads(40))
    until(lambda: len(streamed(client)) == 320)
    until(lambda: client.hget("mie:writer", "database_state") == "down")
    assert closes(database_url) == []
    assert int(client.hget("mie:writer", "database_backlog_bytes")) == appender.position
    (door / ".s.PGSQL.5432").symlink_to(f"{socket_of_database}/.s.PGSQL.5432")
    running.drain()
    assert len(closes(database_url)) == 320
    assert len(streamed(client)) == 320
    assert len([line for line in running.log() if "down" in line]) == 1
    assert len([line for line in running.log() if "up again" in line]) == 1


def test_servers_that_stop_and_start_again_get_the_rest(start, appender, client, database_url, store_dir, redis_url):
    if not redis_url.startswith(f"unix://{store_dir}"):
        pytest.skip("stops the servers: only the embedded ones are ours to stop")
    running = start()
    appender.append(payloads(10))
    running.drain()
    keeper.stop_all(embedded._stop_plan(store_dir.resolve()), None)
    appender.append(payloads(20)[10:])
    embedded.start_redis(store_dir)
    embedded.start_postgres(store_dir)
    running.drain()
    assert len(closes(database_url)) == 160
    assert len(streamed(client)) == len(set(streamed(client))) == 160


def test_cut_connections_are_made_again(start, appender, client, database_url):
    running = start()
    appender.append(payloads(10))
    until(lambda: len(closes(database_url)) == 80)
    with psycopg.connect(database_url, autocommit=True) as connection:
        connection.execute(
            "SELECT pg_terminate_backend(pid) FROM pg_stat_activity "
            "WHERE pid <> pg_backend_pid() AND datname = current_database()"
        )
    client.execute_command("CLIENT", "KILL", "TYPE", "normal", "SKIPME", "yes")
    appender.append(payloads(20)[10:])
    running.drain()
    assert len(closes(database_url)) == 160
    assert len(streamed(client)) == len(set(streamed(client))) == 160


def test_the_end_of_the_parent_drains_and_ends(start, appender, data_dir, database_url):
    running = start("--follow-parent")
    appender.append(payloads(20))
    appender.close()
    running.process.stdin.close()
    assert running.process.wait(15) == 0
    assert len(closes(database_url)) == 160
    assert spool.spools(spool_root(data_dir)) == []


def test_spools_of_earlier_runs_are_adopted(start, data_dir, database_url):
    for worker in range(3):
        earlier = Appender(spool_root(data_dir), worker, ROOMY)
        earlier.append(payloads(worker + 1)[worker:])
        earlier.close()
    start().drain()
    assert len(closes(database_url)) == 24
    assert spool.spools(spool_root(data_dir)) == []


def test_a_second_writer_leaves_the_spools_alone_until_the_first_ends(start, appender, client):
    first = start()
    second = start()
    appender.append(payloads(30))
    first.drain()
    second.drain()
    assert len(streamed(client)) == 240
    first.process.kill()
    first.process.wait(10)
    appender.append(payloads(40)[30:])
    until(lambda: len(streamed(client)) == 320)
    second.drain()
    assert len(set(streamed(client))) == 320


def test_a_drain_gives_up_on_a_store_that_stays_away(start, appender, data_dir, monkeypatch, caplog, redis_url):
    monkeypatch.setattr(writer, "AWAY_S", 0.3)
    appender.append(payloads(1))
    away = f"postgresql://postgres@/none?host={data_dir}"
    here = writer.Writer(writer.Options(redis_url, away, data_dir))
    here.start()
    assert writer.drain(here, lambda: False) == writer.EXIT_UNREACHABLE
    here.stop()
    assert "cannot drain: database has been away" in caplog.text


def test_idle_it_takes_little(start, appender):
    running = start()
    running.drain()
    process = psutil.Process(running.process.pid)
    before = sum(process.cpu_times()[:2])
    with contextlib.suppress(psutil.TimeoutExpired):
        process.wait(2)
    assert sum(process.cpu_times()[:2]) - before < 0.2  # measured alone: 0.03


def test_options_come_before_settings(monkeypatch, tmp_path):
    for name in Settings.model_fields:
        monkeypatch.delenv(f"MIE_{name.upper()}", raising=False)
    monkeypatch.setenv("MIE_REDIS_URL", "redis://set")
    monkeypatch.setenv("MIE_DATABASE_URL", "postgresql://set")
    assert writer.parse(["--redis-url", "redis://given", "--data-dir", str(tmp_path), "--follow-parent"]) == (
        writer.Options("redis://given", "postgresql://set", tmp_path, follow_parent=True)
    )


def test_a_bad_setting_is_one_line(tmp_path):
    environment = {**os.environ, "MIE_DATA_DIR": str(tmp_path), "MIE_FEED": "nonsense"}
    run = subprocess.run(
        [sys.executable, "-m", "sinks.writer"], capture_output=True, text=True, env=environment, check=False
    )
    assert run.returncode == 2
    assert run.stderr.count("\n") == 1
    assert json.dumps("nonsense").strip('"') in run.stderr
