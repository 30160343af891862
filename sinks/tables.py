"""Names of the history tables: the public contract of the database, as SQLAlchemy metadata.

Migrations create them (`sinks/migrations/`), the writer fills them, the read API selects from them. Times are
`timestamptz` with microseconds; `interval` is the name (`1m`); primary keys make every write an idempotent upsert.
"""

from __future__ import annotations

from typing import Final

from sqlalchemy import BigInteger, Boolean, Column, DateTime, Double, Index, Integer, MetaData, Table, Text
from sqlalchemy.dialects.postgresql import JSONB

metadata = MetaData()

_TIME: Final = DateTime(timezone=True)

candles = Table(
    "candles",
    metadata,
    Column("symbol", Text, primary_key=True),
    Column("interval", Text, primary_key=True),
    Column("open_time", _TIME, primary_key=True),
    Column("open", Double, nullable=False),
    Column("high", Double, nullable=False),
    Column("low", Double, nullable=False),
    Column("close", Double, nullable=False),
    Column("volume", Double, nullable=False),
    Column("quote_volume", Double, nullable=False),
    Column("buy_volume", Double, nullable=False),
    Column("trades", BigInteger, nullable=False),
    Column("vwap", Double, nullable=False),
    Column("venues", Integer, nullable=False),
    Column("wicks", Integer, nullable=False),
    Column("revision", Integer, nullable=False),
)

indicators = Table(
    "indicators",
    metadata,
    Column("symbol", Text, primary_key=True),
    Column("interval", Text, primary_key=True),
    Column("open_time", _TIME, primary_key=True),
    Column("revision", Integer, nullable=False),
    Column("rsi_14", Double),
    Column("macd", Double),
    Column("macd_signal", Double),
    Column("macd_histogram", Double),
)

correlations = Table(
    "correlations",
    metadata,
    Column("interval", Text, primary_key=True),
    Column("open_time", _TIME, primary_key=True),
    Column("symbol_a", Text, primary_key=True),
    Column("symbol_b", Text, primary_key=True),
    Column("pearson", Double, nullable=False),
)

wicks = Table(
    "wicks",
    metadata,
    Column("event_time", _TIME, primary_key=True),
    Column("symbol", Text, primary_key=True),
    Column("venue", Text, primary_key=True),
    Column("trade_id", Text, primary_key=True),
    Column("receive_time", _TIME, nullable=False),
    Column("price", Double, nullable=False),
    Column("size", Double, nullable=False),
    Column("side", Text),
    Column("reference", Double, nullable=False),
    Column("deviation_bps", Double, nullable=False),
    Column("dispersion_bps", Double, nullable=False),
    Column("basis_bps", Double, nullable=False),
    Column("witnesses", Integer, nullable=False),
    Column("evidence", JSONB, nullable=False),
    Column("readmitted_time", _TIME),
    Index("wicks_symbol_time", "symbol", "event_time"),
)

gaps = Table(
    "gaps",
    metadata,
    Column("venue", Text, primary_key=True),
    Column("symbol", Text, primary_key=True),
    Column("from_time", _TIME, primary_key=True),
    Column("to_time", _TIME, nullable=False),
    Column("filled", Boolean, nullable=False),
)

spool_positions = Table(
    "spool_positions",
    metadata,
    Column("spool", Text, primary_key=True),
    Column("position", BigInteger, nullable=False),
)
"""How far each write-ahead spool is in this database, committed with the rows themselves."""

HYPERTABLES: Final = {
    "candles": "open_time",
    "indicators": "open_time",
    "correlations": "open_time",
    "wicks": "event_time",
}
"""Table -> time column, made hypertables where the TimescaleDB extension is there."""
