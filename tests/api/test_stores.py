"""Read-only, bounded in time, and back when the stores are."""

import asyncio
import json
import logging
import secrets
import time
from pathlib import Path
from urllib.parse import urlsplit

import pytest
from sqlalchemy import func, select, text

from api.stores import DATABASE_CONNECTIONS, Database, HotStore, StoreAway, StoreSlow, StoresMissing, store_url
from market.settings import Settings
from sinks import tables
from tests.api.conftest import Market, Relay, running, through, until
from tests.conftest import execute


def fetch(url: str, *statements: str) -> list[list[tuple]]:
    async def ask() -> list[list[tuple]]:
        database = Database(lambda: url)
        try:
            return [await database.fetch(select(text(statement))) for statement in statements]
        finally:
            await database.close()

    return asyncio.run(ask())


def test_sessions_are_read_only_and_bounded_in_time(market: Market) -> None:
    [[(read_only, timeout, role, zone)]] = fetch(
        market.database_url,
        "current_setting('transaction_read_only'), current_setting('statement_timeout'), current_user, "
        "current_setting('timezone')",
    )
    assert (read_only, timeout, role, zone) == ("on", "5s", "mie_reader", "UTC")


@pytest.mark.parametrize("writing", ["nextval('s')", "pg_notify('x', 'y'), lo_create(0)"])
def test_writing_is_refused(market: Market, writing: str) -> None:
    execute(market.database_url, "CREATE SEQUENCE IF NOT EXISTS s")
    execute(market.database_url, "GRANT USAGE ON SEQUENCE s TO mie_reader")
    with pytest.raises(StoreAway, match="read-only transaction"):
        fetch(market.database_url, writing)


def test_a_login_that_may_not_take_the_role_reads_on_and_says_so(
    market: Market, caplog: pytest.LogCaptureFixture
) -> None:
    name = f"mie_plain_{secrets.token_hex(4)}"
    execute(market.database_url, f"CREATE ROLE {name} LOGIN PASSWORD 'x'")
    parts = urlsplit(market.database_url)
    url = parts._replace(netloc=f"{name}:x@{parts.netloc.rpartition('@')[2]}").geturl()
    with caplog.at_level(logging.WARNING):
        answers = fetch(url, "current_user", "current_setting('transaction_read_only')")
    execute(market.database_url, f"DROP ROLE {name}")
    assert answers == [[(name,)], [("on",)]]
    assert [record.getMessage() for record in caplog.records] == [
        'reading as the login role, transactions read-only: permission denied to set role "mie_reader"'
    ]


def test_a_slow_query_ends(market: Market) -> None:
    async def ask() -> float:
        database = Database(lambda: market.database_url)
        began = time.monotonic()
        with pytest.raises(StoreSlow, match=r"database: no answer within 0\.2 s"):
            await database.fetch(select(func.pg_sleep(60)), seconds=0.2)
        took = time.monotonic() - began
        assert await database.fetch(select(text("1"))) == [(1,)]
        await database.close()
        return took

    assert asyncio.run(ask()) < 2


def test_the_pool_is_bounded_and_used_again(market: Market) -> None:
    async def ask() -> int:
        database = Database(lambda: market.database_url)
        pid = select(func.pg_backend_pid(), func.pg_sleep(0.01))
        answers = await asyncio.gather(*(database.fetch(pid) for _ in range(5 * DATABASE_CONNECTIONS)))
        await database.close()
        return len({pid for [(pid, _)] in answers})

    assert asyncio.run(ask()) <= DATABASE_CONNECTIONS


def test_a_database_without_tables_is_told_in_one_line(bare_database_url: str) -> None:
    async def ask() -> None:
        database = Database(lambda: bare_database_url)
        try:
            await database.fetch(select(tables.candles.c.symbol))
        finally:
            await database.close()

    with pytest.raises(StoreAway, match=r'^database: relation "candles" does not exist$'):
        asyncio.run(ask())


def test_a_store_lost_and_found_is_logged_once_each(
    doors: tuple[Relay, Relay], caplog: pytest.LogCaptureFixture
) -> None:
    door, _ = doors

    async def ask() -> None:
        hot = HotStore(lambda: through(door))
        door.shut()
        for _ in range(3):
            with pytest.raises(StoreAway):
                await hot.read(lambda redis: redis.get("x"))
        door.open()
        for _ in range(3):
            await hot.read(lambda redis: redis.get("x"))
        await hot.close()

    with caplog.at_level(logging.INFO):
        asyncio.run(ask())
    told = [record.getMessage() for record in caplog.records if record.name == "api.stores"]
    assert [line.split(":")[0] for line in told] == ["redis is away", "redis is back"]


