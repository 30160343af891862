"""Reads closed candles back from the history, for the warm-up of a run. Never writes."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from datetime import UTC, datetime
from typing import Final

import numpy as np
import psycopg

from market.records import CANDLE
from market.schema import NS_PER_S, Rows
from sinks.encode import interval_name

CONNECT_S: Final = 5
STATEMENT_S: Final = 20

_COLUMNS: Final = (
    "open", "high", "low", "close", "volume", "quote_volume", "buy_volume", "vwap", "trades", "venues", "wicks",
    "revision",
)  # fmt: skip


def last_candles(
    url: str, names: Sequence[str], intervals_s: Iterable[int], count: int, now_s: float
) -> dict[tuple[int, int], Rows]:
    """Return the last `count` closed candles of each symbol and interval that the history holds without a hole.

    Args:
        url: Of the database.
        names: Symbols by code, "" where there is none.
        intervals_s: Candle lengths, seconds.
        count: How many candles each.
        now_s: UTC epoch seconds.

    Returns:
        (symbol code, interval) -> CANDLE rows by open time, up to the newest that is closed; only complete ones.

    Raises:
        psycopg.Error: The database does not answer, or has no such table.
    """
    found: dict[tuple[int, int], Rows] = {}
    options = f"-c statement_timeout={STATEMENT_S * 1000} -c default_transaction_read_only=on"
    with psycopg.connect(url, connect_timeout=CONNECT_S, options=options) as connection:
        for interval_s in intervals_s:
            end_s = int(now_s) // interval_s * interval_s - interval_s
            rows = _read(connection, names, interval_s, end_s - (count - 1) * interval_s, end_s)
            for symbol in np.unique(rows["symbol"]).tolist():
                mine = rows[rows["symbol"] == symbol]
                if mine.size == count:  # the key is the open time, so that as many as there can be are all
                    found[symbol, interval_s] = mine
    return found


def _read(connection: psycopg.Connection, names: Sequence[str], interval_s: int, start_s: int, end_s: int) -> Rows:
    query = f"""
        SELECT symbol, open_time, {", ".join(f'"{name}"' for name in _COLUMNS)}
        FROM candles WHERE "interval" = %s AND symbol = ANY(%s) AND open_time BETWEEN %s AND %s
        ORDER BY symbol, open_time
    """
    bounds = [datetime.fromtimestamp(at_s, UTC) for at_s in (start_s, end_s)]
    codes = {name: code for code, name in enumerate(names) if name}
    fetched = connection.execute(query, [interval_name(interval_s), list(codes), *bounds]).fetchall()
    rows = np.zeros(len(fetched), CANDLE)
    if not fetched:
        return rows
    symbols, times, *columns = zip(*fetched, strict=True)
    rows["symbol"] = [codes[name] for name in symbols]
    rows["interval_s"] = interval_s
    rows["open_ns"] = [int(time.timestamp()) * NS_PER_S for time in times]
    for name, values in zip(_COLUMNS, columns, strict=True):
        rows[name] = values
    return rows
