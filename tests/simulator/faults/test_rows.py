import csv
import json
from itertools import pairwise

import pytest
from websockets.exceptions import ConnectionClosed

from market.venues import VENUES
from simulator.faults.rows import joined, select
from simulator.market import Quotes
from tests.simulator.client import FEEDS, WAIT_S, receive_until, trade_ids, wait_for


def quotes(*send_ns):
    return Quotes(list(send_ns), *([1] * len(send_ns) for _ in range(7)))


def test_rows_are_picked_and_joined_and_the_originals_stay():
    first, then = quotes(1, 2, 3), quotes(4)
    picked = select(first, [2, 0])
    assert picked.send_ns == [3, 1]
    both = joined(joined(None, first), then)
    assert both.send_ns == [1, 2, 3, 4]
    assert (first.send_ns, then.send_ns) == ([1, 2, 3], [4])
    assert joined(None, None) is None
    assert joined(both, None) is both


def take(client, venue, enough):
    """Return trade ids as they come until `enough` of them says so."""
    ids = []
    while not enough(ids):
        ids += trade_ids(venue, json.loads(client.recv(timeout=WAIT_S)))
    return ids


@pytest.mark.parametrize("venue", VENUES)
def test_duplicates(faulty, venue):
    with faulty.feed(venue) as client:
        take(client, venue, bool)
        faulty.order(venue, "duplicate", count=3)
        ids = take(client, venue, lambda ids: len(ids) - len(set(ids)) == 3)
        twice = {one for one in ids if ids.count(one) == 2}
        assert len(twice) == 3
        assert len(set(take(client, venue, lambda ids: len(ids) > 5))) > 5


@pytest.mark.parametrize("venue", VENUES)
def test_out_of_order(faulty, venue):
    with faulty.feed(venue) as client:
        take(client, venue, bool)
        faulty.order(venue, "out_of_order", symbol="BTC-USDT", hold_ms=400, for_s=3000)

        def turned(ids):
            return sum(later < earlier for earlier, later in pairwise(ids)) >= 5

        first = take(client, venue, turned)
        assert len(set(first)) == len(first)
        faulty.order(venue, "clear")
        took = take(client, venue, lambda ids: len(ids) > 30)
        assert len(set(first + took)) == len(first) + len(took)  # late, and not lost or twice


def test_id_gap_is_in_the_history(faulty):
    with faulty.feed("binance") as client:
        before = take(client, "binance", bool)
        faulty.order("binance", "id_gap", symbol="BTC-USDT", count=4)
        ids = before + take(client, "binance", lambda ids: bool(ids) and (before + ids)[-1] - (before + ids)[-2] > 1)
        missing = list(range(ids[-2] + 1, ids[-1]))
        path = f"/api/v3/historicalTrades?symbol=BTCUSDT&fromId={missing[0]}&limit={len(missing)}"
        assert [row["id"] for row in faulty.rest("binance", path)] == missing
        more = take(client, "binance", lambda ids: len(ids) > 5)
        assert len(missing) <= 4
        assert more == sorted(more)


def test_a_stall_ends_in_a_burst_with_the_stamps_it_had(faulty):
    with faulty.feed("okx") as client:
        newest = take(client, "okx", bool)[-1]
        faulty.order("okx", "stall", for_s=0.6)
        rows = faulty.rest("okx", "/api/v5/market/trades?instId=BTC-USDT")["data"]
        assert int(rows[0]["tradeId"]) >= newest
        frames = []
        while not frames or int(frames[-1]["ts"]) - int(frames[0]["ts"]) < 900:
            frame = json.loads(client.recv(timeout=WAIT_S))
            frames += frame["data"] if trade_ids("okx", frame) else []
        ids = [(int(row["tradeId"]), int(row["count"])) for row in frames]
        assert all(later - fills == earlier for (earlier, _), (later, fills) in pairwise(ids))
        stamps = [int(row["ts"]) for row in frames]
        assert stamps == sorted(stamps)
        assert max(later - earlier for earlier, later in pairwise(stamps)) < 400  # spread over the stall


def history_of(running, venue, since):
    """Return a venue's REST history of BTC from a trade id on, as single fills: ids."""
    name = FEEDS[venue][1].format("BTC")
    if venue == "binance":
        rows = running.rest(venue, f"/api/v3/historicalTrades?symbol={name}&fromId={since}&limit=1000")
        return {row["id"] for row in rows}
    if venue == "kraken":
        rows = running.rest(venue, "/0/public/Trades?pair=XBTUSDT&since=0")["result"]["XBTUSDT"]
        return {row[-1] for row in rows}
    if venue == "gateio":
        rows = running.rest(venue, f"/api/v4/spot/trades?currency_pair={name}&limit=1000")
        return {int(row["sequence_id"]) for row in rows}
    if venue == "okx":
        ids, after = set(), ""
        while not ids or min(ids) > since:
            path = f"/api/v5/market/history-trades?instId={name}&type=1&limit=100{after}"
            page = {int(row["tradeId"]) for row in running.rest(venue, path)["data"]}
            ids, after = ids | page, f"&after={min(page)}"
        return ids
    rows = running.rest(venue, f"/api/v2/spot/market/fills-history?symbol={name}&limit=1000")["data"]
    return {int(row["tradeId"]) for row in rows}


