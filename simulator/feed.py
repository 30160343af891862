"""The loop that makes the market happen: blocks from the model, frames to the clients when they are due.

A block's trades go into the venues' histories, which show them when they are due. Every row goes through `_send_due`:
through the port's row faults if there are any, then to the clients and into the ledger. Neither the model nor the
venues know of faults.
"""

from __future__ import annotations

import asyncio
import time
from bisect import bisect_right
from collections.abc import Callable
from typing import Final, Generic

from simulator.history import History
from simulator.market import Market, Quotes, RowsT, Trades, columns_of
from simulator.server import Port

STEP_S: Final = 0.01
AHEAD_NS: Final = 20_000_000
"""Blocks are made this much before their time."""
MOST_BEHIND_NS: Final = 1_000_000_000
"""Further behind than this, the model skips time instead of catching up; it also bounds what can be pending."""


class Pending(Generic[RowsT]):
    """Rows of one venue and kind that wait for their sending time."""

    def __init__(self, make: type[RowsT]) -> None:
        self._make: type[RowsT] = make
        self._columns: list[list[int]] | None = None
        self._at = 0

    def add(self, rows: RowsT) -> None:
        """Append a block's rows and drop those already taken."""
        if self._columns is None:
            self._columns = columns_of(rows)
            return
        for column, new in zip(self._columns, columns_of(rows), strict=True):
            del column[: self._at]
            column.extend(new)
        self._at = 0

    def take(self, now_ns: int) -> RowsT | None:
        """Return the rows due by `now_ns`, None if there are none."""
        if self._columns is None:
            return None
        end = bisect_right(self._columns[0], now_ns, lo=self._at)
        if end == self._at:
            return None
        due: RowsT = self._make(*(column[self._at : end] for column in self._columns))
        self._at = end
        return due


class Feed:
    """Drives the market in real time.

    Attributes:
        skipped_ms: Time left out because the process could not keep up.
    """

    def __init__(
        self, market: Market, history: History, ports: list[Port], ledger: Callable[[list[str]], object] | None = None
    ) -> None:
        self._market = market
        self._history = history
        self._ledger = ledger
        self._lanes = [(port, Pending(Trades), Pending(Quotes)) for port in ports]
        self.skipped_ms = 0

    async def run(self) -> None:
        """Step until cancelled."""
        while True:
            began = time.monotonic()
            self.step(time.time_ns())
            await asyncio.sleep(max(0.0, began + STEP_S - time.monotonic()))

    def step(self, now_ns: int) -> None:
        """Make what blocks are needed and send what is due."""
        if now_ns - self._market.now_ns > MOST_BEHIND_NS:
            self.skipped_ms += (now_ns - self._market.now_ns) // 1_000_000
            self._market.skip(now_ns)
        while self._market.now_ns < now_ns + AHEAD_NS:
            block = self._market.block()
            self._history.record(block)
            for port, trades, quotes in self._lanes:
                port.venue.log.add(block.prints[port.venue.NAME])
                trades.add(block.trades[port.venue.NAME])
                quotes.add(block.quotes[port.venue.NAME])
        for port, trades, quotes in self._lanes:
            self._send_due(port, trades.take(now_ns), quotes.take(now_ns), now_ns)

    def finish(self) -> None:
        """Note in the ledger what faults still hold back: it was made and not sent."""
        for port, _, _ in self._lanes:
            for fault in port.row_faults:
                for rows in fault.held():
                    self._note(port, rows, withheld=True)

    def _send_due(self, port: Port, trades: Trades | None, quotes: Quotes | None, now_ns: int) -> None:
        venue = port.venue
        venue.log.now_ns = now_ns
        if port.row_faults:
            trades, quotes = self._through_faults(port, trades, quotes, now_ns)
        if quotes is not None and port.clients:
            venue.quotes(quotes, venue.routes)
        if trades is not None:
            self._note(port, trades)
            port.trades += venue.trades(trades, venue.routes)
        for client in tuple(port.clients):
            client.flush()

    def _through_faults(
        self, port: Port, trades: Trades | None, quotes: Quotes | None, now_ns: int
    ) -> tuple[Trades | None, Quotes | None]:
        for fault in tuple(port.row_faults):
            trades, quotes = fault.pass_on(trades, quotes, now_ns)
            for rows in fault.withheld:
                self._note(port, rows, withheld=True)
            fault.withheld.clear()
        return trades, quotes

    def _note(self, port: Port, trades: Trades, *, withheld: bool = False) -> None:
        if self._ledger is not None and (port.clients or port.venue.owed or port.venue.notes_all):
            self._ledger(port.venue.ledger_lines(trades, withheld=withheld))


async def beat(ports: list[Port]) -> None:
    """Give every connection its once-a-second turn until cancelled."""
    while True:
        await asyncio.sleep(1.0)
        now_s, now_ns = time.monotonic(), time.time_ns()
        for port in ports:
            for client in tuple(port.clients):
                client.beat(now_s, now_ns)
