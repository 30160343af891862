"""Binance spot: combined streams `trade` and `bookTicker`.

Source: binance-spot-api-docs, web-socket-streams.md and rest-api.md. Numbers are strings padded to 8 digits.
"""

from __future__ import annotations

import re
from typing import Any, Final

from simulator.frames import HEADERS
from simulator.history import History
from simulator.limits import Limit, Spent
from simulator.market import Market, Quotes, Trades
from simulator.universe import QUOTE, Universe
from simulator.venues.base import (
    NOT_FOUND,
    Peer,
    Reply,
    Request,
    Routes,
    Venue,
    compact,
    interval_seconds,
    limited,
    number,
    read_json,
    seconds,
)

_STREAM: Final = re.compile(
    r"^[^\s@]+@(trade|aggTrade|bookTicker|avgPrice|ticker(_\w+)?|miniTicker|kline_\w+|depth\d*(@\d+ms)?)$"
)
_MS: Final = 1_000_000
_WEIGHTS: Final = {
    "/api/v3/exchangeInfo": 20,
    "/api/v3/ticker/24hr": 80,
    "/api/v3/klines": 2,
    "/api/v3/trades": 25,
    "/api/v3/historicalTrades": 25,
}


class Binance(Venue):
    """Acks any well-formed stream; one of an unknown symbol stays silent."""

    NAME = "binance"
    PATH = "/stream"
    CHANNELS = ("trade", "bookTicker")
    STRIP_PRICES = False
    STRIP_SIZES = False
    PAD = 8
    LIMITS = (Limit(6000, 60.0, _WEIGHTS),)

    def __init__(self, universe: Universe, market: Market, history: History) -> None:
        super().__init__(universe, market, history)
        self._heads = [f'{{"stream":"{name.lower()}@bookTicker","data":{{"u":' for name in self.native]
        self._trade_heads = [f'{{"stream":"{name.lower()}@trade","data":{{"e":"trade","E":' for name in self.native]

    def native_of(self, base: str) -> str:
        """`BTC` -> `BTCUSDT`."""
        return f"{base}{QUOTE}"

    def trades(self, rows: Trades, routes: Routes) -> int:
        """`<symbol>@trade`: one frame a fill."""
        route, names, prices, sizes = routes["trade"], self.native, self.prices, self.sizes
        heads = self._trade_heads
        put_rows = 0
        columns = (rows.symbol, rows.price, rows.size, rows.side, rows.trade_id, rows.stamp_ns)
        for symbol, price, size, side, trade_id, stamp_ns in zip(*columns, strict=True):
            puts = route[symbol]
            if not puts:
                continue
            name, ms = names[symbol], stamp_ns // _MS
            text = (
                f'{heads[symbol]}{ms},"s":"{name}","t":{trade_id},'
                f'"p":"{prices[symbol][price]}","q":"{sizes[symbol][size]}","T":{ms},'
                f'"m":{"true" if side < 0 else "false"},"M":true}}}}'
            )
            text = HEADERS[len(text)] + text
            for put in puts:
                put(text)
            put_rows += len(puts)
        return put_rows

    def quotes(self, rows: Quotes, routes: Routes) -> None:
        """`<symbol>@bookTicker`: no time in it."""
        route, names, prices, sizes = routes["bookTicker"], self.native, self.prices, self.sizes
        heads = self._heads
        columns = (rows.symbol, rows.bid, rows.bid_size, rows.ask, rows.ask_size, rows.sequence)
        for symbol, bid, bid_size, ask, ask_size, sequence in zip(*columns, strict=True):
            puts = route[symbol]
            if not puts:
                continue
            price, size = prices[symbol], sizes[symbol]
            text = (
                f'{heads[symbol]}{sequence},"s":"{names[symbol]}","b":"{price[bid]}",'
                f'"B":"{size[bid_size]}","a":"{price[ask]}","A":"{size[ask_size]}"}}}}'
            )
            text = HEADERS[len(text)] + text
            for put in puts:
                put(text)

    def opened(self, peer: Peer, query: dict[str, str], now_ns: int) -> None:
        """Streams named in the URL are live at once and get no ack."""
        peer.options["streams"] = []
        for stream in filter(None, query.get("streams", "").split("/")):
            self._route(peer, stream)

    def received(self, peer: Peer, text: str, now_ns: int) -> None:
        """SUBSCRIBE, UNSUBSCRIBE, LIST_SUBSCRIPTIONS."""
        message = read_json(text)
        if not isinstance(message, dict):
            peer.send(compact({"error": {"code": 3, "msg": "Invalid JSON: expected value at line 1 column 1"}}))
            return
        number_, method, params = message.get("id"), message.get("method"), message.get("params") or []
        if method == "LIST_SUBSCRIPTIONS":
            peer.send(compact({"result": peer.options["streams"], "id": number_}))
            return
        if method not in ("SUBSCRIBE", "UNSUBSCRIBE"):
            peer.send(compact({"error": {"code": 2, "msg": "Invalid request: unknown variant"}, "id": number_}))
            return
        if not all(isinstance(stream, str) and _STREAM.match(stream) for stream in params):
            peer.send(compact({"error": {"code": 2, "msg": "Invalid request: invalid stream"}, "id": number_}))
            peer.close(1008, "Invalid request")
            return
        for stream in params:
            self._route(peer, stream, on=method == "SUBSCRIBE")
        peer.send(compact({"result": None, "id": number_}))

    def beat(self, peer: Peer, idle_s: float, age_s: int, now_ns: int) -> None:
        """A protocol ping every 20 s."""
        if age_s % 20 == 0:
            peer.ping()

    def closing_notice(self, peer: Peer, now_ns: int) -> str:
        """`serverShutdown`, in the combined form."""
        notice = {"e": "serverShutdown", "E": self.stamp(now_ns) // _MS}
        return compact({"stream": "!serverShutdown", "data": notice})

    def refusal(self, status: int) -> Any:
        """-1003 for what is too much, banned included."""
        if status in (418, 429):
            return {
                "code": -1003,
                "msg": "Too much request weight used; current limit is 6000 request weight per 1 MINUTE.",
            }
        return {"code": -1000, "msg": "An unknown error occurred while processing the request."}

    def limit_headers(self, spent: list[Spent]) -> dict[str, str]:
        """The weight used in this minute."""
        return {"X-MBX-USED-WEIGHT-1M": str(spent[0].used)}

    def _route(self, peer: Peer, stream: str, *, on: bool = True) -> None:
        streams: list[str] = peer.options["streams"]
        if on and stream not in streams:
            streams.append(stream)
        elif not on and stream in streams:
            streams.remove(stream)
        name, _, channel = stream.partition("@")
        symbol = self.symbol_of.get(name.upper())
        if symbol is None or channel not in self.CHANNELS:
            return
        if on:
            self.subscribe(peer, channel, symbol)
        else:
            self.unsubscribe(peer, channel, symbol)

    def rest(self, request: Request, now_ns: int) -> Reply:
        """exchangeInfo, 24 h tickers, klines, trades, time."""
        if request.path == "/api/v3/time":
            return Reply({"serverTime": self.stamp(now_ns) // _MS})
        if request.path == "/api/v3/exchangeInfo":
            return Reply(self._exchange_info(now_ns))
        if request.path == "/api/v3/ticker/24hr":
            return Reply([self._ticker(*row, now_ns) for row in self.listed()])
        if request.path == "/api/v3/klines":
            return self._klines(request.query, now_ns)
        if request.path in ("/api/v3/trades", "/api/v3/historicalTrades"):
            return self._trades_page(request.query, by_id=request.path.endswith("historicalTrades"))
        return NOT_FOUND

    def _trades_page(self, query: dict[str, str], *, by_id: bool) -> Reply:
        """Single fills, oldest first: the newest ones, or those from an id on, the id included."""
        rows = self.fills_of(query.get("symbol", ""))
        if rows is None:
            return Reply({"code": -1121, "msg": "Invalid symbol."}, 400)
        symbol, limit = self.symbol_of[query["symbol"]], limited(query.get("limit"), 500, 1000)
        first = number(query.get("fromId")) if by_id else None
        rows = rows[-limit:] if first is None else rows[rows["trade_id"] >= first][:limit]
        prices = self.prices[symbol]
        return Reply(
            [
                {
                    "id": trade_id,
                    "price": prices[price],
                    "qty": (size := self.size_text(symbol, units)),
                    "quoteQty": f"{float(prices[price]) * float(size):.8f}",
                    "time": stamp_ns // _MS,
                    "isBuyerMaker": side < 0,
                    "isBestMatch": True,
                }
                for trade_id, stamp_ns, price, units, side, _ in rows.tolist()
            ]
        )

    def _exchange_info(self, now_ns: int) -> dict[str, Any]:
        limits = [{"rateLimitType": "REQUEST_WEIGHT", "interval": "MINUTE", "intervalNum": 1, "limit": 6000}]
        return {
            "timezone": "UTC",
            "serverTime": self.stamp(now_ns) // _MS,
            "rateLimits": limits,
            "exchangeFilters": [],
            "symbols": [self._instrument(symbol, name) for name, symbol in self.symbol_of.items()],
        }

    def _instrument(self, symbol: int, name: str) -> dict[str, Any]:
        tick = 10.0 ** -self.prices[symbol].decimals
        return {
            "symbol": name,
            "status": "BREAK" if symbol in self.halted else "TRADING",
            "baseAsset": self.universe.bases[symbol],
            "baseAssetPrecision": 8,
            "quoteAsset": QUOTE,
            "quotePrecision": 8,
            "quoteAssetPrecision": 8,
            "orderTypes": ["LIMIT", "LIMIT_MAKER", "MARKET"],
            "icebergAllowed": True,
            "isSpotTradingAllowed": True,
            "isMarginTradingAllowed": True,
            "filters": [{"filterType": "PRICE_FILTER", "minPrice": f"{tick:.8f}", "tickSize": f"{tick:.8f}"}],
            "permissions": [],
            "permissionSets": [["SPOT"]],
        }

    def _ticker(self, symbol: int, name: str, mid: float, turnover: float, now_ns: int) -> dict[str, Any]:
        price, close_ms = self.price_text(symbol, mid), self.stamp(now_ns) // _MS
        return {
            "symbol": name,
            "priceChange": self.price_text(symbol, mid * 0.01),
            "priceChangePercent": "1.010",
            "weightedAvgPrice": price,
            "prevClosePrice": self.price_text(symbol, mid * 0.99),
            "lastPrice": price,
            "lastQty": self.sizes[symbol][0],
            "bidPrice": price,
            "bidQty": self.sizes[symbol][1],
            "askPrice": price,
            "askQty": self.sizes[symbol][2],
            "openPrice": self.price_text(symbol, mid * 0.99),
            "highPrice": self.price_text(symbol, mid * 1.02),
            "lowPrice": self.price_text(symbol, mid * 0.98),
            "volume": f"{turnover / mid:.8f}",
            "quoteVolume": f"{turnover:.8f}",
            "openTime": close_ms - 86_400_000,
            "closeTime": close_ms,
            "firstId": 1,
            "lastId": int(turnover // 300) + 1,
            "count": int(turnover // 300) + 1,
        }

    def _klines(self, query: dict[str, str], now_ns: int) -> Reply:
        interval = interval_seconds(query.get("interval", ""))
        if interval is None:
            return Reply({"code": -1120, "msg": "Invalid interval."}, 400)
        limit = min(number(query.get("limit")) or 500, 1000)
        start, end = seconds(query.get("startTime")), number(query.get("endTime"))
        end_s = None if end is None else end // 1000
        candles = self.candles(query.get("symbol", ""), interval, start, end_s, limit, now_ns)
        if candles is None:
            return Reply({"code": -1121, "msg": "Invalid symbol."}, 400)
        symbol = self.symbol_of[query["symbol"]]
        return Reply(
            [
                [
                    row.open_s * 1000,
                    *(self.price_text(symbol, price) for price in (row.open, row.high, row.low, row.close)),
                    f"{row.volume:.8f}",
                    (row.open_s + interval) * 1000 - 1,
                    f"{row.quote_volume:.8f}",
                    row.trades,
                    f"{row.volume / 2:.8f}",
                    f"{row.quote_volume / 2:.8f}",
                    "0",
                ]
                for row in candles
            ]
        )
