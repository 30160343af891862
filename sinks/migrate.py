"""Bring a database to this version: `upgrade`, or `python -m sinks.migrate` for the one in the settings.

Tables change by migrations only (`sinks/migrations/versions/`). What depends on the server (hypertables, the
read-only role) is applied after them each time, so that an extension installed later is used.
"""

from __future__ import annotations

import logging
import sys
from pathlib import Path
from typing import Final
from urllib.parse import quote, urlsplit, urlunsplit

import psycopg
from psycopg import sql

from sinks.stores import StoreError

log = logging.getLogger(__name__)

HEAD: Final = "0001"
"""The newest revision, known without loading the migrations."""
_LOCK: Final = 0x4D494531
"""Advisory lock: one upgrade of a database at a time."""
_LOCK_S: Final = 60
READER: Final = "mie_reader"
"""The role that may only read."""


def is_current(connection: psycopg.Connection) -> bool:
    """Return whether the tables are those of this version."""
    found = connection.execute("SELECT to_regclass('alembic_version')").fetchone()
    if found is None or found[0] is None:
        return False
    row = connection.execute("SELECT version_num FROM alembic_version").fetchone()
    return row is not None and row[0] == HEAD


def upgrade(database_url: str) -> None:
    """Run the migrations that are missing, then apply what the server allows. Rows are kept.

    Raises:
        psycopg.Error: The database cannot be reached or refuses.
        StoreError: Its tables are of a later version.
    """
    # Loaded here: a writer that finds its tables current never needs it.
    from sqlalchemy import create_engine
    from sqlalchemy.pool import NullPool

    def connect() -> psycopg.Connection:
        return psycopg.connect(database_url, connect_timeout=5)

    with psycopg.connect(database_url, connect_timeout=5, autocommit=True) as guard:
        guard.execute(f"SET lock_timeout = '{_LOCK_S}s'")
        guard.execute("SELECT pg_advisory_lock(%s)", [_LOCK])
        engine = create_engine("postgresql+psycopg://", creator=connect, poolclass=NullPool)
        with engine.begin() as connection:
            _run_migrations(connection)
        from sinks.hypertables import make_hypertables

        make_hypertables(guard)
        make_reader(guard)


def _run_migrations(connection: object) -> None:
    from alembic import command
    from alembic.config import Config
    from alembic.util import CommandError

    config = Config()
    config.set_main_option("script_location", str(Path(__file__).parent / "migrations").replace("%", "%%"))
    config.attributes["connection"] = connection
    try:
        command.upgrade(config, "head")
    except CommandError as error:
        message = f"the database's tables are not of this version or an earlier one: {error}"
        raise StoreError(message) from error


def make_reader(connection: psycopg.Connection) -> None:
    """Make the role `mie_reader`, which may select and nothing else; one warning if this user may not."""
    try:
        with connection.transaction():
            _create_role(connection)
            reader = sql.Identifier(READER)
            schema, database = _here(connection)
            for statement in (
                "GRANT CONNECT ON DATABASE {database} TO {reader}",
                "GRANT USAGE ON SCHEMA {schema} TO {reader}",
                "GRANT SELECT ON ALL TABLES IN SCHEMA {schema} TO {reader}",
                "ALTER DEFAULT PRIVILEGES IN SCHEMA {schema} GRANT SELECT ON TABLES TO {reader}",
                "GRANT {reader} TO CURRENT_USER",
            ):
                connection.execute(sql.SQL(statement).format(database=database, reader=reader, schema=schema))
    except (psycopg.errors.InsufficientPrivilege, psycopg.errors.UndefinedObject) as error:
        log.warning("database: no read-only role %s: %s", READER, str(error).splitlines()[0])


def _create_role(connection: psycopg.Connection) -> None:
    exists = connection.execute("SELECT 1 FROM pg_roles WHERE rolname = %s", [READER]).fetchone()
    if exists:
        return
    try:
        with connection.transaction():
            connection.execute(sql.SQL("CREATE ROLE {} LOGIN").format(sql.Identifier(READER)))
    except (psycopg.errors.DuplicateObject, psycopg.errors.UniqueViolation):
        pass  # Roles belong to the server: an upgrade of another database was faster.


def _here(connection: psycopg.Connection) -> tuple[sql.Identifier, sql.Identifier]:
    row = connection.execute("SELECT current_schema(), current_database()").fetchone()
    assert row is not None
    return sql.Identifier(row[0]), sql.Identifier(row[1])


def reader_url(database_url: str) -> str:
    """Return the URL with the read-only role as its user; for servers that trust local users, as the embedded does."""
    parts = urlsplit(database_url)
    host = parts.netloc.rpartition("@")[2]
    # urlunsplit drops the slashes of an empty authority, so the user always makes one.
    return urlunsplit(parts._replace(netloc=f"{quote(READER)}@{host}"))


def main() -> int:
    """Upgrade the database of the settings."""
    from market.settings import Settings
    from sinks.stores import check_database, resolve_stores

    logging.basicConfig(format="%(levelname)s %(message)s")
    try:
        _, database_url = resolve_stores(Settings.from_env())
        check_database(database_url)
    except (StoreError, ValueError) as error:
        sys.stderr.write(f"{error}\n")
        return 2
    upgrade(database_url)
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
