"""KuCoin classic spot: topics `/market/match`, `/spotMarket/level1` and `/market/ticker`, behind a token handshake.

Source: KuCoin WebSocket introduction and spot public channels. An unknown symbol is acked and stays silent.
"""

from __future__ import annotations

import secrets
from collections import OrderedDict
from collections.abc import Iterable
from typing import Any, Final

from simulator.frames import HEADERS
from simulator.history import History
from simulator.limits import Limit, Spent
from simulator.market import Market, Quotes, Trades
from simulator.universe import QUOTE, Universe
from simulator.venues.base import (
    NOT_FOUND,
    TOO_MANY,
    Peer,
    Reply,
    Request,
    Routes,
    Venue,
    compact,
    interval_seconds,
    number,
    plain,
    read_json,
)

_MS: Final = 1_000_000
_S: Final = 1_000_000_000
TOKEN_LIFE_NS: Final = 24 * 3600 * _S
PING_TIMES_MS: Final = (18_000, 10_000)
"""`pingInterval` and `pingTimeout` of a token."""
_MOST_TOKENS: Final = 4096
_MOST_TOPICS: Final = 100
_MOST_RECENT: Final = 100
_WEIGHTS: Final = {
    "/api/v1/bullet-public": 10,
    "/api/v2/symbols": 4,
    "/api/v1/market/allTickers": 15,
    "/api/v1/market/candles": 3,
    "/api/v1/market/histories": 3,
}
_ODD_NAMES: Final = {"BSV": "BCHSV"}


