"""Symbols that are listed and delisted while the flow runs: picked up, let go, their codes used again."""

import csv
import json
import signal
import subprocess
import sys
from collections import defaultdict
from contextlib import contextmanager, suppress
from urllib.request import Request, urlopen

import psutil
import psycopg
import pytest
import redis

from flows.symbol_file import FILE
from sinks.stores import read_stores
from tests.flows.whole import market, rows, run, running, until

VENUES = ("binance", "okx", "kraken", "gateio")
SETTINGS = {
    "intervals": "1s,1m", "symbols": "top:10", "venues": ",".join(VENUES), "warm_candles": 0,
    "universe_refresh_s": 1, "log_level": "info", "correlation_interval": "1s",
}  # fmt: skip
LEAVES, COMES, THIRD = "ADA-USDT", "PEPE-USDT", "TRX-USDT"
"""Of one key group, with prices far from each other."""
PRICES = {LEAVES: 0.6481, COMES: 1.047e-5, THIRD: 0.2714}
PROGRAM = "tests.flows.quick_listings"


def order(data_dir, fault, symbol, **more):
    """Have all venues list or delist a symbol."""
    at = json.loads((data_dir / "sim" / "endpoints.json").read_text())["okx"]["rest"]
    urlopen(
        Request(f"{at}/sim/fault", json.dumps({"fault": fault, "venue": "all", "symbol": symbol, **more}).encode())
    ).close()


def hidden(path, *symbols):
    """Return the simulator's options with which symbols are not listed yet."""
    lines = [{"at_s": 0, "fault": "delisted", "venue": "all", "symbol": name, "for_s": 3600} for name in symbols]
    path.write_text("\n".join(json.dumps(line) for line in lines))
    return ["--rate", "400", "--symbols", "10", "--venues", ",".join(VENUES), "--ledger", "--faults", str(path)]


def owners(folder):
    """Names by code, as kept beside the recovery store."""
    return json.loads((folder / FILE).read_text())["names"]


@contextmanager
def hot_store(data_dir):
    """A connection to the Redis of a run that has just been started."""

    def answers():
        stores = read_stores(data_dir)
        if stores is None:
            return None
        client = redis.Redis.from_url(stores.redis, decode_responses=True)
        with suppress(redis.ConnectionError):
            client.ping()
            return client
        return None

    with until(answers) as client:
        yield client


def keys_of(hot, symbol):
    return {key for key in hot.keys(f"*{symbol}*") if key.startswith(("tk:", "ind:", "corr:"))}


def check_candles(data_dir):
    """Assert that each symbol's candles are its own, and hold what was sent since it was first subscribed to."""
    (found,) = rows(
        data_dir,
        "SELECT symbol, min(low), max(high), sum(volume) FROM candles WHERE interval = '1s' GROUP BY 1",
    )
    (wicks,) = rows(data_dir, "SELECT symbol, sum(size) FROM wicks WHERE readmitted_time IS NULL GROUP BY 1")
    flagged = defaultdict(float, wicks)
    sent = defaultdict(float)
    with (data_dir / "sim" / "trades.csv").open() as file:
        for row in csv.DictReader(file):
            sent[row["symbol"]] += float(row["size"])
    volumes = {symbol: volume + flagged[symbol] for symbol, _, _, volume in found}
    for symbol, low, high, _ in found:
        if symbol in PRICES:
            assert 0.8 * PRICES[symbol] < low <= high < 1.25 * PRICES[symbol], symbol
    (given_up,) = rows(data_dir, "SELECT DISTINCT symbol FROM gaps WHERE NOT filled")
    for symbol in volumes.keys() - {symbol for (symbol,) in given_up}:
        assert volumes[symbol] == pytest.approx(sent[symbol], rel=1e-9), symbol


