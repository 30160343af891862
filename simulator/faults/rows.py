"""Faults of due rows: twice, in the wrong order, not at all, or late and all at once.

The venue's history has every trade before a row fault sees it. What a fault keeps for good it hands over in
`withheld`, for the ledger.
"""

from __future__ import annotations

from typing import Final

from simulator.faults.order import Fault, Number
from simulator.market import Quotes, RowsT, Trades, columns_of

MOST_HELD_ROWS: Final = 200_000
"""A fault that holds more lets go."""
_MS: Final = 1_000_000


class RowFault(Fault):
    """A fault that due rows pass through, until it has ended and holds nothing."""

    SYMBOL = "may"
    PACED = True

    def begin(self) -> None:
        """Get in the way."""
        self.withheld: list[Trades] = []
        self.port.row_faults.append(self)

    def end(self) -> None:
        """Get out of it."""
        if self in self.port.row_faults:
            self.port.row_faults.remove(self)

    def pass_on(self, trades: Trades | None, quotes: Quotes | None, now_ns: int) -> tuple[Trades | None, Quotes | None]:
        """Return what goes on of the rows due now."""
        raise NotImplementedError

    def held(self) -> list[Trades]:
        """Return the trades it still holds."""
        return []

    def mine(self, trades: Trades) -> list[int]:
        """Return the places of the rows it is about: those of its symbol, or of all, that somebody is subscribed to."""
        route = self.venue.routes[self.venue.CHANNELS[0]]
        return [at for at, symbol in enumerate(trades.symbol) if self.symbol in (None, symbol) and route[symbol]]


class _Counted(RowFault):
    """A row fault that is over after `count` trades, or after its time."""

    PARAMS = {"count": Number(10, 1, 100_000)}  # noqa: RUF012
    LASTS_S = 10.0

    def begin(self) -> None:
        """Count from here."""
        super().begin()
        self.left = int(self.params["count"])

    def counted(self, trades: Trades) -> list[int]:
        """Return the places of the rows that are still to be hit, and count them."""
        places = self.mine(trades)[: self.left]
        self.left -= len(places)
        return places


class Duplicate(_Counted):
    """Trades come again a step later, in frames of their own."""

    SAYS = "send the next trades twice"

    def begin(self) -> None:
        """Count from here."""
        super().begin()
        self._again: Trades | None = None

    def pass_on(self, trades: Trades | None, quotes: Quotes | None, now_ns: int) -> tuple[Trades | None, Quotes | None]:
        """Send the last step's rows again, remember this one's."""
        if self._again is not None:
            remembers, self.venue.remembers = self.venue.remembers, False  # replays hold a trade once
            self.port.trades += self.venue.trades(self._again, self.venue.routes)
            self.venue.remembers, self._again = remembers, None
        if trades is not None and self.left:
            places = self.counted(trades)
            self._again = select(trades, places) if places else None
        return trades, quotes


class IdGap(_Counted):
    """Trades that never leave on the WebSocket; REST has them."""

    SAYS = "withhold the next trades from the WebSocket; REST history and ledger have them"

    def pass_on(self, trades: Trades | None, quotes: Quotes | None, now_ns: int) -> tuple[Trades | None, Quotes | None]:
        """Keep them."""
        if trades is None or not self.left:
            return trades, quotes
        gone = self.counted(trades)
        if gone:
            self.withheld.append(select(trades, gone))
            hit = set(gone)
            trades = select(trades, [at for at in range(len(trades.symbol)) if at not in hit])
        return trades, quotes


class OutOfOrder(RowFault):
    """Trades are gathered for a while and leave newest first."""

    SAYS = "hold the trades of a short time, send them in reverse order"
    PARAMS = {"hold_ms": Number(200, 10, 5000)}  # noqa: RUF012
    LASTS_S = 2.0

    def begin(self) -> None:
        """Gather from here."""
        super().begin()
        self._held: Trades | None = None
        self._since_ns = 0
        self._over = False

    def end(self) -> None:
        """Let go at the next step."""
        self._over = True

    def held(self) -> list[Trades]:
        """What is gathered."""
        return [] if self._held is None else [self._held]

    def pass_on(self, trades: Trades | None, quotes: Quotes | None, now_ns: int) -> tuple[Trades | None, Quotes | None]:
        """Gather; after `hold_ms` send in reverse."""
        if trades is not None and not self._over:
            places = self.mine(trades)
            rest = set(range(len(trades.symbol))).difference(places)
            if places:
                self._since_ns = self._since_ns or now_ns
                self._held = joined(self._held, select(trades, places))
            trades = select(trades, sorted(rest)) if rest else None
        due = self._over or now_ns - self._since_ns >= self.params["hold_ms"] * _MS
        if self._held is not None and due:
            back = select(self._held, range(len(self._held.symbol) - 1, -1, -1))
            trades = back if trades is None else joined(back, trades)
            self._held, self._since_ns = None, 0
        if self._over:
            super().end()
        return trades, quotes


class Stall(RowFault):
    """The venue's data is held back, and then comes in one burst with the stamps it had. Acks and pongs still come."""

    SAYS = "hold all trades and quotes, then send them at once with their original stamps"
    SYMBOL = "none"
    LASTS_S = 2.0

    def begin(self) -> None:
        """Hold from here."""
        super().begin()
        self._trades: Trades | None = None
        self._quotes: Quotes | None = None
        self._over = False

    def end(self) -> None:
        """Let go at the next step."""
        self._over = True

    def held(self) -> list[Trades]:
        """What is held."""
        return [] if self._trades is None else [self._trades]

    def pass_on(self, trades: Trades | None, quotes: Quotes | None, now_ns: int) -> tuple[Trades | None, Quotes | None]:
        """Hold, or let all go."""
        self._trades = joined(self._trades, trades)
        self._quotes = joined(self._quotes, quotes)
        many = sum(len(rows.symbol) for rows in (self._trades, self._quotes) if rows is not None)
        if not self._over and many < MOST_HELD_ROWS:
            return None, None
        trades, quotes = self._trades, self._quotes
        self._trades = self._quotes = None
        super().end()
        return trades, quotes


def select(rows: RowsT, places: list[int] | range) -> RowsT:
    """Return some rows, in the order of `places`."""
    return type(rows)(*([column[at] for at in places] for column in columns_of(rows)))


def joined(first: RowsT | None, then: RowsT | None) -> RowsT | None:
    """Return rows after rows; either may be None. `first` is used up."""
    if first is None or then is None:
        return first if then is None else select(then, range(len(then.symbol)))
    for column, more in zip(columns_of(first), columns_of(then), strict=True):
        column.extend(more)
    return first
