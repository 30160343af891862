import csv
import json
import os
import signal
import subprocess
import sys

import pytest

from market.venues import VENUES
from simulator.app import Options
from tests.simulator.client import WAIT_S, receive_until, send, wait_for


def test_endpoints_and_the_ready_line(simulator):
    assert set(simulator.endpoints) == {*VENUES, "skew_ms"}
    assert set(simulator.endpoints["skew_ms"]) == set(VENUES)
    ports = dict(part.split("=") for part in simulator.ready.removeprefix("simulator ready: ").split())
    assert all(simulator.endpoints[name]["ws"] == f"ws://127.0.0.1:{ports[name]}" for name in VENUES)


def test_every_trade_that_arrives_is_in_the_ledger(start_simulator):
    running = start_simulator("--rate", "3000", "--ledger", "--symbols", "8", "--venues", "binance,okx,kucoin")
    with running.ws("binance", "/stream") as client:
        names = [row["symbol"].lower() for row in running.rest("binance", "/api/v3/exchangeInfo")["symbols"]]
        send(client, {"method": "SUBSCRIBE", "params": [f"{name}@trade" for name in names], "id": 1})
        receive_until(client, lambda frame: frame.get("id") == 1)
        got = [json.loads(client.recv(timeout=WAIT_S))["data"] for _ in range(300)]
        send(client, {"method": "UNSUBSCRIBE", "params": [f"{name}@trade" for name in names], "id": 2})
        _, rest = receive_until(client, lambda frame: frame.get("id") == 2)
        got += [frame["data"] for frame in rest]
    trades = running.stats()["trades"]
    running.end()
    with (running.folder / "trades.csv").open() as lines:
        rows = list(csv.DictReader(lines))
    assert [(row["symbol"].replace("-", ""), row["trade_id"], row["price"], row["size"]) for row in rows] == [
        (data["s"], str(data["t"]), data["p"], data["q"]) for data in got
    ]
    assert trades == {"binance": len(rows), "okx": 0, "kucoin": 0}


def test_wicks_in_the_truth_file_are_the_trades_on_the_wire(simulator):
    with simulator.ws("bybit", "/v5/public/spot") as client:
        rows = simulator.rest("bybit", "/v5/market/instruments-info?category=spot")["result"]["list"]
        topics = [f"publicTrade.{row['symbol']}" for row in rows]
        for begin in range(0, len(topics), 10):
            send(client, {"op": "subscribe", "args": topics[begin : begin + 10]})
        begun = truth(simulator)
        got = {}

        def arrived(frame):
            if "topic" in frame:
                got.update({(row["s"], row["i"]): row["p"] for row in frame["data"]})
            fresh = [row for row in truth(simulator)[len(begun) :] if row.get("venue") == "bybit"]
            ids = [{(row["symbol"].replace("-", ""), i) for i in row["trade_ids"]} for row in fresh]
            return any(wick <= got.keys() for wick in ids)

        receive_until(client, arrived)
    keys = ["kind", "venue", "symbol", "trade_ids", "start_ns", "end_ns", "size_pct", "prints", "quotes_follow"]
    assert all(list(row) == keys for row in truth(simulator) if row["kind"] == "wick")


def truth(simulator):
    text = (simulator.folder / "wicks.jsonl").read_text()
    return [json.loads(line) for line in text[: text.rfind("\n") + 1].splitlines()]


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_ends_it_cleanly(start_simulator, number):
    running = start_simulator("--venues", "okx", "--symbols", "3")
    with running.ws("okx", "/ws/v5/public") as client:
        send(client, "ping")
        receive_until(client, lambda frame: frame == "pong")
        running.process.send_signal(number)
        assert running.process.wait(WAIT_S) == 0


def test_it_ends_with_its_parent(tmp_path):
    command = [sys.executable, "-m", "simulator", "--follow-parent", "--venues", "okx", "--data-dir", str(tmp_path)]
    starter = (
        f"import subprocess, sys; child = subprocess.Popen({command!r}, stdin=subprocess.DEVNULL,"
        "stdout=subprocess.PIPE); child.stdout.readline(); print(child.pid)"
    )
    done = subprocess.run([sys.executable, "-c", starter], capture_output=True, text=True, timeout=WAIT_S, check=True)
    wait_for(lambda: not alive(int(done.stdout)))


def alive(pid):
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    with open(f"/proc/{pid}/stat") as status:
        return status.read().rpartition(")")[2].split()[0] != "Z"


def test_it_ends_after_its_duration(start_simulator):
    running = start_simulator("--venues", "kraken", "--symbols", "3", "--duration", "0.2")
    assert running.process.wait(WAIT_S) == 0


@pytest.mark.parametrize(
    ("option", "says"),
    [
        (("--venues", "binance,nope"), "allowed is a comma list of binance,okx"),
        (("--rate", "-1"), "allowed is a number from 0"),
        (("--skew-ms", "okx"), "allowed is VENUE=MILLISECONDS"),
        (("--rate", "0", "--ledger"), "--ledger needs a paced run"),
        (("--symbols", "0"), "allowed is a whole number from 1"),
    ],
)
def test_a_bad_option_is_one_clear_line(option, says):
    done = subprocess.run(
        [sys.executable, "-m", "simulator", *option], capture_output=True, text=True, timeout=WAIT_S, check=False
    )
    assert done.returncode == 2
    assert says in done.stderr.splitlines()[-1]


def test_a_rate_of_zero_is_not_paced():
    assert Options().paced
    assert not Options(rate=0).paced
