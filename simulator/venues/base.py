"""What the simulated venues share: names, number texts, routes from a topic to its subscribers. No socket here.

A venue formats rows into frames and answers requests. It is handed peers (connections) and never sees a transport.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any, ClassVar, Final, Protocol

import msgspec

from market.schema import F64, Rows
from simulator.frames import PriceTexts, frame, number_text
from simulator.history import Candle, History
from simulator.limits import Budget, Limit, Spent
from simulator.market import Market, Quotes, Trades
from simulator.trade_log import TRADES_KEPT, TradeLog, old_prints, single_fills
from simulator.universe import TRAITS, Universe

Put = Callable[[str], None]
Route = list[list[Put]]
"""By symbol: where frames of one channel go. Empty inner lists are skipped before anything is formatted."""
Routes = dict[str, Route]
"""Channel -> its route."""


class Peer(Protocol):
    """A client's connection, as venues see it."""

    put: Put
    """Queue a data frame (header included, see `frames.frame`); it leaves at the end of the step."""
    topics: set[tuple[str, int]]
    """(channel, symbol) it is subscribed to."""
    tag: str
    """The venue's id of this connection."""
    options: dict[str, Any]
    """What the venue remembers of it."""

    def send(self, text: str) -> None:
        """Send a control frame at once."""

    def close(self, code: int, reason: str) -> None:
        """Close the connection once all is sent."""

    def ping(self) -> None:
        """Send a protocol ping."""


@dataclass(frozen=True, slots=True)
class Request:
    """An HTTP request: method, path, query and the base URLs it came in on."""

    method: str
    path: str
    query: dict[str, str] = field(default_factory=dict)
    ws_base: str = ""


@dataclass(frozen=True, slots=True)
class Reply:
    """An HTTP answer; `body` becomes JSON."""

    body: Any
    status: int = 200
    headers: dict[str, str] = field(default_factory=dict)


NOT_FOUND: Final = Reply({"code": -1, "msg": "not found"}, 404)
MINUTE_S: Final = 60
MOST_CANDLES: Final = 1500
OLD_TRADES: Final = 50
"""Trades of each listing from before the start that its history holds."""
TOO_MANY: Final = 429


