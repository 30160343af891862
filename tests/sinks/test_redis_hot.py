import contextlib
import json

import pytest
import redis

from market.records import LetGo, WickBatch
from sinks import keys
from sinks.encode import Message, encode, encode_forge, encode_hot, encode_venues, unpack
from sinks.redis_hot import RedisStore
from tests.sinks.made import MINUTE_NS, NAMES, OPEN_NS, correlation, hot, status, studies, wick


@pytest.fixture
def store(redis_url):
    store = RedisStore(redis_url)
    store.connect()
    yield store
    store.close()


@pytest.fixture
def client(redis_url):
    with redis.Redis.from_url(redis_url, decode_responses=True) as client:
        yield client


def message(item):
    return unpack(encode(item, NAMES))


def test_a_candle_reaches_channel_stream_and_hash(store, client):
    listener = client.pubsub(ignore_subscribe_messages=True)
    with contextlib.closing(listener):
        listener.subscribe("NEW_CANDLE:ETH-USDT:1m")
        listener.get_message(timeout=5)
        batch = studies(4)
        store.write("s", [message(batch)], 70)
        heard = json.loads(listener.get_message(timeout=5)["data"])
    expected = batch.candles[1]
    assert heard["symbol"] == "ETH-USDT"
    assert heard["interval"] == "1m"
    assert heard["close"] == expected["close"]
    assert heard["trades"] == expected["trades"]
    assert heard["indicators"]["macd"] is None
    assert heard["indicators"]["rsi_14"] == batch.studies["rsi_14"][1]
    entries = client.xrange("candles:1m")
    assert [fields["symbol"] for _, fields in entries] == list(NAMES)
    assert json.loads(entries[1][1]["candle"]) == heard
    fields = client.hgetall("ind:ETH-USDT:1m")
    assert fields["open_ns"] == str(OPEN_NS)
    assert fields["macd"] == ""
    assert float(fields["rsi_14"]) == batch.studies["rsi_14"][1]
    assert store.positions(["s", "other"]) == {"s": 70, "other": 0}


def test_an_amended_older_candle_leaves_newer_indicators(store, client, redis_url):
    store.write("s", [message(studies(4, minute=5)), message(studies(4, minute=4, revision=1, seed=2))], 1)
    assert client.hget("ind:BTC-USDT:1m", "open_ns") == str(OPEN_NS + 5 * MINUTE_NS)
    again = RedisStore(redis_url)
    again.connect()
    again.write("s", [message(studies(4, minute=3, seed=3))], 2)
    assert client.hget("ind:BTC-USDT:1m", "open_ns") == str(OPEN_NS + 5 * MINUTE_NS)
    amended = studies(4, minute=5, revision=1, seed=4)
    again.write("s", [message(amended)], 3)
    assert client.hget("ind:BTC-USDT:1m", "revision") == "1"
    assert float(client.hget("ind:BTC-USDT:1m", "rsi_14")) == amended.studies["rsi_14"][0]
    again.close()


def test_wicks_are_published_and_kept(store, client):
    store.write("s", [message(WickBatch([wick(1), wick(1, readmitted_ns=9)]))], 5)
    found = [json.loads(fields["wick"]) for _, fields in client.xrange(keys.WICK_STREAM)]
    assert [entry["readmitted_ns"] for entry in found] == [0, 9]
    assert found[0]["evidence"] == wick().evidence
    assert found[0]["side"] == "sell"


def test_a_correlation_replaces_whole_sets(store, client):
    store.write("s", [message(correlation())], 1)
    assert client.zrange("corr:ETH-USDT:1m", 0, -1, withscores=True) == [("SOL-USDT", -0.25), ("BTC-USDT", 0.5)]
    nan = float("nan")
    store.write("s", [message(correlation([[1, 0.75, nan], [0.75, 1, nan], [nan, nan, 1]]))], 2)
    assert client.zrange("corr:ETH-USDT:1m", 0, -1, withscores=True) == [("BTC-USDT", 0.75)]
    assert not client.exists("corr:SOL-USDT:1m")


