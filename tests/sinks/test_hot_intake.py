import logging
import socket

import pytest
import redis

from sinks import hot_intake
from sinks.encode import encode_forge, encode_hot, encode_let_go, encode_venues
from sinks.hot_intake import HotIntake
from sinks.paths import hot_socket
from sinks.redis_hot import RedisStore
from tests.sinks.made import NAMES, hot, status, until


@pytest.fixture
def path(store_dir):
    return hot_socket(store_dir / "intake")


@pytest.fixture
def sender(path):
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as end:
        yield lambda message: end.sendto(message, str(path))


@pytest.fixture
def start(path):
    started = []

    def intake(url):
        started.append(HotIntake(path, RedisStore(url), lambda: {"pid": 7}))
        started[-1].start()
        return started[-1]

    yield intake
    for thread in started:
        thread.stop()
        thread.join(10)
        assert not thread.is_alive()


def test_rows_reach_redis(start, sender, redis_url):
    intake = start(redis_url)
    sender(encode_hot(hot([1.5, 2.5]), NAMES)[0])
    sender(encode_venues([status(3, messages=11)]))
    for wicks in (1, 2):
        sender(encode_forge({"worker": 1, "wick": wicks}))
    until(intake.is_drained)
    with redis.Redis.from_url(redis_url, decode_responses=True) as client:
        assert client.hget("tk:ETH-USDT", "price") == "2.5"
        assert client.hget("venue:kraken", "messages") == "11"
        assert client.hgetall("metrics:forge:1") == {"wick": "2"}
        until(lambda: client.hgetall("mie:writer") == {"pid": "7"})


def test_while_redis_is_away_only_the_newest_is_kept(start, sender, tmp_path, redis_url, caplog):
    caplog.set_level(logging.INFO)
    door = tmp_path / "door.sock"
    intake = start(f"unix://{door}")
    until(lambda: intake.connection.state == "down")
    for price in range(500):
        sender(encode_hot(hot([float(price)], first_seq=price), NAMES)[0])
        if price % 100 == 0:
            until(lambda: len(intake._newest["hot"]) == 1)
    assert not intake.is_drained()
    door.symlink_to(redis_url.removeprefix("unix://"))
    until(intake.is_drained)
    with redis.Redis.from_url(redis_url, decode_responses=True) as client:
        assert client.hget("tk:BTC-USDT", "seq") == "499"
    assert [record.levelname for record in caplog.records] == ["ERROR", "WARNING"]


def test_rubbish_is_logged_and_passed_over(start, sender, redis_url, caplog):
    intake = start(redis_url)
    sender(b"\xc1 rubbish")
    sender(encode_hot(hot([3.0]), NAMES)[0])
    until(lambda: intake.written_rows == 1)
    assert "cannot be read" in caplog.text


def test_symbols_that_are_let_go_have_no_key_any_more(start, sender, redis_url):
    intake = start(redis_url)
    sender(encode_hot(hot([1.0, 2.0, 3.0]), NAMES)[0])
    until(intake.is_drained)
    with redis.Redis.from_url(redis_url, decode_responses=True) as client:
        assert {"tk:BTC-USDT", "tk:ETH-USDT", "tk:SOL-USDT"} <= set(client.keys("tk:*"))
        sender(encode_let_go(["BTC-USDT", "ETH-USDT"], "tk"))
        sender(encode_hot(hot([4.0]), NAMES)[0])  # listed again
        until(intake.is_drained)
        assert set(client.keys("tk:*")) == {"tk:BTC-USDT", "tk:SOL-USDT"}
        assert client.hget("tk:BTC-USDT", "price") == "4.0"


def test_what_was_let_go_while_redis_is_away_is_bounded(start, sender, tmp_path, redis_url, monkeypatch):
    monkeypatch.setattr(hot_intake, "GONE", 3)
    intake = start(f"unix://{tmp_path / 'door.sock'}")
    sender(encode_hot(hot([1.0, 2.0]), NAMES)[0])
    for number in range(20):
        sender(encode_let_go([f"C{number}-USDT", "ETH-USDT"], "tk"))
    until(lambda: "C19-USDT" in intake._newest["let_go"])
    assert list(intake._newest["hot"]) == ["BTC-USDT"]
    assert len(intake._newest["let_go"]) <= 3
