"""The history: messages to rows of PostgreSQL, with or without the TimescaleDB extension.

Rows are copied into a temporary table and upserted from there; the spool's position is part of the same transaction,
so that a crash on either side neither loses nor repeats a row. The database's own position is the truth.
"""

from __future__ import annotations

import itertools
import logging
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

import psycopg
from psycopg import sql
from sqlalchemy import Column, Table
from sqlalchemy.dialects.postgresql import JSONB
from sqlalchemy.types import BigInteger, Boolean, DateTime, Double, Integer, Text

from sinks import tables
from sinks.encode import Message
from sinks.migrate import is_current, upgrade

log = logging.getLogger(__name__)

CONNECT_S: Final = 5
STATEMENT_S: Final = 30
_SILENCE: Final[dict[str, Any]] = {
    "keepalives_idle": 10,
    "keepalives_interval": 5,
    "keepalives_count": 3,
    "tcp_user_timeout": 20_000,
}
"""A server that vanished without a word is given up after some 25 s."""

_POSTGRES_EPOCH_US: Final = 946_684_800_000_000
"""2000-01-01 in Unix microseconds: where binary timestamptz counts from."""

_STAGED: Final = {
    Text: "text",
    Double: "float8",
    Integer: "int8",  # so that the server, which checks, narrows it
    BigInteger: "int8",
    Boolean: "bool",
    DateTime: "timestamptz",
    JSONB: "text",
}
"""Column type -> type in the temporary table that rows are copied into."""

_UNFIT: Final = (psycopg.DataError, psycopg.IntegrityError, ValueError, TypeError, OverflowError, KeyError)
"""What writing a message raises that will never fit; trying again would hold up all that come after it."""

Row = tuple[Any, ...]
Columns = Mapping[str, Mapping[str, Iterable[Any]]]
"""Table -> column -> values."""


@dataclass(frozen=True, slots=True)
class Target:
    """How the rows of one table are written.

    Attributes:
        table: The table.
        newer_first: SQL order that puts the row to keep first, among rows of one key in one transaction.
        update: SQL assignments if the row is already there; empty to replace all.
        condition: SQL condition under which an existing row is replaced; empty for always.
    """

    table: Table
    newer_first: str = ""
    update: str = ""
    condition: str = ""


TARGETS: Final = (
    Target(tables.candles, "revision DESC", condition="excluded.revision >= candles.revision"),
    Target(tables.indicators, "revision DESC", condition="excluded.revision >= indicators.revision"),
    Target(tables.correlations),
    Target(
        tables.wicks,
        "readmitted_time NULLS LAST",
        update="readmitted_time = coalesce(wicks.readmitted_time, excluded.readmitted_time)",
    ),
    Target(tables.gaps, "filled DESC, to_time DESC"),
)


class HistoryStore:
    """One connection to the database and the rows of each message kind.

    Every method raises `psycopg.Error` (or OSError) if the database does not do as asked; the store is then to be
    closed and connected again.
    """

    name = "database"

    def __init__(self, url: str) -> None:
        self._url = url
        self._connection: psycopg.Connection | None = None
        self._statements = {target.table.name: _upsert(target) for target in TARGETS}
        self.failed_messages = 0
        self.rows_written = 0

    def connect(self) -> None:
        """Connect and bring the tables to this version if need be, or raise."""
        self.close()
        connection = psycopg.connect(self._url, connect_timeout=CONNECT_S, autocommit=True, **_SILENCE)
        try:
            connection.execute(f"SET statement_timeout = {STATEMENT_S * 1000}")
            connection.execute("SET timezone = 'UTC'")
            if not is_current(connection):
                upgrade(self._url)
            for target in TARGETS:
                connection.execute(_stage(target.table))
        except BaseException:
            connection.close()
            raise
        self._connection = connection

    def close(self) -> None:
        """Close the connection."""
        if self._connection is not None:
            self._connection.close()
            self._connection = None

    def positions(self, spools: Sequence[str]) -> dict[str, int]:
        """Return how far each spool is in the database, 0 for one it does not know."""
        found = self._open().execute(
            "SELECT spool, position FROM spool_positions WHERE spool = ANY(%s)", [list(spools)]
        )
        return dict.fromkeys(spools, 0) | dict(found.fetchall())

    def forget(self, spool: str) -> None:
        """Delete the position of a spool that is no more."""
        self._open().execute("DELETE FROM spool_positions WHERE spool = %s", [spool])

    def write(self, spool: str, messages: Iterable[Message], position: int) -> None:
        """Write messages and the position behind them, all or nothing.

        A message that the database cannot hold (not one that it cannot hold now) is left out, counted and logged.
        """
        messages = list(messages)
        try:
            self._write(spool, messages, position)
        except _UNFIT as error:
            if len(messages) == 1:
                self.failed_messages += 1
                log.error("database: a %s message is left out: %s", messages[0].kind, _first_line(error))
                messages = []
                self._write(spool, messages, position)
                return
            for message in messages[:-1]:
                self.write(spool, [message], -1)
            self.write(spool, messages[-1:], position)

    def _write(self, spool: str, messages: Sequence[Message], position: int) -> None:
        rows = rows_by_table(messages)
        connection = self._open()
        with connection.transaction(), connection.cursor() as cursor:
            for name, statement in self._statements.items():
                if rows[name]:
                    _copy(cursor, tables.metadata.tables[name], rows[name])
                    cursor.execute(statement)
            cursor.execute(_SET_POSITION, [spool, position])
        self.rows_written += sum(len(found) for found in rows.values())

    def _open(self) -> psycopg.Connection:
        if self._connection is None:
            message = "not connected"
            raise psycopg.OperationalError(message)
        return self._connection


