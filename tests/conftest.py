"""The real stores: embedded servers of this session, or those of MIE_TEST_REDIS_URL and MIE_TEST_DATABASE_URL.

`redis_url` is emptied before each test; `database_url` is a database of its own, copied from a migrated template.
A configured server is used in the same way: give it no Redis database with anything to lose.
"""

import os
import secrets
import shutil
import tempfile
from pathlib import Path
from urllib.parse import urlsplit, urlunsplit

import psycopg
import pytest
import redis

from sinks.embedded import release_stores, start_postgres, start_redis
from sinks.migrate import upgrade

pytest_plugins = ["tests.fix_simulator"]

EXTERNAL_REDIS = os.environ.pop("MIE_TEST_REDIS_URL", None)
EXTERNAL_DATABASE = os.environ.pop("MIE_TEST_DATABASE_URL", None)
TIMESCALE = os.environ.pop("MIE_TEST_TIMESCALE_URL", None)


@pytest.fixture(scope="session")
def store_dir():
    """Data directory of the session's embedded stores; short, for their sockets."""
    path = Path(tempfile.mkdtemp(prefix="mie-test-"))
    yield path
    release_stores(path)
    shutil.rmtree(path, ignore_errors=True)


@pytest.fixture(scope="session")
def redis_server_url(store_dir):
    return EXTERNAL_REDIS or start_redis(store_dir)


@pytest.fixture(scope="session")
def database_server_url(store_dir):
    if EXTERNAL_DATABASE:
        return EXTERNAL_DATABASE
    url = start_postgres(store_dir)
    for statement in ("ALTER SYSTEM SET fsync = off", "SELECT pg_reload_conf()"):
        execute(url, statement)  # Databases come and go by the dozen here, and none has to outlive the machine.
    return url


@pytest.fixture
def redis_url(redis_server_url):
    """An empty Redis."""
    with redis.Redis.from_url(redis_server_url) as client:
        client.flushdb()
    return redis_server_url


@pytest.fixture(scope="session")
def migrated_template(database_server_url):
    """Name of a database with the tables of this version."""
    name = f"mie_template_{secrets.token_hex(4)}"
    execute(database_server_url, f"CREATE DATABASE {name}")
    upgrade(of_database(database_server_url, name))
    yield name
    execute(database_server_url, f"DROP DATABASE {name} WITH (FORCE)")


@pytest.fixture
def database_url(database_server_url, migrated_template):
    """A database of this test's own, with empty tables."""
    yield from _fresh(database_server_url, f"TEMPLATE {migrated_template}")


@pytest.fixture
def bare_database_url(database_server_url):
    """A database of this test's own, without tables."""
    yield from _fresh(database_server_url, "")


@pytest.fixture
def timescale_url():
    """A database with the TimescaleDB extension at hand; its tables are ours to make."""
    if TIMESCALE is None:
        pytest.skip("needs MIE_TEST_TIMESCALE_URL: a server with the TimescaleDB extension")
    return TIMESCALE


def _fresh(server_url, options):
    name = f"mie_test_{secrets.token_hex(6)}"
    execute(server_url, f"CREATE DATABASE {name} {options}")
    yield of_database(server_url, name)
    execute(server_url, f"DROP DATABASE {name} WITH (FORCE)")


def of_database(url, name):
    """Return the URL of another database on the same server."""
    return urlunsplit(urlsplit(url)._replace(path=f"/{name}"))


def execute(url, statement):
    with psycopg.connect(url, autocommit=True, connect_timeout=5) as connection:
        connection.execute(statement)
