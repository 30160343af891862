"""What one orders: a fault's name, its target and its parameters, checked. And what every fault is."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, ClassVar, Final

from market.venues import VENUES

if TYPE_CHECKING:
    from simulator.server import Connection, Port

MOST_S: Final = 3600.0
"""No fault lasts longer."""
ALL: Final = "all"


class OrderError(ValueError):
    """An order that cannot be carried out, in one line."""


@dataclass(frozen=True, slots=True)
class Number:
    """A parameter that is a number."""

    default: float
    low: float
    high: float

    def check(self, name: str, value: object) -> float:
        """Return the value. Raises `OrderError`."""
        if isinstance(value, bool) or not isinstance(value, int | float) or not self.low <= value <= self.high:
            message = f"{name}={value!r}: allowed is a number from {self.low:g} to {self.high:g}"
            raise OrderError(message)
        return value


@dataclass(frozen=True, slots=True)
class Choice:
    """A parameter that is one of some values, the first by default."""

    values: tuple[str | int, ...]

    @property
    def default(self) -> str | int:
        """The first value."""
        return self.values[0]

    def check(self, name: str, value: object) -> Any:
        """Return the value. Raises `OrderError`."""
        if value not in self.values:
            message = f"{name}={value!r}: allowed is {', '.join(str(one) for one in self.values)}"
            raise OrderError(message)
        return value


@dataclass(frozen=True, slots=True)
class Order:
    """A fault to be.

    Attributes:
        fault: Its name in the catalogue.
        venue: A venue, or `all`.
        symbol: Ours, `BTC-USDT`; "" = all the venue lists.
        for_s: How long it lasts; None = at once and over.
        params: The rest, complete.
    """

    fault: str
    venue: str
    symbol: str = ""
    for_s: float | None = None
    params: dict[str, Any] = field(default_factory=dict)


class Fault:
    """One fault on one port.

    Attributes:
        SAYS: What it does, in a line.
        PARAMS: Its parameters.
        LASTS_S: How long by default; None if it is over at once, and then `for_s` is refused.
        SYMBOL: Whether an order must, may or must not name a symbol.
        VENUES: Where it makes sense.
        PACED: Whether it needs rows, which a capacity run has not.
    """

    SAYS: ClassVar[str]
    PARAMS: ClassVar[Mapping[str, Number | Choice]] = {}
    LASTS_S: ClassVar[float | None] = None
    SYMBOL: ClassVar[str] = "none"
    VENUES: ClassVar[tuple[str, ...]] = VENUES
    PACED: ClassVar[bool] = False

    def __init__(self, port: Port, order: Order) -> None:
        self.port = port
        self.venue = port.venue
        self.params = order.params
        self.for_s = order.for_s
        symbols = port.venue.universe.symbols
        self.symbol = symbols.index(order.symbol) if order.symbol else None

    def clients(self) -> list[Connection]:
        """Return the connections it is about."""
        return self.port.clients_of(self.symbol)

    def begin(self) -> int | None:
        """Begin; return how many connections it hit, None if that says nothing."""
        raise NotImplementedError

    def end(self) -> None:
        """Undo what there is to undo."""