def test_redis_that_answers_nothing_is_slow_not_for_ever(doors: tuple[Relay, Relay]) -> None:
    door, _ = doors
    door.jammed = True

    async def ask() -> None:
        hot = HotStore(lambda: through(door))
        try:
            await hot.read(lambda redis: redis.get("x"), seconds=0.2)
        finally:
            await hot.close()

    with pytest.raises(StoreSlow, match="redis: no answer within"):
        asyncio.run(ask())


def test_a_store_away_breaks_only_what_needs_it_and_is_found_again(doors: tuple[Relay, Relay]) -> None:
    hot, history = doors
    with running(redis_url=through(hot), database_url=through(history)) as api:
        api.get("/readyz")
        hot.shut()
        status, error, detail = api.problem("/v1/tickers/BTC-USDT")
        assert (status, error) == (503, "store away")
        assert detail.startswith("redis: ")
        assert api.problem("/readyz")[2].startswith("redis: ")
        assert "database" not in api.problem("/readyz")[2]
        assert api.get("/v1/candles/BTC-USDT", limit=1)["candles"]
        hot.open()
        assert api.get("/v1/tickers/BTC-USDT")["price"]

        history.shut()
        status, error, detail = api.problem("/v1/wicks")
        assert (status, error) == (503, "store away")
        assert detail.startswith("database: ")
        assert api.get("/v1/tickers")["tickers"]
        assert api.problem("/readyz")[:2] == (503, "not ready")
        assert api.get("/healthz")
        history.open()
        assert api.get("/v1/wicks")["wicks"]
        api.get("/readyz")


def test_stores_that_restarted_between_two_reads_are_not_noticed(doors: tuple[Relay, Relay]) -> None:
    hot, history = doors
    with running(redis_url=through(hot), database_url=through(history)) as api:
        api.get("/readyz")  # leaves a session to each behind, stale from here on
        for door in doors:
            door.shut()
            door.open()
        assert api.get("/v1/wicks")["wicks"]
        assert api.get("/v1/tickers/BTC-USDT")["price"]


def test_stores_that_jam_are_reported_within_the_second(doors: tuple[Relay, Relay]) -> None:
    hot, history = doors
    with running(redis_url=through(hot), database_url=through(history)) as api:
        api.get("/readyz")
        api.get("/v1/venues")
        hot.jammed = history.jammed = True
        began = time.monotonic()
        status, error, detail = api.problem("/readyz")
        assert time.monotonic() - began < 3
        assert (status, error) == (503, "not ready")
        assert detail == "redis: no answer within 1 s; database: no answer within 1 s"
        assert api.problem("/v1/venues")[:2] == (504, "timeout")
        hot.jammed = history.jammed = False
        hot.shut()
        history.shut()
        hot.open()
        history.open()
        until(lambda: api.client.get("/readyz").status_code == 200)


def publish(data_dir: Path, redis_url: str, database_url: str) -> None:
    (data_dir / "run").mkdir(exist_ok=True)
    (data_dir / "run" / "stores.json").write_text(json.dumps({"redis": redis_url, "database": database_url}))


def test_embedded_stores_that_moved_are_found(doors: tuple[Relay, Relay], market: Market, tmp_path: Path) -> None:
    hot, history = doors
    publish(tmp_path, through(hot), through(history))
    with running(data_dir=tmp_path) as api:
        api.get("/readyz")
        hot.shut()
        history.shut()
        (tmp_path / "run" / "stores.json").unlink()
        status, _, detail = api.problem("/readyz")
        assert status == 503
        assert "no embedded stores are running" in detail
        publish(tmp_path, market.redis_url, market.database_url)
        api.get("/readyz")
        assert api.get("/v1/tickers")["tickers"]


def test_a_setting_goes_before_what_is_published(tmp_path: Path) -> None:
    publish(tmp_path, "redis://embedded", "postgresql://embedded")
    settings = Settings(data_dir=tmp_path, redis_url="redis://configured")
    assert store_url(settings, "redis") == "redis://configured"
    assert store_url(settings, "database") == "postgresql://embedded"


@pytest.mark.parametrize("content", [None, "", "[]", "{}", '{"redis": null}', "not json"])
def test_no_stores_is_one_line(tmp_path: Path, content: str | None) -> None:
    if content is not None:
        (tmp_path / "run").mkdir()
        (tmp_path / "run" / "stores.json").write_text(content)
    with pytest.raises(
        StoresMissing, match=r"start the flow with make run, or set MIE_REDIS_URL and MIE_DATABASE_URL$"
    ):
        store_url(Settings(data_dir=tmp_path), "redis")