class Kucoin(Venue):
    """Hands out tokens over REST; a connection without a valid one gets an error frame and is closed."""

    NAME = "kucoin"
    PATH = "/"
    CHANNELS = ("/market/match", "/spotMarket/level1", "/market/ticker")
    IDLE_S = 60.0
    PING = '"ping"'
    LIMITS = (Limit(2000, 30.0, _WEIGHTS, other=2),)
    CLOSE = (1000, "Bye")

    def __init__(self, universe: Universe, market: Market, history: History) -> None:
        super().__init__(universe, market, history)
        self._tokens: OrderedDict[str, tuple[int, float | None]] = OrderedDict()
        """Token -> when it expires, and how long its client may be silent; bound `_MOST_TOKENS`, oldest out."""
        self.token_life_ns = TOKEN_LIFE_NS
        self.ping_times_ms = PING_TIMES_MS
        self._last = {s: (self.price_text(s, mid), self.sizes[s][0], 0) for s, _, mid, _ in self.listed()}

    def native_of(self, base: str) -> str:
        """`BTC` -> `BTC-USDT`; some names differ from the currency."""
        return f"{_ODD_NAMES.get(base, base)}-{QUOTE}"

    def trades(self, rows: Trades, routes: Routes) -> int:
        """`/market/match`: one fill a frame; time in ns, of ms resolution."""
        route, names, prices, sizes, last = routes["/market/match"], self.native, self.prices, self.sizes, self._last
        put_rows = 0
        columns = (rows.symbol, rows.price, rows.size, rows.side, rows.trade_id, rows.sequence, rows.stamp_ns)
        for symbol, price, size, side, trade_id, sequence, stamp_ns in zip(*columns, strict=True):
            name, ms, price_text, size_text = names[symbol], stamp_ns // _MS, prices[symbol][price], sizes[symbol][size]
            last[symbol] = (price_text, size_text, ms)
            puts = route[symbol]
            if not puts:
                continue
            text = (
                f'{{"topic":"/market/match:{name}","type":"message","subject":"trade.l3match","data":{{'
                f'"makerOrderId":"6a7c6b44e1328b00{sequence:x}","price":"{price_text}","sequence":"{trade_id}",'
                f'"side":"{"buy" if side > 0 else "sell"}","size":"{size_text}","symbol":"{name}",'
                f'"takerOrderId":"4769998{sequence}","time":"{ms}000000","tradeId":"{trade_id}","type":"match"}}}}'
            )
            text = HEADERS[len(text)] + text
            for put in puts:
                put(text)
            put_rows += len(puts)
        return put_rows

    def quotes(self, rows: Quotes, routes: Routes) -> None:
        """`/spotMarket/level1` and `/market/ticker`, whose time is the last trade's."""
        level1, ticker, names, prices, sizes = (
            routes["/spotMarket/level1"], routes["/market/ticker"], self.native, self.prices, self.sizes,
        )  # fmt: skip
        columns = (rows.symbol, rows.bid, rows.bid_size, rows.ask, rows.ask_size, rows.sequence, rows.stamp_ns)
        for symbol, bid, bid_size, ask, ask_size, sequence, stamp_ns in zip(*columns, strict=True):
            puts = level1[symbol]
            if puts:
                price, size = prices[symbol], sizes[symbol]
                text = (
                    f'{{"topic":"/spotMarket/level1:{names[symbol]}","type":"message","subject":"level1","data":{{'
                    f'"asks":["{price[ask]}","{size[ask_size]}"],"bids":["{price[bid]}","{size[bid_size]}"],'
                    f'"timestamp":{stamp_ns // _MS}}}}}'
                )
                text = HEADERS[len(text)] + text
                for put in puts:
                    put(text)
            puts = ticker[symbol]
            if puts:
                text = self._ticker_text(symbol, bid, bid_size, ask, ask_size, sequence, stamp_ns)
                for put in puts:
                    put(text)

    def _ticker_text(
        self, symbol: int, bid: int, bid_size: int, ask: int, ask_size: int, sequence: int, stamp_ns: int
    ) -> str:
        price, size = self.prices[symbol], self.sizes[symbol]
        last_price, last_size, last_ms = self._last[symbol]
        text = (
            f'{{"topic":"/market/ticker:{self.native[symbol]}","type":"message","subject":"trade.ticker","data":{{'
            f'"bestAsk":"{price[ask]}","bestAskSize":"{size[ask_size]}","bestBid":"{price[bid]}",'
            f'"bestBidSize":"{size[bid_size]}","price":"{last_price}","sequence":"{sequence}","size":"{last_size}",'
            f'"time":{last_ms or stamp_ns // _MS}}}}}'
        )
        return HEADERS[len(text)] + text

    def opened(self, peer: Peer, query: dict[str, str], now_ns: int) -> None:
        """Welcome, or refuse a bad token."""
        expires_ns, peer.options["idle_s"] = self._tokens.get(query.get("token", ""), (0, self.IDLE_S))
        if expires_ns <= now_ns:
            self._refuse(peer, query.get("connectId", ""), "token is invalid")
            return
        peer.send(compact({"id": query.get("connectId") or peer.tag[:10], "type": "welcome"}))

    def idle_s(self, peer: Peer) -> float | None:
        """Usually a minute; where a token's ping times are not the usual ones, no longer than these."""
        found: float | None = peer.options.get("idle_s", self.IDLE_S)
        return found

    def received(self, peer: Peer, text: str, now_ns: int) -> None:
        """Ping, subscribe and unsubscribe."""
        message = read_json(text)
        if not isinstance(message, dict):
            peer.send(compact({"id": "", "type": "error", "code": 400, "data": "request is not valid json"}))
            return
        number_, kind = str(message.get("id", "")), message.get("type")
        if kind == "ping":
            stamp_us = self.stamp(now_ns) // 1000
            peer.send(compact({"id": number_, "type": "pong", "timestamp": stamp_us}))
        elif kind in ("subscribe", "unsubscribe"):
            self._subscription(peer, message, number_)
        else:
            peer.send(compact({"id": number_, "type": "error", "code": 400, "data": f"type {kind} is not supported"}))

    def _subscription(self, peer: Peer, message: dict[str, Any], number_: str) -> None:
        channel, _, listed = str(message.get("topic", "")).partition(":")
        names = [name for name in listed.split(",") if name]
        if channel not in self.CHANNELS or not names:
            peer.send(compact({"id": number_, "type": "error", "code": 404, "data": f"topic {channel} is not found"}))
            return
        if len(names) > _MOST_TOPICS:
            words = f"exceed max subscription count limitation of {_MOST_TOPICS} per time"
            peer.send(compact({"id": number_, "type": "error", "code": 509, "data": words}))
            return
        for name in names:
            symbol = self.symbol_of.get(name)
            if symbol is None:
                continue
            if message["type"] == "subscribe":
                self.subscribe(peer, channel, symbol)
            else:
                self.unsubscribe(peer, channel, symbol)
        if message.get("response"):
            peer.send(compact({"id": number_, "type": "ack"}))

    def _refuse(self, peer: Peer, number_: str, words: str) -> None:
        peer.send(compact({"id": number_, "type": "error", "code": 401, "data": words}))
        peer.close(1008, words)

    def expire_tokens(self, peers: Iterable[Peer]) -> None:
        """Make all tokens invalid; connections that live on one end."""
        self._tokens.clear()
        for peer in peers:
            self._refuse(peer, peer.tag[:10], "token is expired")

    def refusal(self, status: int) -> Any:
        """The status with three zeros."""
        words = "Too many requests in a short period of time" if status == TOO_MANY else "Service unavailable"
        return {"code": f"{status}000", "msg": words}

    def limit_headers(self, spent: list[Spent]) -> dict[str, str]:
        """The pool, what remains of it, and for how many ms."""
        window = spent[0]
        return {
            "gw-ratelimit-limit": str(window.limit.most),
            "gw-ratelimit-remaining": str(max(0, window.limit.most - window.used)),
            "gw-ratelimit-reset": str(int(window.left_s * 1000)),
        }

    def rest(self, request: Request, now_ns: int) -> Reply:
        """Token, symbols, tickers, candles, trades, time."""
        if request.path == "/api/v1/bullet-public":
            return self._bullet(request, now_ns)
        if request.path == "/api/v1/timestamp":
            return _ok(self.stamp(now_ns) // _MS)
        if request.path == "/api/v2/symbols":
            return _ok([self._instrument(symbol, name) for name, symbol in self.symbol_of.items()])
        if request.path == "/api/v1/market/allTickers":
            rows = [self._ticker(*row) for row in self.listed()]
            return _ok({"time": self.stamp(now_ns) // _MS, "ticker": rows})
        if request.path == "/api/v1/market/candles":
            return self._candles(request.query, now_ns)
        if request.path == "/api/v1/market/histories":
            return self._histories(request.query)
        return NOT_FOUND

    def _histories(self, query: dict[str, str]) -> Reply:
        """The last 100 fills, oldest first; a row has the socket's `sequence` and no trade id."""
        rows = self.fills_of(query.get("symbol", ""))
        if rows is None:
            return Reply({"code": "900001", "msg": "The symbol not exists"})
        symbol = self.symbol_of[query["symbol"]]
        return _ok(
            [
                {
                    "sequence": str(trade_id),
                    "price": self.prices[symbol][price],
                    "size": self.size_text(symbol, units),
                    "side": "buy" if side > 0 else "sell",
                    "time": stamp_ns // _MS * _MS,
                }
                for trade_id, stamp_ns, price, units, side, _ in rows[-_MOST_RECENT:].tolist()
            ]
        )

    def _bullet(self, request: Request, now_ns: int) -> Reply:
        if request.method != "POST":
            return Reply({"code": "405000", "msg": "Request method 'GET' is not supported"})
        token = f"2neAiuYvAU61{secrets.token_urlsafe(48)}=="
        interval_ms, timeout_ms = self.ping_times_ms
        usual = self.ping_times_ms == PING_TIMES_MS
        idle_s = self.IDLE_S if usual else (interval_ms + timeout_ms) / 1000
        self._tokens[token] = (now_ns + self.token_life_ns, idle_s)
        if len(self._tokens) > _MOST_TOKENS:
            self._tokens.popitem(last=False)
        server = {
            "endpoint": f"{request.ws_base}/",
            "encrypt": True,
            "protocol": "websocket",
            "pingInterval": interval_ms,
            "pingTimeout": timeout_ms,
        }
        return _ok({"token": token, "instanceServers": [server]})

    def _instrument(self, symbol: int, name: str) -> dict[str, Any]:
        base, lot = self.universe.bases[symbol], plain(10.0 ** -int(self.universe.size_decimals[symbol]))
        return {
            "symbol": name,
            "name": f"{base}-{QUOTE}",
            "baseCurrency": base,
            "quoteCurrency": QUOTE,
            "feeCurrency": QUOTE,
            "market": "USDS",
            "baseMinSize": lot,
            "quoteMinSize": "0.1",
            "baseMaxSize": "10000000000",
            "quoteMaxSize": "99999999",
            "baseIncrement": lot,
            "quoteIncrement": "0.000001",
            "priceIncrement": plain(10.0 ** -self.prices[symbol].decimals, 12),
            "priceLimitRate": "0.1",
            "minFunds": "0.1",
            "isMarginEnabled": False,
            "enableTrading": symbol not in self.halted,
        }

    def _ticker(self, symbol: int, name: str, mid: float, turnover: float) -> dict[str, Any]:
        price = self.price_text(symbol, mid)
        return {
            "symbol": name,
            "symbolName": name,
            "buy": price,
            "bestBidSize": self.sizes[symbol][0],
            "sell": price,
            "bestAskSize": self.sizes[symbol][1],
            "changeRate": "0.0101",
            "changePrice": self.price_text(symbol, mid * 0.01),
            "high": self.price_text(symbol, mid * 1.02),
            "low": self.price_text(symbol, mid * 0.98),
            "vol": plain(turnover / mid),
            "volValue": plain(turnover),
            "last": price,
            "averagePrice": price,
            "takerFeeRate": "0.001",
            "makerFeeRate": "0.001",
            "takerCoefficient": "1",
            "makerCoefficient": "1",
        }

    def _candles(self, query: dict[str, str], now_ns: int) -> Reply:
        name, interval = query.get("symbol", ""), interval_seconds(query.get("type", ""))
        if interval is None:
            return Reply({"code": "400100", "msg": "Incorrect candlestick type"}, 400)
        start, end = number(query.get("startAt")), number(query.get("endAt"))
        candles = self.candles(name, interval, start, end, 1500 if start is not None else 100, now_ns)
        if candles is None:
            return Reply({"code": "900001", "msg": "The symbol not exists"})
        symbol = self.symbol_of[name]
        return _ok(
            [
                [
                    str(row.open_s),
                    *(self.price_text(symbol, price) for price in (row.open, row.close, row.high, row.low)),
                    plain(row.volume),
                    plain(row.quote_volume),
                ]
                for row in reversed(candles)
                if row.trades
            ]
        )


def _ok(data: Any) -> Reply:
    return Reply({"code": "200000", "data": data})
