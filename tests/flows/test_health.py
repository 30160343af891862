from flows import health
from flows.watch import find
from sinks import keys

DATABASE = "postgresql://postgres@/postgres?host=/nowhere"
NOW_NS = 1_769_860_800_000_000_000


def test_no_stores_yet(settings_of):
    assert health.check(settings_of(), NOW_NS) == "no stores yet"


def test_a_store_that_is_away(settings_of, tmp_path):
    settings = settings_of(redis_url=f"unix://{tmp_path}/none.sock", database_url=DATABASE)
    assert health.check(settings, NOW_NS) == "the hot store does not answer: ConnectionError"


def test_one_fresh_venue_is_enough(settings_of, redis_url, hot):
    settings = settings_of(redis_url=redis_url, database_url=DATABASE)
    assert find(settings) is not None
    assert health.check(settings, NOW_NS) == "no venue has sent a tick yet"
    hot.hset(keys.venue("okx"), "last_receive_ns", NOW_NS - 31_000_000_000)
    assert health.check(settings, NOW_NS) == "the newest tick is 31 s old, 30 s are allowed"
    hot.hset(keys.venue("kraken"), "last_receive_ns", NOW_NS - 30_000_000_000)
    assert health.check(settings, NOW_NS) == ""


def test_the_status_is_the_answer(settings_of, capsys, monkeypatch):
    settings_of()
    assert health.main() == 1
    assert capsys.readouterr().err == "no stores yet\n"
    monkeypatch.setenv("MIE_FEED", "radio")
    assert health.main() == 1
    assert "MIE_FEED" in capsys.readouterr().err
