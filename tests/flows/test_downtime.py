"""The market goes on while we are down: a resumed flow, and a collector's successor, catch up with it."""

import csv
import signal
import subprocess
import sys

import polars as pl
import psutil
import psycopg
import pytest

from bench.soak.account import account, read_archive, read_ledger
from sinks.stores import read_stores
from tests.flows.whole import family, market, rows, running, until

VENUES = ("binance", "okx", "kraken", "gateio")
"""Those whose history reaches back beyond any outage here, so that each hole is filled. Not bitget: it repeats trades
from before the run, which no ledger has, and which count."""
SYMBOLS = 6
PAIRS = len(VENUES) * SYMBOLS
SETTINGS = {"intervals": "1s,1m", "symbols": f"top:{SYMBOLS}", "venues": ",".join(VENUES), "warm_candles": 0}
RATE = ("--rate", "500", "--symbols", str(SYMBOLS))
"""Each pair trades every few seconds, and a hole is a page or a few of its venue's history."""
SNAPSHOT_S = 4
"""By then what was handed out is in the recovery store: an epoch is 1 s."""
HOLES_S = 10
"""By then a pair's hole is dealt with: 1 s of grace, and Kraken is asked for its six within as many seconds."""


def ledger(data_dir):
    """Every trade that we should have, as it is written."""
    path = data_dir / "sim" / "trades.csv"
    if not path.exists():
        return []
    with path.open() as file:
        return [row for row in csv.DictReader(file) if None not in row.values()]


def pairs_of(trades):
    return {(row["venue"], row["symbol"]) for row in trades}


def seconds_of(trade):
    """The venue's stamp of a trade, cut to microseconds as the database has it."""
    return int(trade["stamp_ns"]) // 1_000 / 1e6


def owed(data_dir):
    """The trades that nobody was there to be sent."""
    return [row for row in ledger(data_dir) if row["sent"] == "0"]


def all_owed(data_dir, begin=0):
    """Whether each pair has trades that nobody was there to be sent, from one on."""
    return len(pairs_of(owed(data_dir)[begin:])) == PAIRS


def recorded(data_dir, query):
    """Rows of the running flow's history; none while it is away, or has no tables yet."""
    stores = read_stores(data_dir)
    if stores is None:
        return []
    try:
        with psycopg.connect(stores.database) as history:
            return history.execute(query).fetchall()
    except (psycopg.OperationalError, psycopg.errors.UndefinedTable):
        return []


def is_past(data_dir, trades, seconds):
    """Whether each pair has traded, and the candles are so many seconds beyond the last of their first trades."""
    firsts = {(row["venue"], row["symbol"]): seconds_of(row) for row in reversed(trades)}
    if len(firsts) < PAIRS:
        return False
    candles = recorded(data_dir, "SELECT max(open_time) FROM candles WHERE interval = '1s' HAVING count(*) > 0")
    return any(newest.timestamp() > max(firsts.values()) + seconds for (newest,) in candles)


def has_begun(data_dir):
    """Whether every pair has a state: of one without a trade the time since the start is asked for."""
    return is_past(data_dir, ledger(data_dir), SNAPSHOT_S)


def has_looked(data_dir, begin=0):
    """Whether the last trade that each pair owes us, from one on, is in a hole that is dealt with.

    Those before it are then, too: a venue is asked for the older hole first.
    """
    ends = {(row["venue"], row["symbol"]): seconds_of(row) for row in owed(data_dir)[begin:]}
    holes = recorded(data_dir, "SELECT venue, symbol, max(to_time) FROM gaps GROUP BY 1, 2")
    reached = {(venue, symbol): to_time.timestamp() for venue, symbol, to_time in holes}
    return bool(ends) and all(reached.get(pair, 0.0) >= end_s for pair, end_s in ends.items())


def is_whole_again(data_dir):
    """Whether each pair has traded since the last trade owed, so that nothing is unsure, and its hole is dealt with."""
    made = ledger(data_dir)
    since = max((at for at, row in enumerate(made, 1) if row["sent"] == "0"), default=len(made))
    return is_past(data_dir, made[since:], HOLES_S) and has_looked(data_dir)


def collector_of(flow):
    """The collector of a flow on one worker."""
    return next(process for process in family(flow.pid) if "connectors.collector" in process.cmdline())


def check(data_dir, archive, intervals):
    """Assert that nothing was given up, and that archive and candles hold each of the ledger's trades once.

    Candles without those that the archive calls wicks. The rows of `wicks` do not tell: that of one found just before a
    kill stays, and the trade may count when it is refilled.
    """
    given_up, *stored = rows(
        data_dir,
        "SELECT * FROM gaps WHERE NOT filled",
        *(f"SELECT symbol, sum(volume) FROM candles WHERE interval = '{name}' GROUP BY 1" for name in intervals),
    )
    assert given_up == []
    assert list(archive.glob("*.part")) == []
    made = read_ledger(data_dir / "sim" / "trades.csv")
    no_gaps = pl.DataFrame(schema={"venue": pl.String, "symbol": pl.String, "from_ns": pl.Int64, "to_ns": pl.Int64})
    books = account(made, read_archive(archive), no_gaps)
    assert books.missing.is_empty(), books.missing
    assert books.doubled.is_empty(), books.doubled
    assert books.unasked == 0
    counted = pl.scan_parquet(archive / "*.parquet").filter(pl.col("kind") == "trade", pl.col("verdict") != "wick")
    volumes = dict(counted.group_by("symbol").agg(pl.col("size").sum()).collect().rows())
    for candles in stored:
        assert dict(candles) == pytest.approx(volumes, rel=1e-9)


def kill(flow):
    """End a flow without a word, its collector too: so the simulator owes us what it goes on to make."""
    collector = collector_of(flow)
    collector.kill()
    flow.kill()
    flow.wait()


def test_trades_made_while_the_flow_was_down_are_in_the_candles(data_dir, tmp_path):
    """Killed, killed again in the middle of catching up, then left to catch up on another number of workers."""
    recovery = ["-r", str(tmp_path), "-s", "1", "-b", "60"]
    subprocess.run([sys.executable, "-m", "bytewax.recovery", str(tmp_path), "1"], check=True)
    archive = data_dir / "archive"
    settings = {**SETTINGS, "archive_dir": archive}
    with market(data_dir, *RATE, "--ledger"):
        with running(data_dir, *recovery, **settings) as flow:
            until(lambda: has_begun(data_dir))
            kill(flow)
        until(lambda: all_owed(data_dir))
        with running(data_dir, *recovery, **settings) as flow:
            until(lambda: recorded(data_dir, "SELECT * FROM gaps"))
            kill(flow)
            before = len(owed(data_dir))
        until(lambda: all_owed(data_dir, before))
        with running(data_dir, *recovery, "-w", "2", **settings) as flow:
            until(lambda: has_looked(data_dir, before))
            flow.send_signal(signal.SIGTERM)
            assert flow.wait(30) == 0
    check(data_dir, archive, ["1s", "1m"])


def test_a_killed_collector_costs_no_trade(data_dir):
    archive = data_dir / "archive"
    with market(data_dir, *RATE, "--ledger"), running(data_dir, archive_dir=archive, **SETTINGS) as flow:
        until(lambda: has_begun(data_dir))
        collector_of(flow).send_signal(signal.SIGKILL)
        until(lambda: is_whole_again(data_dir))
        assert psutil.pid_exists(flow.pid)
        flow.send_signal(signal.SIGTERM)
        assert flow.wait(30) == 0
    check(data_dir, archive, ["1s", "1m"])
