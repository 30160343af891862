"""Candles, indicators, correlations, wicks, gaps and the spool positions."""

from __future__ import annotations

from alembic import op
from sqlalchemy import BigInteger, Boolean, Column, DateTime, Double, Integer, Text
from sqlalchemy.dialects.postgresql import JSONB

revision = "0001"
down_revision = None
branch_labels = None
depends_on = None

_TIME = DateTime(timezone=True)


def upgrade() -> None:
    op.create_table(
        "candles",
        Column("symbol", Text, primary_key=True),
        Column("interval", Text, primary_key=True),
        Column("open_time", _TIME, primary_key=True),
        *(Column(name, Double, nullable=False) for name in ("open", "high", "low", "close")),
        *(Column(name, Double, nullable=False) for name in ("volume", "quote_volume", "buy_volume")),
        Column("trades", BigInteger, nullable=False),
        Column("vwap", Double, nullable=False),
        *(Column(name, Integer, nullable=False) for name in ("venues", "wicks", "revision")),
    )
    op.create_table(
        "indicators",
        Column("symbol", Text, primary_key=True),
        Column("interval", Text, primary_key=True),
        Column("open_time", _TIME, primary_key=True),
        Column("revision", Integer, nullable=False),
        *(Column(name, Double) for name in ("rsi_14", "macd", "macd_signal", "macd_histogram")),
    )
    op.create_table(
        "correlations",
        Column("interval", Text, primary_key=True),
        Column("open_time", _TIME, primary_key=True),
        Column("symbol_a", Text, primary_key=True),
        Column("symbol_b", Text, primary_key=True),
        Column("pearson", Double, nullable=False),
    )
    op.create_table(
        "wicks",
        Column("event_time", _TIME, primary_key=True),
        Column("symbol", Text, primary_key=True),
        Column("venue", Text, primary_key=True),
        Column("trade_id", Text, primary_key=True),
        Column("receive_time", _TIME, nullable=False),
        *(Column(name, Double, nullable=False) for name in ("price", "size")),
        Column("side", Text),
        *(Column(name, Double, nullable=False) for name in ("reference", "deviation_bps")),
        *(Column(name, Double, nullable=False) for name in ("dispersion_bps", "basis_bps")),
        Column("witnesses", Integer, nullable=False),
        Column("evidence", JSONB, nullable=False),
        Column("readmitted_time", _TIME),
    )
    op.create_index("wicks_symbol_time", "wicks", ["symbol", "event_time"])
    op.create_table(
        "gaps",
        Column("venue", Text, primary_key=True),
        Column("symbol", Text, primary_key=True),
        Column("from_time", _TIME, primary_key=True),
        Column("to_time", _TIME, nullable=False),
        Column("filled", Boolean, nullable=False),
    )
    op.create_table(
        "spool_positions",
        Column("spool", Text, primary_key=True),
        Column("position", BigInteger, nullable=False),
    )


def downgrade() -> None:
    for table in ("spool_positions", "gaps", "wicks", "correlations", "indicators", "candles"):
        op.drop_table(table)
