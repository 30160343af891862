import itertools
import json
from pathlib import Path

from flows import watch
from sinks import keys
from sinks.stores import Stores

DATABASE = "postgresql://postgres@/postgres?host=/nowhere"


def publish(data_dir, redis_url):
    """Note the stores as the embedded ones do."""
    path = Path(data_dir, "run", "stores.json")
    path.parent.mkdir(exist_ok=True)
    path.write_text(json.dumps({"redis": redis_url, "database": DATABASE}))


def test_nothing_is_found_before_the_stores_are_up(settings_of):
    watched = watch.Watch(settings_of())
    watched.poll()
    assert (watched.stores, watched.snapshot, watched.trouble) == (None, None, "")


def test_configured_stores_come_before_published_ones(settings_of, tmp_path):
    publish(tmp_path, "unix:///embedded.sock")
    configured = settings_of(redis_url="redis://there:6379/0")
    assert watch.find(configured) == Stores("redis://there:6379/0", DATABASE)


def test_reads_a_published_store_and_its_rates(settings_of, tmp_path, redis_url, hot):
    publish(tmp_path, redis_url)
    watched = watch.Watch(settings_of(), clock=itertools.count(0.0, 2.0).__next__)
    hot.hset(keys.venue("okx"), mapping={"state": "live", "messages": 100})
    watched.poll()
    hot.hset(keys.venue("okx"), mapping={"state": "live", "messages": 400})
    watched.poll()
    watched.close()
    assert watched.stores == Stores(redis_url, DATABASE)
    assert watched.snapshot.venues[0].messages == 400
    assert watched.rate == {"okx": 150.0}


def test_an_address_of_a_run_that_ended_is_no_trouble(settings_of, tmp_path):
    publish(tmp_path, f"unix://{tmp_path}/ended.sock")
    watched = watch.Watch(settings_of())
    watched.poll()
    assert (watched.stores, watched.trouble) == (None, "")


def test_a_store_that_moved_is_found_again(settings_of, tmp_path, redis_url, hot):
    publish(tmp_path, f"unix://{tmp_path}/ended.sock")
    watched = watch.Watch(settings_of())
    watched.poll()
    publish(tmp_path, redis_url)
    watched.poll()
    watched.close()
    assert watched.stores == Stores(redis_url, DATABASE)


def test_silence_after_the_first_answer_is_trouble_and_passes(settings_of, tmp_path, redis_url, hot):
    publish(tmp_path, redis_url)
    watched = watch.Watch(settings_of())
    watched.poll()
    watched.close()
    publish(tmp_path, f"unix://{tmp_path}/ended.sock")
    watched.poll()
    assert watched.trouble == "the hot store does not answer: ConnectionError"
    publish(tmp_path, redis_url)
    watched.poll()
    watched.close()
    assert watched.trouble == ""


def test_venues_that_come_later_have_a_rate_at_once(settings_of, tmp_path, redis_url, hot):
    publish(tmp_path, redis_url)
    watched = watch.Watch(settings_of(), clock=itertools.count(0.0, 1.0).__next__)
    watched.poll()
    for name, messages in (("okx", 100), ("kraken", 10), ("okx", 300)):
        hot.hset(keys.venue(name), mapping={"state": "live", "messages": messages})
        watched.poll()
    hot.hset(keys.venue("kraken"), mapping={"state": "live", "messages": 40})
    watched.poll()
    watched.close()
    assert watched.rate == {"okx": 100.0, "kraken": 15.0}


def test_a_rate_spans_some_seconds_and_no_more(settings_of, tmp_path, redis_url, hot):
    publish(tmp_path, redis_url)
    watched = watch.Watch(settings_of(), clock=itertools.count(0.0, 1.0).__next__)
    for messages in (0, 900, *range(1000, 1060, 10)):
        hot.hset(keys.venue("okx"), mapping={"state": "live", "messages": messages})
        watched.poll()
    watched.close()
    assert watched.rate == {"okx": 10.0}
