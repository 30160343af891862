"""Hypertables, compression and retention, where the server has the TimescaleDB extension.

Safe to apply again: what is already there stays as it is. Every step that the server refuses (an older version, a
licence without compression, too few rights) is one warning; the tables work without it.
"""

from __future__ import annotations

import logging
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

import psycopg
from psycopg import sql

from sinks.tables import HYPERTABLES

log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Policy:
    """How one hypertable is kept, times in days.

    Attributes:
        chunk: Width of a chunk. The indexes of the chunks being written should fit in a quarter of the memory.
        segment_by: Columns whose rows are compressed together.
        compress_after: A chunk is compressed when it is this old: late revisions come within minutes.
        drop_after: A chunk is dropped when it is this old.
    """

    chunk: int
    segment_by: str
    compress_after: int
    drop_after: int


POLICIES: Final = {
    "candles": Policy(7, "symbol, interval", 14, 3 * 365),
    "indicators": Policy(7, "symbol, interval", 14, 3 * 365),
    "correlations": Policy(7, "interval, symbol_a", 14, 180),
    "wicks": Policy(30, "symbol, venue", 60, 3 * 365),
}


def make_hypertables(connection: psycopg.Connection) -> None:
    """Turn the tables of HYPERTABLES into hypertables if the extension is there; one warning if not.

    Args:
        connection: In autocommit mode.
    """
    if not _has_extension(connection):
        return
    for table, column in HYPERTABLES.items():
        policy = POLICIES[table]
        is_compressed = _is_compressed(connection, table, column, policy)
        if is_compressed is None:
            continue
        if not is_compressed:
            _try(connection, f"compression of {table}", _compression(table, column, policy))
        days = "SELECT {}(%s, make_interval(days => %s), if_not_exists => true)"
        for function, after in (
            ("add_compression_policy", policy.compress_after),
            ("add_retention_policy", policy.drop_after),
        ):
            _try(connection, f"{function} on {table}", sql.SQL(days).format(sql.Identifier(function)), [table, after])


def _has_extension(connection: psycopg.Connection) -> bool:
    row = connection.execute(
        "SELECT installed_version FROM pg_available_extensions WHERE name = 'timescaledb'"
    ).fetchone()
    if row is None:
        log.warning("database: no TimescaleDB extension; history is kept in plain tables, without compression")
        return False
    if row[0] is not None:
        return True
    return _try(connection, "the TimescaleDB extension", sql.SQL("CREATE EXTENSION IF NOT EXISTS timescaledb"))


def _is_compressed(connection: psycopg.Connection, table: str, column: str, policy: Policy) -> bool | None:
    """Make a hypertable; return whether compression is set up on it, None if it is none."""
    made = _try(
        connection,
        f"hypertable {table}",
        sql.SQL(
            "SELECT create_hypertable(%s, %s, chunk_time_interval => make_interval(days => %s), "
            "if_not_exists => true, migrate_data => true)"
        ),
        [table, column, policy.chunk],
    )
    if not made:
        return None
    row = connection.execute(
        "SELECT compression_enabled FROM timescaledb_information.hypertables "
        "WHERE hypertable_schema = current_schema() AND hypertable_name = %s",
        [table],
    ).fetchone()
    return row is not None and bool(row[0])


def _compression(table: str, column: str, policy: Policy) -> sql.Composed:
    return sql.SQL(
        "ALTER TABLE {} SET (timescaledb.compress, timescaledb.compress_segmentby = {}, "
        "timescaledb.compress_orderby = {})"
    ).format(sql.Identifier(table), sql.Literal(policy.segment_by), sql.Literal(f"{column} DESC"))


def _try(
    connection: psycopg.Connection, what: str, statement: sql.SQL | sql.Composed, values: Sequence[object] = ()
) -> bool:
    try:
        with connection.transaction():
            connection.execute(statement, values or None)
    except psycopg.Error as error:
        log.warning("database: no %s: %s", what, str(error).splitlines()[0])
        return False
    return True
