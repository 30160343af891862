"""The whole flow: real processes, real stores, recordings and the simulator (which stands in for live venues)."""

import csv
import signal
from collections import Counter

import polars as pl
import psutil
import pytest

from tests.flows.markets import recording
from tests.flows.whole import RUN_S, family, names_of, new_data_dir, rows, run, running, stores, until

CANDLES = "SELECT * FROM candles ORDER BY symbol, interval, open_time"
WICKS = "SELECT * FROM wicks ORDER BY event_time, symbol, venue, trade_id"
STUDIES = "SELECT * FROM indicators ORDER BY symbol, interval, open_time"
CORRELATIONS = "SELECT * FROM correlations ORDER BY interval, open_time, symbol_a, symbol_b"


@pytest.fixture(scope="module")
def market(tmp_path_factory):
    """A recording of forty seconds, and its injected wicks."""
    table, injected = recording(40)
    path = tmp_path_factory.mktemp("market") / "market.parquet"
    table.write_parquet(path)
    return path, table, injected


@pytest.fixture(scope="module")
def one_worker(market):
    """Data directory of a replay of that recording on one worker."""
    with new_data_dir() as data_dir:
        archive_dir = data_dir / "archive"
        done = run(data_dir, "-w", "1", feed=f"replay:{market[0]}", intervals="1s,1m", archive_dir=archive_dir)
        assert done.returncode == 0, done.stderr
        yield data_dir


def test_two_workers_write_the_rows_of_one(market, one_worker, data_dir):
    done = run(data_dir, "-w", "2", feed=f"replay:{market[0]}", intervals="1s,1m")
    assert done.returncode == 0, done.stderr
    queries = (CANDLES, WICKS, STUDIES, CORRELATIONS)
    expected = rows(one_worker, *queries)
    assert all(expected[:3])
    assert rows(data_dir, *queries) == expected


def test_wicks_are_in_wicks_and_not_in_candles(market, one_worker):
    _, table, injected = market
    flagged, counted, highs = rows(
        one_worker,
        "SELECT venue, symbol, trade_id FROM wicks WHERE readmitted_time IS NULL",
        "SELECT sum(trades), sum(wicks) FROM candles WHERE interval = '1m'",
        "SELECT max(high / low) FROM candles WHERE interval = '1s'",
    )
    assert set(flagged) == injected
    trades = (table["kind"] == "trade").sum()
    assert counted == [(trades - len(injected), len(injected))]
    assert highs[0][0] < 1.02


def test_candles_hold_every_unflagged_trade(market, one_worker):
    _, table, injected = market
    wick = [key in injected for key in table.select("venue", "symbol", "trade_id").iter_rows()]
    trades = table.filter((pl.col("kind") == "trade") & ~pl.Series(wick))
    expected = {
        symbol: (count, size)
        for symbol, count, size in trades.group_by("symbol").agg(pl.len(), pl.sum("size")).iter_rows()
    }
    for interval in ("1s", "1m"):
        found = rows(
            one_worker,
            f"SELECT symbol, sum(trades), sum(volume) FROM candles WHERE interval = '{interval}' GROUP BY 1",
        )[0]
        assert {symbol: int(count) for symbol, count, _ in found} == {s: c for s, (c, _) in expected.items()}
        for symbol, _, volume in found:
            assert volume == pytest.approx(expected[symbol][1], rel=1e-9)


def test_the_archive_holds_every_tick_with_its_verdict(market, one_worker):
    _, table, injected = market
    archive = pl.read_parquet(one_worker / "archive" / "*.parquet")
    key = ["venue", "symbol", "kind", "trade_id", "receive_ns", "bid"]
    assert (
        archive.select(key)
        .sort(key)
        .equals(table.with_columns(pl.col("trade_id").replace("", None)).select(key).sort(key))
    )
    wicks = archive.filter(pl.col("verdict") == "wick")
    assert set(wicks.select("venue", "symbol", "trade_id").iter_rows()) == injected
    assert (archive["event_ns"] <= archive["receive_ns"]).all()


def test_the_hot_store_shows_the_newest_state(market, one_worker):
    with stores(one_worker) as (hot, _):
        ticker = hot.hgetall("tk:BTC-USDT")
        assert hot.hget("venue:okx", "state") == "ended"
        assert hot.xlen("candles:1m") > 0
        assert int(hot.hget("venue:kraken", "messages")) > 0
        counted = hot.hgetall("metrics:forge:0")
    assert float(ticker["price"]) == pytest.approx(80_000, rel=0.05)
    assert ticker["verdict"] == "confirmed"
    assert int(ticker["venues"]) == 5
    _, table, injected = market
    assert int(counted["wick"]) == len(injected)
    assert sum(int(counted[name]) for name in ("confirmed", "wick", "unverified")) == (table["kind"] == "trade").sum()
    assert "le_inf" not in counted  # in a replay it means nothing