def test_the_keys_of_a_symbol_that_is_let_go_are_deleted(store, client):
    store.write("s", [message(studies(8)), message(correlation())], 1)
    store.write("s", [message(LetGo([1], "ind"))], 2)
    assert client.keys("ind:*ETH*") == []
    assert client.exists("corr:ETH-USDT:1m")
    assert not any("ETH-USDT" in key for key in store._newest)
    store.write("s", [message(LetGo([1, 2], "corr"))], 3)
    assert {key for key in client.keys("*") if key.startswith(("ind:", "corr:"))} == {
        "corr:BTC-USDT:1m", "ind:BTC-USDT:1m", "ind:SOL-USDT:1m", "ind:XRP-USDT:1m",
    }  # fmt: skip
    store.write("s", [message(studies(2, minute=-9))], 4)  # a symbol that is listed again begins anew
    assert client.hget("ind:ETH-USDT:1m", "open_ns") == str(OPEN_NS - 9 * MINUTE_NS)


def test_newest_state_and_venues(store, client):
    store.write_hot(unpack(encode_hot(hot([60_000.1, 2_000.0]), NAMES)[0]).rows())
    assert client.hgetall("tk:BTC-USDT") == {
        "price": "60000.1", "size": "0.0", "side": "buy", "venue": "binance", "event_ns": str(OPEN_NS),
        "receive_ns": str(OPEN_NS + 1), "bid": "", "bid_venue": "", "ask": "0.0", "ask_venue": "binance",
        "reference": "0.0", "spread_bps": "0.0", "venues": "0", "verdict": "confirmed", "seq": "1",
    }  # fmt: skip
    store.write_venues(unpack(encode_venues([status(2, messages=8)])).rows())
    fields = client.hgetall("venue:bybit")
    assert fields["messages"] == "8"
    assert fields["clock_offset_ns"] == "-5"
    assert fields["state"] == "live"


def test_a_hash_a_worker_of_what_its_forges_counted(store, client):
    for worker, wicks in [(0, 3), (1, 5), (0, 4)]:
        store.write_forge(unpack(encode_forge({"worker": worker, "workers": 2, "wick": wicks})).rows())
    assert client.hgetall("metrics:forge:0") == {"workers": "2", "wick": "4"}
    assert client.hgetall("metrics:forge:1") == {"workers": "2", "wick": "5"}


def test_a_refused_transaction_writes_nothing(store, client):
    client.config_set("maxmemory", "1")
    try:
        with pytest.raises(redis.RedisError):
            store.write("s", [message(studies(4))], 9)
    finally:
        client.config_set("maxmemory", "512mb")
    assert client.keys("*") == []
    with pytest.raises(redis.ConnectionError):
        store.positions(["s"])  # closed: its replies may be out of step
    store.connect()
    assert store.positions(["s"]) == {"s": 0}


def test_a_key_of_another_type_costs_its_own_command(store, client, caplog):
    client.set("candles:1m", "not a stream")
    store.write("s", [message(studies(1))], 9)
    assert client.exists("ind:BTC-USDT:1m")
    assert store.positions(["s"]) == {"s": 9}
    assert store.failed_commands == 1
    assert "XADD candles:1m" in caplog.text


def test_a_message_that_makes_no_sense_is_left_out(store, client, caplog):
    store.write(
        "s", [Message("candles", texts={"symbol": ["A"], "interval": []}), Message("candles", texts={"x": [""]})], 3
    )
    assert store.positions(["s"]) == {"s": 3}
    assert store.failed_messages == 2
    assert "left out" in caplog.text


def test_more_commands_than_a_socket_holds(store, client):
    store.write("s", [message(studies(4_000))], 1)
    assert client.xlen("candles:1m") == 4_000


def test_connecting_to_nothing_raises(tmp_path):
    store = RedisStore(f"unix://{tmp_path}/none.sock")
    with pytest.raises(redis.ConnectionError):
        store.connect()
