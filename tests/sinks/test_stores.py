from urllib.parse import urlsplit

import pytest

from market.settings import Settings
from sinks.stores import (
    StoreError,
    Stores,
    check_database,
    check_stores,
    place,
    read_stores,
    resolve_stores,
    write_stores,
)


def test_addresses_are_noted_one_by_one(tmp_path):
    assert read_stores(tmp_path) is None
    write_stores(tmp_path, redis="unix:///r")
    assert read_stores(tmp_path) is None
    write_stores(tmp_path, database="postgresql://d")
    assert read_stores(tmp_path) == Stores("unix:///r", "postgresql://d")


def test_settings_come_before_what_is_noted(tmp_path):
    write_stores(tmp_path, redis="unix:///r", database="postgresql://d")
    settings = Settings(data_dir=tmp_path, redis_url="redis://elsewhere")
    assert resolve_stores(settings) == ("redis://elsewhere", "postgresql://d")


def test_a_store_that_is_nowhere_is_named(tmp_path):
    with pytest.raises(StoreError, match=r"MIE_DATABASE_URL is not set and no embedded database runs"):
        resolve_stores(Settings(data_dir=tmp_path, redis_url="redis://elsewhere"))


def test_stores_that_answer_pass(redis_url, database_url):
    check_stores(redis_url, database_url)


@pytest.mark.parametrize(
    ("redis_at", "database_at", "start"),
    [
        ("redis://:sesame@127.0.0.1:1/0", None, "MIE_REDIS_URL: cannot use redis at 127.0.0.1:1/0: "),
        ("unix:///nowhere/redis.sock", None, "MIE_REDIS_URL: cannot use unix at /nowhere/redis.sock: "),
        (None, "postgresql://u:sesame@127.0.0.1:1/m", "MIE_DATABASE_URL: cannot use postgresql at 127.0.0.1:1/m: "),
        (None, "postgresql://u:sesame@/m?host=/nowhere", "MIE_DATABASE_URL: cannot use postgresql at /nowhere/m: "),
        (None, "postgresql://u:sesame@h/m?nonsense=1", "MIE_DATABASE_URL: cannot use postgresql at h/m: "),
    ],
)
def test_one_that_does_not_is_one_line_without_a_password(redis_url, database_url, redis_at, database_at, start):
    with pytest.raises(StoreError) as refusal:
        check_stores(redis_at or redis_url, database_at or database_url)
    text = str(refusal.value)
    assert text.startswith(start)
    assert len(text) > len(start)
    assert "\n" not in text
    assert "sesame" not in text


def test_a_missing_database_is_named(database_url):
    name = urlsplit(database_url).path
    with pytest.raises(StoreError, match='database "not_there" does not exist'):
        check_database(database_url.replace(name, "/not_there"))


def test_place_hides_who():
    assert place("postgresql://user:secret@db:5432/market") == "db:5432/market"
    assert place("rediss://:secret@cache:6380/1") == "cache:6380/1"