@pytest.mark.parametrize("venue", ["binance", "okx", "kraken", "gateio", "bitget"])
def test_socket_and_history_together_are_the_ledger(start_simulator, venue):
    """A loss, a dropped link, a hole, a new link: nothing is missing in the end, and the ledger says what was sent."""
    running = start_simulator("--venues", venue, "--symbols", "2", "--rate", "500", "--ledger")
    got = set()
    with running.feed(venue) as client:
        got |= set(take(client, venue, lambda ids: len(ids) > 5))
        first = min(got)
        running.order(venue, "id_gap", count=5)
        got |= set(take(client, venue, lambda ids: len(ids) > 10))
        running.order(venue, "drop")
        try:
            while True:
                got |= set(trade_ids(venue, json.loads(client.recv(timeout=WAIT_S))))
        except ConnectionClosed:
            pass
    lost_at = running.stats()["made"][venue]
    wait_for(lambda: running.stats()["made"][venue] > lost_at + 80)
    with running.feed(venue) as client:
        got |= set(take(client, venue, lambda ids: len(ids) > 10))
        refilled = history_of(running, venue, first)
        got |= set(take(client, venue, bool))
    running.end()
    with (running.folder / "trades.csv").open() as lines:
        made = [row for row in csv.DictReader(lines) if row["symbol"] == "BTC-USDT"]
    assert len({row["trade_id"] for row in made}) == len(made)
    single = {
        fill
        for row in made
        for fill in range(int(row["trade_id"]) - int(row["fills"]) + 1, int(row["trade_id"]) + 1)
        if int(row["trade_id"]) <= max(got)
    }
    assert single - refilled - fills_of(made, got) == set()
    unsent = {int(row["trade_id"]) for row in made if row["sent"] == "0"}
    assert len(unsent) > 25
    assert unsent & got == set()


def fills_of(made, got):
    """Return the single fills in the trades that came over the socket."""
    fills = {int(row["trade_id"]): int(row["fills"]) for row in made}
    return {fill for last in got if last in fills for fill in range(last - fills[last] + 1, last + 1)}


def test_what_a_stall_still_holds_at_the_end_is_in_the_ledger(start_simulator):
    running = start_simulator("--venues", "binance", "--symbols", "1", "--rate", "500", "--ledger")
    with running.feed("binance") as client:
        sent = take(client, "binance", lambda ids: len(ids) > 3)
        running.order("binance", "stall", for_s=3000)
        wait_for(lambda: running.rest("binance", "/api/v3/trades?symbol=BTCUSDT&limit=1")[0]["id"] > sent[-1] + 20)
        running.end()
    with (running.folder / "trades.csv").open() as lines:
        made = [(int(row["trade_id"]), row["sent"]) for row in csv.DictReader(lines)]
    assert [one for one, _ in made] == list(range(made[0][0], made[0][0] + len(made)))
    assert sum(flag == "0" for _, flag in made) >= 20


def test_a_client_that_leaves_is_owed_nothing_and_one_that_is_lost_is(start_simulator):
    running = start_simulator("--venues", "okx", "--symbols", "2", "--rate", "500", "--ledger")

    def ledger():
        return (running.folder / "trades.csv").read_text().splitlines()[1:]

    with running.feed("okx") as client:
        receive_until(client, lambda frame: trade_ids("okx", frame))
    with running.feed("okx", "ETH") as client:
        receive_until(client, lambda frame: trade_ids("okx", frame))
        client.socket.shutdown(2)
    wait_for(lambda: running.stats()["clients"]["okx"] == 0)
    newest = int(running.rest("okx", "/api/v5/market/trades?instId=ETH-USDT&limit=1")["data"][0]["tradeId"])
    path = "/api/v5/market/trades?instId={}-USDT&limit=1"
    wait_for(lambda: int(running.rest("okx", path.format("ETH"))["data"][0]["tradeId"]) > newest + 5)
    running.end()
    flags = [(line.split(",")[1], line.split(",")[6]) for line in ledger()]
    assert ("ETH-USDT", "0") in flags
    assert ("ETH-USDT", "1") in flags
    assert ("BTC-USDT", "0") not in flags
