import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor

import psycopg
import pytest
import sqlalchemy
from alembic.autogenerate import compare_metadata
from alembic.migration import MigrationContext
from alembic.script import ScriptDirectory

from sinks import migrate, tables
from sinks.stores import StoreError


def connect(url):
    return psycopg.connect(url, autocommit=True, connect_timeout=5)


def test_the_tables_are_those_of_the_contract(database_url):
    engine = sqlalchemy.create_engine(
        "postgresql+psycopg://", creator=lambda: psycopg.connect(database_url), poolclass=sqlalchemy.pool.NullPool
    )
    with engine.connect() as connection:
        context = MigrationContext.configure(connection, opts={"compare_type": True})
        assert compare_metadata(context, tables.metadata) == []


def test_head_is_the_newest_revision():
    assert ScriptDirectory("sinks/migrations").get_current_head() == migrate.HEAD


def test_running_it_again_keeps_the_rows(bare_database_url):
    with connect(bare_database_url) as connection:
        assert not migrate.is_current(connection)
        migrate.upgrade(bare_database_url)
        assert migrate.is_current(connection)
        connection.execute("INSERT INTO spool_positions VALUES ('s', 4)")
        migrate.upgrade(bare_database_url)
        assert connection.execute("SELECT * FROM spool_positions").fetchall() == [("s", 4)]


def test_upgrades_at_once_do_not_clash(bare_database_url):
    script = "import sys; from sinks.migrate import upgrade; upgrade(sys.argv[1])"
    with ThreadPoolExecutor(3) as pool:
        command = [sys.executable, "-c", script, bare_database_url]
        runs = list(pool.map(lambda _: subprocess.run(command, capture_output=True, check=False), range(3)))
    assert [run.returncode for run in runs] == [0, 0, 0], runs
    with connect(bare_database_url) as connection:
        assert migrate.is_current(connection)


def test_tables_of_a_later_version_are_refused_in_one_line(bare_database_url):
    migrate.upgrade(bare_database_url)
    with connect(bare_database_url) as connection:
        connection.execute("UPDATE alembic_version SET version_num = '9999'")
    with pytest.raises(StoreError, match="not of this version") as refusal:
        migrate.upgrade(bare_database_url)
    assert "\n" not in str(refusal.value)


@pytest.mark.parametrize(
    "statement",
    ["INSERT INTO spool_positions VALUES ('x', 1)", "DELETE FROM candles", "CREATE TABLE mine (x int)"],
)
def test_the_reader_reads_and_does_not_write(database_url, statement):
    with connect(database_url) as connection:
        connection.execute(f"SET ROLE {migrate.READER}")
        assert connection.execute("SELECT count(*) FROM candles").fetchall() == [(0,)]
        with pytest.raises(psycopg.errors.InsufficientPrivilege):
            connection.execute(statement)


def test_the_reader_sees_tables_that_come_later(database_url):
    with connect(database_url) as connection:
        connection.execute("CREATE TABLE later (x int)")
        connection.execute(f"SET ROLE {migrate.READER}")
        assert connection.execute("SELECT count(*) FROM later").fetchall() == [(0,)]


def test_without_the_right_to_make_roles_there_is_one_warning(bare_database_url, caplog, monkeypatch):
    monkeypatch.setattr(migrate, "READER", "mie_reader_nobody_made")
    name = bare_database_url.split("?")[0].rsplit("/", 1)[1]
    with connect(bare_database_url) as connection:
        connection.execute(f"CREATE ROLE poor_{name} LOGIN; GRANT ALL ON SCHEMA public TO poor_{name}")
        try:
            connection.execute(f"SET SESSION AUTHORIZATION poor_{name}")
            migrate.make_reader(connection)
        finally:
            connection.execute("RESET SESSION AUTHORIZATION")
            connection.execute(f"DROP OWNED BY poor_{name}; DROP ROLE poor_{name}")
    assert len(caplog.records) == 1
    assert "no read-only role" in caplog.text


def test_reader_url_names_the_role():
    assert migrate.reader_url("postgresql://postgres:@/postgres?host=/x/y") == (
        "postgresql://mie_reader@/postgres?host=/x/y"
    )
    assert migrate.reader_url("postgresql://u:p@db:5432/m") == "postgresql://mie_reader@db:5432/m"


def test_the_command_upgrades_the_database_of_the_settings(bare_database_url, monkeypatch, capsys):
    monkeypatch.setenv("MIE_DATABASE_URL", bare_database_url)
    monkeypatch.setenv("MIE_REDIS_URL", "redis://unused")
    assert migrate.main() == 0
    with connect(bare_database_url) as connection:
        assert migrate.is_current(connection)
    monkeypatch.setenv("MIE_DATABASE_URL", "postgresql://nobody@127.0.0.1:1/none")
    assert migrate.main() == 2
    assert capsys.readouterr().err.startswith("MIE_DATABASE_URL: cannot use postgresql at 127.0.0.1:1/none")
