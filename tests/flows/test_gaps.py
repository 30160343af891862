"""A hole in a venue's trades, from the socket to the history."""

import csv
import json
import signal
from urllib.request import Request, urlopen

import polars as pl
import psycopg

from tests.flows.whole import rows, running, until


def test_withheld_trades_are_in_the_candles_and_their_hole_in_the_gaps(data_dir):
    options = {"intervals": "1m", "symbols": "BTC-USDT,ETH-USDT", "venues": "binance,kraken", "warm_candles": 0}
    archive = data_dir / "archive"
    with running(data_dir, sim_ledger=1, sim_rate=600, archive_dir=archive, **options) as flow:
        addresses, urls = data_dir / "sim" / "endpoints.json", data_dir / "run" / "stores.json"
        ledger = data_dir / "sim" / "trades.csv"
        until(lambda: ledger.exists() and len(ledger.read_text().splitlines()) > 100)
        for venue, at in json.loads(addresses.read_text()).items():
            if venue in ("binance", "kraken"):
                order = json.dumps({"fault": "id_gap", "symbol": "BTC-USDT", "count": 5}).encode()
                urlopen(Request(f"{at['rest']}/sim/fault", data=order), timeout=5).close()
        with psycopg.connect(json.loads(urls.read_text())["database"], autocommit=True) as history:
            until(lambda: history.execute("SELECT count(DISTINCT venue) FROM gaps WHERE filled").fetchone() == (2,))
        flow.send_signal(signal.SIGTERM)
        assert flow.wait(30) == 0
    with ledger.open() as file:
        withheld = [row for row in csv.DictReader(file) if row["sent"] == "0"]
    assert len(withheld) == 10
    (given_up,) = rows(data_dir, "SELECT DISTINCT venue, symbol FROM gaps WHERE NOT filled")
    assert len(given_up) < 3  # seen, if at all, in the last second
    released = pl.concat([pl.read_parquet(path) for path in archive.rglob("*.parquet")], how="vertical_relaxed")
    ids = set(released.filter(kind="trade").select("venue", "symbol", "trade_id").iter_rows())
    missing = {tuple(row[name] for name in ("venue", "symbol", "trade_id")) for row in withheld} - ids
    newest = {(venue, symbol): max(int(i) for v, s, i in ids if (v, s) == (venue, symbol)) for venue, symbol, _ in ids}
    # A symbol that has not traded since does not show its hole.
    shown = {row for row in missing if int(row[2]) < newest.get(row[:2], 0) and row[:2] not in given_up}
    assert shown == set()
    assert len(missing) < len(withheld)