# A position of -1 leaves a known one alone: see `HistoryStore.write`.
_SET_POSITION: Final = """
    INSERT INTO spool_positions AS known (spool, position) VALUES (%s, greatest(%s, 0))
    ON CONFLICT (spool) DO UPDATE SET position = greatest(known.position, excluded.position)
"""


def rows_by_table(messages: Iterable[Message]) -> dict[str, list[Row]]:
    """Return the rows of messages, values in the order of the table's columns."""
    rows: dict[str, list[Row]] = {target.table.name: [] for target in TARGETS}
    for message in messages:
        for name, columns in _COLUMNS.get(message.kind, _nothing)(message).items():
            rows[name] += _ordered(tables.metadata.tables[name], columns)
    return rows


def _candles(message: Message) -> Columns:
    columns = message.columns()
    columns["open_time"] = _times(columns["open_ns"])
    return {"candles": columns, "indicators": columns | message.study_columns()}


def _correlation(message: Message) -> Columns:
    symbols, columns = message.texts["symbols"], message.columns()
    found: dict[str, Iterable[Any]] = {
        "interval": itertools.repeat(message.texts["interval"][0]),
        "open_time": itertools.repeat(_times(columns["open_ns"])[0]),
        "symbol_a": [symbols[index] for index in columns["first"]],
        "symbol_b": [symbols[index] for index in columns["second"]],
        "pearson": columns["pearson"],
    }
    return {"correlations": found}


def _wicks(message: Message) -> Columns:
    columns = message.columns()
    columns["event_time"] = _times(columns["event_ns"])
    columns["receive_time"] = _times(columns["receive_ns"])
    columns["readmitted_time"] = _times(columns["readmitted_ns"])
    columns["side"] = [side or None for side in columns["side"]]
    return {"wicks": columns}


def _gaps(message: Message) -> Columns:
    columns = message.columns()
    columns["from_time"], columns["to_time"] = _times(columns["from_ns"]), _times(columns["to_ns"])
    columns["filled"] = [bool(value) for value in columns["filled"]]
    return {"gaps": columns}


def _nothing(message: Message) -> Columns:
    return {}


_COLUMNS: Final[dict[str, Callable[[Message], Columns]]] = {
    "candles": _candles,
    "correlation": _correlation,
    "wicks": _wicks,
    "gaps": _gaps,
}


def _times(stamps_ns: Iterable[int]) -> list[int | None]:
    """Return nanoseconds as binary timestamptz, which is an int8 on the wire; None for 0."""
    return [stamp // 1000 - _POSTGRES_EPOCH_US if stamp else None for stamp in stamps_ns]


def _ordered(table: Table, columns: Mapping[str, Iterable[Any]]) -> Iterator[Row]:
    """Return rows in table order; a nullable column that the message lacks (an older writer's) is null."""
    nulls = itertools.repeat(None)
    return zip(*(columns.get(column.name, nulls) for column in table.columns), strict=False)


def _copy(cursor: psycopg.Cursor[Any], table: Table, rows: Iterable[Row]) -> None:
    names = sql.SQL(", ").join(sql.Identifier(column.name) for column in table.columns)
    statement = sql.SQL("COPY {} ({}) FROM STDIN (FORMAT BINARY)").format(_stage_name(table), names)
    with cursor.copy(statement) as copy:
        copy.set_types([_wire_type(column) for column in table.columns])
        for row in rows:
            copy.write_row(row)


def _wire_type(column: Column[Any]) -> str:
    staged = _STAGED[type(column.type)]
    return "int8" if staged == "timestamptz" else staged


def _stage_name(table: Table) -> sql.Identifier:
    return sql.Identifier(f"stage_{table.name}")


def _stage(table: Table) -> sql.Composed:
    """Return SQL for the temporary table that a table's rows are copied into."""
    columns = sql.SQL(", ").join(
        sql.SQL("{} {}").format(sql.Identifier(column.name), sql.SQL(_STAGED[type(column.type)]))
        for column in table.columns
    )
    return sql.SQL("CREATE TEMPORARY TABLE {} ({}) ON COMMIT DELETE ROWS").format(_stage_name(table), columns)


def _upsert(target: Target) -> sql.Composed:
    table = target.table
    comma = sql.SQL(", ")
    key = comma.join(sql.Identifier(column.name) for column in table.primary_key)
    names = [sql.Identifier(column.name) for column in table.columns]
    selected = [
        sql.SQL("{}::jsonb").format(name) if isinstance(column.type, JSONB) else name
        for column, name in zip(table.columns, names, strict=True)
    ]
    order = sql.SQL("{}, ").format(key) + sql.SQL(target.newer_first) if target.newer_first else key
    values = [column.name for column in table.columns if not column.primary_key]
    update = (
        sql.SQL(target.update)
        if target.update
        else comma.join(sql.SQL("{0} = excluded.{0}").format(sql.Identifier(name)) for name in values)
    )
    # DISTINCT ON: one statement must not touch a row twice. Its order also keeps two writers from a deadlock.
    return sql.SQL(
        "INSERT INTO {table} ({names}) SELECT DISTINCT ON ({key}) {selected} FROM {stage} ORDER BY {order} "
        "ON CONFLICT ({key}) DO UPDATE SET {update}{condition}"
    ).format(
        table=sql.Identifier(table.name),
        names=comma.join(names),
        key=key,
        selected=comma.join(selected),
        stage=_stage_name(table),
        order=order,
        update=update,
        condition=sql.SQL(f" WHERE {target.condition}" if target.condition else ""),
    )


def _first_line(error: BaseException) -> str:
    return str(error).splitlines()[0] if str(error) else type(error).__name__
