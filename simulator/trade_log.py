"""The newest trades a venue made, for its REST history. Formats nothing.

Trades go in whether anyone is subscribed or not, and whether a fault keeps them off the WebSocket or not.
"""

from __future__ import annotations

from collections import deque
from typing import Final

import numpy as np

from market.schema import I64, Rows
from simulator.market import PRINT, Trades

TRADES_KEPT: Final = 2**19
"""Trades kept over all venues, each venue its share by activity. A quarter of the messages are trades, so this is
17 minutes at 2,000 messages a second and 3.5 at 10,000; 48 bytes each make 25 MB."""
CHUNK_ROWS: Final = 2048
"""Trades are packed, and forgotten, so many at a time."""

FILL: Final = np.dtype(
    [("trade_id", "i8"), ("stamp_ns", "i8"), ("price", "i8"), ("units", "i8"), ("side", "i8"), ("sequence", "i8")]
)
"""A single fill; `units` is its size in units of the symbol's size decimals."""


class TradeLog:
    """The last trades of one venue, at most `rows` and a chunk.

    Attributes:
        now_ns: True time up to which trades are known to the public; later ones are kept and not shown.
        made: Trades added so far.
    """

    def __init__(self, rows: int) -> None:
        self._most = rows
        self.now_ns = 0
        self.made = 0
        self._fresh: list[Rows] = []
        self._fresh_rows = 0
        self._chunks: deque[Rows] = deque()
        self._packed_rows = 0

    def add(self, rows: Rows) -> None:
        """Append PRINT rows in the order made; they are kept, not copied."""
        self._fresh.append(rows)
        self._fresh_rows += len(rows)
        self.made += len(rows)
        if self._fresh_rows >= CHUNK_ROWS:
            self._pack()

    def of(self, symbol: int) -> Rows:
        """Return a symbol's trades that left by `now_ns`, PRINT rows, oldest first."""
        self._pack()
        mine = [chunk[chunk["symbol"] == symbol] for chunk in self._chunks]
        rows = np.concatenate(mine) if mine else np.zeros(0, PRINT)
        return rows[rows["send_ns"] <= self.now_ns]

    def _pack(self) -> None:
        if self._fresh_rows:
            chunk = np.concatenate(self._fresh)
            self._chunks.append(chunk)
            self._packed_rows += len(chunk)
        self._fresh, self._fresh_rows = [], 0
        while self._chunks and self._packed_rows - len(self._chunks[0]) >= self._most:
            self._packed_rows -= len(self._chunks.popleft())


def old_prints(rows: Trades) -> Rows:
    """Return trades from before the start as PRINT rows, known to all."""
    made = np.zeros(len(rows.symbol), PRINT)
    for name in PRINT.names or ():
        if name != "send_ns":
            made[name] = getattr(rows, name)
    return made


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
