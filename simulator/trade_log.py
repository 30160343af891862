"""The newest trades a venue made, for its REST history. Formats nothing.

Trades go in whether anyone is subscribed or not, and whether a fault keeps them off the WebSocket or not.
"""

from __future__ import annotations

from collections import deque
from typing import Final

import numpy as np

from market.schema import I64, Rows
from simulator.market import Trades

TRADES_KEPT: Final = 2**19
"""Trades kept over all venues, each venue its share by activity. A quarter of the messages are trades, so this is
17 minutes at 2,000 messages a second and 3.5 at 10,000; 40 bytes each make 21 MB."""
CHUNK_ROWS: Final = 2048
"""Trades are packed, and forgotten, so many at a time."""

PRINT: Final = np.dtype(
    [
        ("trade_id", "i8"), ("stamp_ns", "i8"), ("price", "i8"), ("sequence", "i8"),
        ("symbol", "i4"), ("size", "i2"), ("side", "i1"), ("fills", "i1"),
    ]
)  # fmt: skip
"""A trade as the market made it; meanings as in `market.Trades`."""

FILL: Final = np.dtype(
    [("trade_id", "i8"), ("stamp_ns", "i8"), ("price", "i8"), ("units", "i8"), ("side", "i8"), ("sequence", "i8")]
)
"""A single fill; `units` is its size in units of the symbol's size decimals."""


class TradeLog:
    """The last trades of one venue, at most `rows` and a chunk."""

    def __init__(self, rows: int) -> None:
        self._most = rows
        self._fresh: list[Trades] = []
        self._fresh_rows = 0
        self._chunks: deque[Rows] = deque()
        self._packed_rows = 0

    def add(self, rows: Trades) -> None:
        """Append trades in the order made. Keeps the lists as they are: packing is put off."""
        self._fresh.append(rows)
        self._fresh_rows += len(rows.symbol)
        if self._fresh_rows >= CHUNK_ROWS:
            self._pack()

    def of(self, symbol: int) -> Rows:
        """Return a symbol's trades, PRINT rows, oldest first."""
        self._pack()
        mine = [chunk[chunk["symbol"] == symbol] for chunk in self._chunks]
        return np.concatenate(mine) if mine else np.zeros(0, PRINT)

    def _pack(self) -> None:
        if not self._fresh_rows:
            self._fresh.clear()
            return
        chunk = np.empty(self._fresh_rows, PRINT)
        for name in chunk.dtype.names or ():
            chunk[name] = [value for rows in self._fresh for value in getattr(rows, name)]
        self._fresh, self._fresh_rows = [], 0
        self._chunks.append(chunk)
        self._packed_rows += len(chunk)
        while self._packed_rows - len(self._chunks[0]) >= self._most:
            self._packed_rows -= len(self._chunks.popleft())


def single_fills(rows: Rows, sizes: I64) -> Rows:
    """Return PRINT rows as FILL rows: joined fills apart, with ids that end in the joined one's, sizes that add up.

    Args:
        rows: n PRINT rows of one symbol.
        sizes: int64, the symbol's sizes in units; each at least as large as the fills of a trade.
    """
    fills = rows["fills"].astype(np.int64)
    at = np.repeat(np.arange(len(rows)), fills)
    rank = np.arange(len(at)) - (np.cumsum(fills) - fills)[at]
    units = sizes[rows["size"]]
    made = np.empty(len(at), FILL)
    for name in ("stamp_ns", "price", "side", "sequence"):
        made[name] = rows[name][at]
    made["trade_id"] = (rows["trade_id"] - fills + 1)[at] + rank
    made["units"] = (units // fills)[at] + np.where(rank == fills[at] - 1, (units % fills)[at], 0)
    return made
