import json
import time

import pytest

from market.venues import VENUES
from tests.simulator.client import FEEDS, receive_until, trade_ids

LISTS = {
    "binance": ("/api/v3/exchangeInfo", lambda a: {r["symbol"]: r["status"] for r in a["symbols"]}, "BREAK"),
    "okx": ("/api/v5/public/instruments", lambda a: {r["instId"]: r["state"] for r in a["data"]}, "suspend"),
    "bybit": (
        "/v5/market/instruments-info",
        lambda a: {r["symbol"]: r["status"] for r in a["result"]["list"]},
        "Closed",
    ),
    "kraken": (
        "/0/public/AssetPairs",
        lambda a: {r["wsname"].replace("XBT", "BTC"): r["status"] for r in a["result"].values()},
        "cancel_only",
    ),
    "gateio": ("/api/v4/spot/currency_pairs", lambda a: {r["id"]: r["trade_status"] for r in a}, "untradable"),
    "bitget": ("/api/v2/spot/public/symbols", lambda a: {r["symbol"]: r["status"] for r in a["data"]}, "halt"),
    "kucoin": ("/api/v2/symbols", lambda a: {r["symbol"]: r["enableTrading"] for r in a["data"]}, False),
}


def listed(running, venue):
    path, read, _ = LISTS[venue]
    return read(running.rest(venue, path))


def ids_until_quiet(client, venue):
    """Return the ids of the trades that still come, until none has for 0.4 s."""
    ids, last_s = [], time.monotonic()
    while time.monotonic() - last_s < 0.4:
        try:
            fresh = trade_ids(venue, json.loads(client.recv(timeout=0.05)))
        except TimeoutError:
            continue
        if fresh:
            ids, last_s = ids + fresh, time.monotonic()
    return ids


@pytest.mark.parametrize("venue", VENUES)
def test_halted(faulty, venue):
    name = FEEDS[venue][1].format("ETH")
    before = listed(faulty, venue)[name]
    with faulty.feed(venue, "ETH") as client:
        receive_until(client, lambda frame: trade_ids(venue, frame))
        faulty.order(venue, "halted", symbol="ETH-USDT")
        assert listed(faulty, venue)[name] == LISTS[venue][2] != before
        last = ids_until_quiet(client, venue)
        faulty.order(venue, "clear")
        first = trade_ids(venue, receive_until(client, lambda frame: trade_ids(venue, frame))[0])
        assert listed(faulty, venue)[name] == before
        if venue in ("binance", "kraken") and last:
            assert min(first) == last[-1] + 1  # ids stood still


@pytest.mark.parametrize("venue", VENUES)
def test_delisted_and_listed_again(faulty, venue):
    name = FEEDS[venue][1].format("SOL")
    with faulty.feed(venue, "SOL") as client:
        receive_until(client, lambda frame: trade_ids(venue, frame))
        faulty.order(venue, "delisted", symbol="SOL-USDT")
        assert name not in listed(faulty, venue)
        ids_until_quiet(client, venue)
        faulty.order(venue, "listed", symbol="SOL-USDT")
        assert list(listed(faulty, venue))[-1] == name
        receive_until(client, lambda frame: trade_ids(venue, frame))


def test_clock_step(faulty):
    with faulty.feed("okx") as client:
        skew_ms = faulty.endpoints["skew_ms"]["okx"]

        def ahead(frame):
            return bool(trade_ids("okx", frame)) and int(frame["data"][0]["ts"]) - time.time_ns() / 1e6 > 20_000

        _, before = receive_until(client, lambda frame: trade_ids("okx", frame))
        assert not any(ahead(frame) for frame in before)
        faulty.order("okx", "clock_step", step_ms=30_000)
        assert faulty.rest("okx", "/sim/faults")["skew_ms"]["okx"] == skew_ms + 30_000
        receive_until(client, ahead)
        faulty.order("okx", "clear")
        receive_until(client, lambda frame: bool(trade_ids("okx", frame)) and not ahead(frame))
        assert faulty.rest("okx", "/sim/faults")["skew_ms"]["okx"] == skew_ms