class Venue:
    """A venue's behaviour; one subclass a venue. Holds its texts and its subscribers.

    Attributes:
        NAME: As in `market.venues`.
        PATH: Where its WebSocket lives.
        CHANNELS: Channels it can push; the first is the one for trades.
        IDLE_S: It closes a connection whose client has sent nothing for so long; None if it does not.
        PING: What marks a client's ping that is no protocol ping; "" if there is none.
        LIMITS: What it allows of REST.
        OVER_STATUS: HTTP status of a request beyond them.
        CLOSE: Code and reason with which it ends a connection on its own.
        universe: What is listed where.
        listing: symbol place -> listing, for the symbols it lists.
        native: By symbol: its own name of it, "" if it does not list it.
        symbol_of: native symbol -> symbol place.
        prices: By symbol: ticks -> text in trades.
        sizes: By symbol: the texts of all sizes.
        routes: Where frames go.
        owed: Symbols whose subscriber was lost and has not come back: their trades are in the ledger all the same.
        notes_all: Whether the ledger has all trades, also those that nobody wants.
        halted: Symbols listed but not trading.
        log: The trades made, for REST.
        remembers: Whether trades are kept for replays to new subscribers (not in capacity runs).
    """

    NAME: ClassVar[str]
    PATH: ClassVar[str]
    CHANNELS: ClassVar[tuple[str, ...]]
    IDLE_S: ClassVar[float | None] = None
    PING: ClassVar[str] = ""
    LIMITS: ClassVar[tuple[Limit, ...]] = ()
    OVER_STATUS: ClassVar[int] = TOO_MANY
    CLOSE: ClassVar[tuple[int, str]] = (1001, "")
    STRIP_PRICES: ClassVar[bool] = True
    STRIP_SIZES: ClassVar[bool] = True
    PAD: ClassVar[int] = 0

    def __init__(self, universe: Universe, market: Market, history: History) -> None:
        self.remembers = True
        self.universe = universe
        self.market = market
        self.history = history
        self.id_digits = TRAITS[self.NAME].id_digits
        self._place = universe.venues.index(self.NAME)
        self.skew_ns = int(market.skew_ns[self._place])
        count = len(universe.symbols)
        self.listing = {int(universe.symbol[at]): int(at) for at in universe.of_venue(self.NAME)}
        self.native = [self.native_of(universe.bases[s]) if s in self.listing else "" for s in range(count)]
        self.symbol_of = {name: s for s, name in enumerate(self.native) if name}
        self.prices = self._price_texts(strip=self.STRIP_PRICES)
        self.sizes = [self._size_texts(s) if s in self.listing else [] for s in range(count)]
        self.routes: Routes = self.empty_routes()
        self.owed: set[int] = set()
        self.notes_all = False
        self.halted: set[int] = set()
        self._off: dict[int, int] = {}
        self._budget = Budget(self.LIMITS)
        share = float(universe.weight[universe.of_venue(self.NAME)].sum())
        self.log = TradeLog(round(TRADES_KEPT * share))
        for listing in self.listing.values():
            self.log.add(old_prints(market.old_trades(listing, OLD_TRADES)))

    # What every venue defines for itself.

    def native_of(self, base: str) -> str:
        """Return the venue's name of a base coin's USDT pair."""
        raise NotImplementedError

    def trades(self, rows: Trades, routes: Routes) -> int:
        """Format trades for whoever wants them; return how many rows were put."""
        raise NotImplementedError

    def quotes(self, rows: Quotes, routes: Routes) -> None:
        """Format quotes for whoever wants them."""
        raise NotImplementedError

    def received(self, peer: Peer, text: str, now_ns: int) -> None:
        """Answer a client's text frame."""
        raise NotImplementedError

    def rest(self, request: Request, now_ns: int) -> Reply:
        """Answer an HTTP request."""
        raise NotImplementedError

    # What some define.

    def opened(self, peer: Peer, query: dict[str, str], now_ns: int) -> None:
        """Greet a new connection."""

    def beat(self, peer: Peer, idle_s: float, age_s: int, now_ns: int) -> None:
        """Do what the venue does on its own, called once a second; `idle_s` since the last frame to this client."""

    def closing_notice(self, peer: Peer, now_ns: int) -> str:
        """Return the frame that announces the end of a connection, "" if the venue announces none."""
        return ""

    def refusal(self, status: int) -> Any:
        """Return the body of an HTTP refusal: too many requests, a ban, an outage."""
        return {"code": status, "msg": "Too many requests" if status == TOO_MANY else "Service unavailable"}

    def limit_headers(self, spent: list[Spent]) -> dict[str, str]:
        """Return what the venue says of its limits with every answer."""
        return {}

    # Shared.

    def answer(self, request: Request, now_ns: int) -> Reply:
        """Answer an HTTP request within the limits."""
        spent = self._budget.spend(request.path, request.query, now_ns / 1e9)
        headers = self.limit_headers(spent)
        over = next((window for window in spent if window.over), None)
        if over is not None:
            headers["Retry-After"] = str(int(over.left_s) + 1)
            return Reply(self.refusal(self.OVER_STATUS), self.OVER_STATUS, headers)
        reply = self.rest(request, now_ns)
        return Reply(reply.body, reply.status, {**headers, **reply.headers}) if headers else reply

    def idle_s(self, peer: Peer) -> float | None:
        """Return after how many seconds without a word a client is sent away; None for never."""
        return self.IDLE_S

    def is_ping(self, text: str) -> bool:
        """Return whether a client's frame is a ping."""
        return bool(self.PING) and self.PING in text and len(text) < 200

    def empty_routes(self) -> Routes:
        """Return routes that lead nowhere yet."""
        return {channel: [[] for _ in self.native] for channel in self.CHANNELS}

    def subscribe(self, peer: Peer, channel: str, symbol: int) -> bool:
        """Route a topic to a client; False if it was already."""
        topic = (channel, symbol)
        if topic in peer.topics:
            return False
        if channel == self.CHANNELS[0]:
            self.owed.discard(symbol)
        peer.topics.add(topic)
        self.routes[channel][symbol].append(peer.put)
        return True

    def unsubscribe(self, peer: Peer, channel: str, symbol: int) -> None:
        """Stop routing a topic to a client."""
        if (channel, symbol) in peer.topics:
            peer.topics.discard((channel, symbol))
            self.routes[channel][symbol].remove(peer.put)
            if channel == self.CHANNELS[0]:
                self.owed.discard(symbol)

    def closed(self, peer: Peer, *, left: bool = True) -> None:
        """Forget a connection; what a client had that did not leave by itself is owed to it."""
        lost = set() if left else {symbol for channel, symbol in peer.topics if channel == self.CHANNELS[0]}
        for channel, symbol in list(peer.topics):
            self.unsubscribe(peer, channel, symbol)
        self.owed |= lost

    def symbols(self) -> set[str]:
        """Return our names of all it lists, listed now or not."""
        return {self.universe.symbols[symbol] for symbol in (*self.listing, *self._off)}

    def halt(self, symbol: int, *, on: bool) -> None:
        """Stop or resume trading in a symbol that stays listed."""
        (self.halted.add if on else self.halted.discard)(symbol)
        self._trade(self.listing.get(symbol, self._off.get(symbol, -1)), on=not on and symbol not in self._off)

    def delist(self, symbol: int) -> None:
        """Take a symbol off the lists and stop its trading; its subscribers hear no more of it."""
        if symbol in self.listing:
            del self.symbol_of[self.native[symbol]]
            self._off[symbol] = self.listing.pop(symbol)
            self._trade(self._off[symbol], on=False)

    def relist(self, symbol: int) -> None:
        """List a symbol that was taken off, as a new one; its trading begins."""
        if symbol in self._off:
            self.listing[symbol] = self._off.pop(symbol)
            self.symbol_of[self.native[symbol]] = symbol
            self._trade(self.listing[symbol], on=symbol not in self.halted)

    def _trade(self, listing: int, *, on: bool) -> None:
        (self.market.halted.discard if on else self.market.halted.add)(listing)

    def step_clock(self, step_ns: int) -> None:
        """Set the venue's clock forward; rows already made keep their stamps."""
        self.skew_ns += step_ns
        self.market.skew_ns[self._place] += step_ns

    def push_quote(self, peer: Peer, channel: str, symbol: int, now_ns: int) -> None:
        """Queue the present quote of a symbol for one client."""
        routes = self.empty_routes()
        routes[channel][symbol].append(peer.put)
        self.quotes(self.market.present_quote(self.listing[symbol], now_ns), routes)

    def ledger_lines(self, rows: Trades, *, withheld: bool = False) -> list[str]:
        """Return a CSV line for each trade that somebody is subscribed to, or was when the link was lost; or for all.

        `sent` is 1 if the trade is being sent to at least one client, 0 if not, -1 if nobody wants it; `stamp_ns` is
        the venue's stamp.
        """
        route, owed, name = self.routes[self.CHANNELS[0]], self.owed, self.NAME
        symbols = self.universe.symbols
        columns = (rows.symbol, rows.price, rows.size, rows.trade_id, rows.fills, rows.stamp_ns)
        return [
            f"{name},{symbols[s]},{trade_id},{self.prices[s][price]},{self.sizes[s][size]},{fills},"
            f"{(0 if withheld else 1) if route[s] else 0 if s in owed else -1},{stamp_ns}\n"
            for s, price, size, trade_id, fills, stamp_ns in zip(*columns, strict=True)
            if route[s] or s in owed or self.notes_all
        ]

    def fills_of(self, native: str) -> Rows | None:
        """Return the history of a symbol as FILL rows, oldest first; None if the symbol is unknown."""
        symbol = self.symbol_of.get(native)
        if symbol is None:
            return None
        return single_fills(self.log.of(symbol), self.universe.sizes[symbol])

    def size_text(self, symbol: int, units: int) -> str:
        """Return any size of a symbol as the venue writes it."""
        decimals = int(self.universe.size_decimals[symbol])
        return number_text(units, decimals, strip=self.STRIP_SIZES, pad=self.PAD)

    def price_text(self, symbol: int, price: float) -> str:
        """Return any price of a symbol, rounded to its tick, as the venue writes it."""
        return self.prices[symbol][round(price * 10.0 ** self.prices[symbol].decimals)]

    def listed(self) -> list[tuple[int, str, float, float]]:
        """Return (symbol, native symbol, mid price, 24 h turnover) of all that the venue lists."""
        mids: F64 = self.market.mid_prices()
        turnover = self.universe.turnover()
        return [(s, self.native[s], float(mids[at]), float(turnover[at])) for s, at in self.listing.items()]

    def candles(
        self, native: str, interval_s: int, start_s: int | None, end_s: int | None, limit: int, now_ns: int
    ) -> list[Candle] | None:
        """Return candles that open in [start_s, end_s], oldest first, at most `limit`; None if the symbol is unknown.

        Without `start_s` the newest ones; with it the first ones.
        """
        symbol = self.symbol_of.get(native)
        if symbol is None:
            return None
        limit = max(1, min(limit, MOST_CANDLES))
        now_s = (now_ns + self.skew_ns) // 1_000_000_000
        end_s = now_s if end_s is None else min(end_s, now_s)
        least = end_s - limit * interval_s + 1
        start = least if start_s is None else start_s
        end_s = min(end_s, start + limit * interval_s)
        return self.history.candles(self.listing[symbol], interval_s, start, end_s)[:limit]

    def stamp(self, now_ns: int) -> int:
        """Return the venue's clock in ns."""
        return now_ns + self.skew_ns

    def _price_texts(self, *, strip: bool) -> list[PriceTexts]:
        decimals = self.universe.decimals
        return [
            PriceTexts(int(decimals[self.listing[s]]) if s in self.listing else 0, strip=strip, pad=self.PAD)
            for s in range(len(self.native))
        ]

    def _size_texts(self, symbol: int) -> list[str]:
        return [self.size_text(symbol, units) for units in self.universe.sizes[symbol].tolist()]