def test_a_folder_of_raw_frames_replays(data_dir, tmp_path):
    folder = tmp_path / "session" / "okx"
    folder.mkdir(parents=True)
    frame = (
        '{"arg":{"channel":"trades","instId":"BTC-USDT"},"data":[{"instId":"BTC-USDT","tradeId":"%d",'
        '"px":"8%d.5","sz":"1","side":"buy","ts":"%d"}]}'
    )
    lines = [frame % (7, 1, 1788416136399), frame % (8, 2, 1788416137399), '{"arg":{"channel":"trades', "garbage"]
    (folder / "frames.jsonl").write_text("\n".join(lines))
    done = run(data_dir, feed=f"replay:{folder.parent}", intervals="1s,1m")
    assert done.returncode == 0, done.stderr
    assert "okx: 4 frames, 2 ticks, rejects: 2 malformed" in done.stderr
    found = rows(data_dir, "SELECT symbol, sum(trades) FROM candles WHERE interval = '1m' GROUP BY 1")
    assert found == [[("BTC-USDT", 2)]]
    with stores(data_dir) as (hot, _):
        assert hot.hget("venue:okx", "rejects") == "2"


def read_ledger(data_dir):
    """Every trade the simulator sent live."""
    with (data_dir / "sim" / "trades.csv").open() as lines:
        return {(row["venue"], row["symbol"], row["trade_id"]) for row in csv.DictReader(lines)}


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_drains(data_dir, tmp_path, number):
    archive_dir = tmp_path / "archive"
    settings = {"sim_rate": 4000, "sim_ledger": 1, "intervals": "1s,1m", "archive_dir": archive_dir}
    with running(data_dir, feed="sim", **settings) as flow:
        ledger = data_dir / "sim" / "trades.csv"
        until(lambda: (ledger.exists() and ledger.stat().st_size > 200_000) or flow.poll() is not None)
        flow.send_signal(number)
        assert flow.wait(10) == 0
    with stores(data_dir) as (hot, _):
        counted = hot.hgetall("metrics:forge:0")
    sent = read_ledger(data_dir)
    assert len(sent) > 1000
    archive = pl.read_parquet(archive_dir / "*.parquet").filter(pl.col("kind") == "trade")
    received = set(archive.select("venue", "symbol", "trade_id").iter_rows())
    assert len(received) == len(archive) == int(counted["le_inf"])
    assert received >= sent
    assert {venue for venue, _, _ in received - sent} <= {"bitget"}  # repeats its newest history on subscription
    kept, flagged = rows(
        data_dir,
        "SELECT symbol, sum(trades) FROM candles WHERE interval = '1m' GROUP BY 1",
        "SELECT symbol, count(*) FROM wicks WHERE readmitted_time IS NULL GROUP BY 1",
    )
    stored = Counter({symbol: int(count) for symbol, count in kept}) + Counter(dict(flagged))
    assert stored == Counter(archive["symbol"].to_list())


def test_kill_leaves_no_orphan(data_dir):
    with running(data_dir, "-w", "2", feed="sim") as flow:
        until(lambda: names_of(family(flow.pid)).count("connectors.collector") == 2)
        processes = family(flow.pid)
        names = names_of(processes)
        assert all(part in names for part in ("collector", "sinks.writer", "simulator", "redis-server"))
        postmaster = int((data_dir / "postgres" / "postmaster.pid").read_text().split()[0])
        processes.append(psutil.Process(postmaster))
        flow.kill()
        flow.wait()
        _, alive = psutil.wait_procs(processes, timeout=RUN_S / 2)
        assert alive == []


@pytest.mark.parametrize(
    ("settings", "code", "words"),
    [
        ({"forge_window_ms": 90}, 2, "MIE_FORGE_WINDOW_MS='90': allowed is a whole number from 100 to 200"),
        ({"feed": "nonsense"}, 2, "MIE_FEED='nonsense': allowed is sim, live or replay:PATH"),
        ({"forge_windw_ms": 150}, 2, "MIE_FORGE_WINDW_MS is not a setting of MIE: did you mean MIE_FORGE_WINDOW_MS?"),
        ({"feed": "replay:/nowhere/at.parquet"}, 2, "no recording at /nowhere/at.parquet"),
        ({"feed": "sim", "symbols": "BTC-USDT,NOSUCH-USDT"}, 1, "MIE_SYMBOLS: NOSUCH-USDT listed by none of"),
        ({"feed": "sim", "redis_url": "redis://:secret@127.0.0.1:1/0"}, 1, "MIE_REDIS_URL"),
        ({"feed": "sim", "database_url": "postgresql://me:secret@127.0.0.1:1/mie"}, 1, "MIE_DATABASE_URL"),
    ],
)
def test_what_cannot_start_says_so_in_one_line(data_dir, settings, code, words):
    done = run(data_dir, **settings)
    assert done.returncode == code
    said = [line for line in done.stderr.splitlines() if line.startswith("mie: ")]
    assert len(said) == 1
    assert words in said[0]
    assert "Traceback" not in done.stderr
    assert "secret" not in done.stderr