@pytest.mark.timeout(240)
@pytest.mark.parametrize("workers", ["1", "2"])
def test_one_is_picked_up_one_let_go_and_its_code_is_a_third_one_s(data_dir, tmp_path, workers):
    recovery = tmp_path / "recovery"
    recovery.mkdir()
    subprocess.run([sys.executable, "-m", "bytewax.recovery", str(recovery), "1"], check=True)
    options = ["-w", workers, "-r", str(recovery), "-s", "1", "-b", "60"]
    simulator = hidden(tmp_path / "timeline.jsonl", COMES, THIRD)
    with market(data_dir, *simulator), running(data_dir, *options, program=PROGRAM, **SETTINGS) as flow:
        with (
            hot_store(data_dir) as hot,
            psycopg.connect(read_stores(data_dir).database, autocommit=True) as history,
        ):

            def candles(symbol):
                query = "SELECT count(*) FROM candles WHERE symbol = %s AND interval = '1s' AND trades > 0"
                return history.execute(query, [symbol]).fetchone()[0]

            until(lambda: len(hot.keys("tk:*")) == 8)
            assert not keys_of(hot, COMES)
            assert COMES not in owners(recovery)
            order(data_dir, "listed", COMES)
            until(lambda: hot.hget(f"tk:{COMES}", "price") and hot.hget(f"tk:{COMES}", "bid"))
            until(lambda: candles(COMES) > 3)
            until(lambda: hot.exists(f"ind:{COMES}:1s", f"corr:{COMES}:1s") == 2)
            before = owners(recovery)
            assert keys_of(hot, LEAVES)
            order(data_dir, "delisted", LEAVES, for_s=3600)
            until(lambda: not keys_of(hot, LEAVES))
            assert int(history.execute("SELECT count(*) FROM candles WHERE symbol = %s", [LEAVES]).fetchone()[0]) > 3
            until(lambda: LEAVES not in owners(recovery))
            order(data_dir, "listed", THIRD)
            until(lambda: hot.hget(f"tk:{THIRD}", "price") and hot.hget(f"tk:{THIRD}", "bid"))
            until(lambda: candles(THIRD) > 3)
            assert owners(recovery).index(THIRD) == before.index(LEAVES)
            assert owners(recovery).index(COMES) == before.index(COMES)
            assert not keys_of(hot, LEAVES)
            assert all(LEAVES not in hot.zrange(key, 0, -1) for key in hot.keys("corr:*"))
            for venue in VENUES:
                counted = hot.hgetall(f"venue:{venue}")
                assert (counted["state"], counted["rejects"], counted["refused"]) == ("live", "0", "0"), venue
        flow.send_signal(signal.SIGTERM)
        assert flow.wait(30) == 0
    check_candles(data_dir)
    log = data_dir.with_suffix(".log").read_text()
    assert f"are let go: {LEAVES}" in log
    assert "Traceback" not in log


@pytest.mark.timeout(240)
def test_a_run_that_is_resumed_finds_each_symbol_s_state_under_its_code(data_dir, tmp_path):
    """Killed after the symbols have changed; another symbol is listed while it is down."""
    recovery = tmp_path / "recovery"
    recovery.mkdir()
    subprocess.run([sys.executable, "-m", "bytewax.recovery", str(recovery), "1"], check=True)
    options = ["-r", str(recovery), "-s", "1", "-b", "60"]
    simulator = hidden(tmp_path / "timeline.jsonl", COMES, "BNB-USDT")
    with market(data_dir, *simulator):
        with running(data_dir, *options, program=PROGRAM, **SETTINGS) as flow:
            until(lambda: (recovery / FILE).exists())
            order(data_dir, "listed", COMES)
            with hot_store(data_dir) as hot:
                until(lambda: hot.hget(f"tk:{COMES}", "price") and hot.exists(f"ind:{COMES}:1s"))
                until(lambda: int(hot.hget(f"tk:{COMES}", "seq")) > 100)
            before = owners(recovery)
            redis_server = int(hot.info("server")["process_id"])
            flow.kill()
            flow.wait()
            until(lambda: not psutil.pid_exists(redis_server))
        order(data_dir, "listed", "BNB-USDT")
        with running(data_dir, *options, "-w", "2", program=PROGRAM, **SETTINGS) as flow:
            with hot_store(data_dir) as hot:
                until(lambda: hot.hget("tk:BNB-USDT", "price") and hot.hget(f"tk:{COMES}", "price"))
                assert int(hot.hget(f"tk:{COMES}", "seq")) > 40, "it went on from its state"
            flow.send_signal(signal.SIGTERM)
            assert flow.wait(30) == 0
    after = owners(recovery)
    assert ["" if name == "BNB-USDT" else name for name in after] == before
    check_candles(data_dir)
    assert "Traceback" not in data_dir.with_suffix(".log").read_text()


def test_a_state_of_other_symbols_is_refused_in_one_line(data_dir, tmp_path):
    recovery = tmp_path / "recovery"
    recovery.mkdir()
    subprocess.run([sys.executable, "-m", "bytewax.recovery", str(recovery), "1"], check=True)
    options = ["-r", str(recovery), "-s", "1", "-b", "60"]
    settings = {**SETTINGS, "symbols": "BTC-USDT,ETH-USDT", "feed": "sim", "sim_rate": 400}
    with running(data_dir, *options, **settings) as flow:
        until(lambda: (recovery / FILE).exists())
        flow.send_signal(signal.SIGTERM)
        assert flow.wait(30) == 0
    done = run(data_dir, *options, **{**settings, "symbols": "BTC-USDT,SOL-USDT"})
    assert done.returncode == 1
    (said,) = [line for line in done.stderr.splitlines() if line.startswith("mie: ")]
    assert said.startswith(f"mie: MIE_SYMBOLS: the state in {recovery} is of BTC-USDT, ETH-USDT, not of BTC-USDT, SOL-")
    assert "Traceback" not in done.stderr