_INTERVAL: Final = re.compile(r"^(\d+)\s*(s|m|min|h|hour|H|d|day|D|w|week|W)?$")
_UNIT_S: Final = {"s": 1, "m": 60, "min": 60, "h": 3600, "hour": 3600, "d": 86400, "day": 86400, "w": 604800}


def interval_seconds(text: str, bare_unit_s: int = MINUTE_S) -> int | None:
    """Return the seconds of an interval name (`1m`, `1min`, `1H`, `60`); None if it is not one of whole minutes."""
    match = _INTERVAL.match(text)
    if match is None:
        return None
    unit = match[2]
    seconds = int(match[1]) * (bare_unit_s if unit is None else _UNIT_S.get(unit) or _UNIT_S[unit.lower()])
    return seconds if seconds and seconds % MINUTE_S == 0 else None


def number(text: str | None) -> int | None:
    """Return a query value as an int; None if absent or not one."""
    return int(text) if text and text.lstrip("-").isdigit() else None


def seconds(text: str | None) -> int | None:
    """Return a query value in ms as whole s, rounded up; None if absent."""
    value = number(text)
    return None if value is None else -(-value // 1000)


def read_json(text: str) -> Any:
    """Return a client's frame parsed, None if it is not JSON."""
    try:
        return msgspec.json.decode(text)
    except msgspec.DecodeError:
        return None


def compact(value: Any) -> str:
    """Return a value as compact JSON text, keys in their order."""
    return msgspec.json.encode(value).decode()


def limited(text: str | None, default: int, most: int) -> int:
    """Return a `limit` of a query within 1 and `most`."""
    return max(1, min(number(text) or default, most))


def put_all(puts: Sequence[Put], text: str) -> None:
    """Queue one payload for several clients."""
    framed = frame(text)
    for put in puts:
        put(framed)


def plain(value: float, digits: int = 8) -> str:
    """Return a number in plain digits, without exponent and trailing zeros."""
    text = f"{value:.{digits}f}"
    return text.rstrip("0").rstrip(".") if "." in text else text
