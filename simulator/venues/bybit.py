"""Bybit v5 spot: topics `publicTrade.*` and `orderbook.1.*`.

Source: bybit-exchange/docs, docs/v5/websocket. Trade prices keep their zeros, order-book prices drop them.
"""

from __future__ import annotations

from typing import Any, Final

from simulator.frames import HEADERS
from simulator.history import History
from simulator.limits import Limit
from simulator.market import Market, Quotes, Trades
from simulator.universe import QUOTE, Universe
from simulator.venues.base import (
    NOT_FOUND,
    TOO_MANY,
    Peer,
    Put,
    Reply,
    Request,
    Routes,
    Venue,
    compact,
    interval_seconds,
    limited,
    number,
    plain,
    put_all,
    read_json,
    seconds,
)

_MS: Final = 1_000_000
_MOST_ARGS: Final = 10
_MOST_RECENT: Final = 60


class Bybit(Venue):
    """One ack a request, which names no topic; one bad topic refuses the whole request."""

    NAME = "bybit"
    PATH = "/v5/public/spot"
    CHANNELS = ("publicTrade", "orderbook.1")
    PING = '"ping"'
    LIMITS = (Limit(600, 5.0),)
    OVER_STATUS = 403
    STRIP_PRICES = False

    def __init__(self, universe: Universe, market: Market, history: History) -> None:
        super().__init__(universe, market, history)
        self.book_prices = self._price_texts(strip=True)

    def native_of(self, base: str) -> str:
        """`BTC` -> `BTCUSDT`."""
        return f"{base}{QUOTE}"

    def trades(self, rows: Trades, routes: Routes) -> int:
        """`publicTrade`: the fills of one sweep share a frame."""
        route, names, prices, sizes = routes["publicTrade"], self.native, self.prices, self.sizes
        put_rows, key = 0, (-1, -1)
        sweep: list[str] = []
        begin: tuple[str, list[Put]] = ("", [])
        columns = (
            rows.symbol,
            rows.price,
            rows.size,
            rows.side,
            rows.trade_id,
            rows.sequence,
            rows.stamp_ns,
            rows.send_ns,
        )
        for symbol, price, size, side, trade_id, sequence, stamp_ns, send_ns in zip(*columns, strict=True):
            puts = route[symbol]
            if not puts:
                continue
            name = names[symbol]
            if key != (symbol, sequence):
                _put_sweep(begin, sweep)
                key, sweep = (symbol, sequence), []
                ms = (send_ns + self.skew_ns) // _MS
                begin = (f'{{"topic":"publicTrade.{name}","ts":{ms},"type":"snapshot","data":[', puts)
            sweep.append(
                f'{{"i":"{trade_id}","T":{stamp_ns // _MS},"p":"{prices[symbol][price]}","v":"{sizes[symbol][size]}",'
                f'"S":"{"Buy" if side > 0 else "Sell"}","seq":1{sequence},"s":"{name}","BT":false,"RPI":false}}'
            )
            put_rows += len(puts)
        _put_sweep(begin, sweep)
        return put_rows

    def quotes(self, rows: Quotes, routes: Routes) -> None:
        """`orderbook.1`: snapshots only; `u` rises, `cts` is the matching time."""
        route, names, prices, sizes = routes["orderbook.1"], self.native, self.book_prices, self.sizes
        skew_ns = self.skew_ns
        columns = (
            rows.symbol, rows.bid, rows.bid_size, rows.ask, rows.ask_size, rows.sequence, rows.stamp_ns, rows.send_ns,
        )  # fmt: skip
        for symbol, bid, bid_size, ask, ask_size, sequence, stamp_ns, send_ns in zip(*columns, strict=True):
            puts = route[symbol]
            if not puts:
                continue
            name, price, size = names[symbol], prices[symbol], sizes[symbol]
            text = (
                f'{{"topic":"orderbook.1.{name}","ts":{(send_ns + skew_ns) // _MS},"type":"snapshot","data":{{'
                f'"s":"{name}","b":[["{price[bid]}","{size[bid_size]}"]],"a":[["{price[ask]}","{size[ask_size]}"]],'
                f'"u":{sequence},"seq":1{sequence}}},"cts":{stamp_ns // _MS}}}'
            )
            text = HEADERS[len(text)] + text
            for put in puts:
                put(text)

    def received(self, peer: Peer, text: str, now_ns: int) -> None:
        """Ping, subscribe and unsubscribe."""
        message = read_json(text)
        message = message if isinstance(message, dict) else {}
        op, args = message.get("op"), message.get("args") or []
        if op == "ping":
            self._answer(peer, message, "pong", ok=True)
        elif op not in ("subscribe", "unsubscribe"):
            self._answer(peer, message, f"error:handler not found,topic:{op}", ok=False)
        elif len(args) > _MOST_ARGS:
            self._answer(peer, message, f"args size >{_MOST_ARGS}", ok=False)
        else:
            self._topics(peer, message, [str(arg) for arg in args], now_ns)

    def _topics(self, peer: Peer, message: dict[str, Any], args: list[str], now_ns: int) -> None:
        topics = []
        for arg in args:
            channel, _, name = arg.rpartition(".")
            symbol = self.symbol_of.get(name)
            if symbol is None or channel not in self.CHANNELS:
                self._answer(peer, message, f"Invalid symbol :[{arg}]", ok=False)
                return
            topics.append((channel, symbol))
        self._answer(peer, message, str(message["op"]), ok=True)
        for channel, symbol in topics:
            if message["op"] == "unsubscribe":
                self.unsubscribe(peer, channel, symbol)
            elif self.subscribe(peer, channel, symbol) and channel == "orderbook.1":
                self.push_quote(peer, channel, symbol, now_ns)

    def _answer(self, peer: Peer, message: dict[str, Any], words: str, *, ok: bool) -> None:
        op = str(message.get("op", ""))
        reply: dict[str, Any] = {"success": ok, "ret_msg": words, "conn_id": peer.tag}
        if "req_id" in message:
            reply["req_id"] = message["req_id"]
        peer.send(compact({**reply, "op": op}))

    def refusal(self, status: int) -> Any:
        """In the usual envelope."""
        words = {403: "access too frequent", 429: "Too many visits!"}.get(status, "Service unavailable")
        return {"retCode": 10006 if status == TOO_MANY else status, "retMsg": words, "result": {}, "retExtInfo": {}}

    def rest(self, request: Request, now_ns: int) -> Reply:
        """Instruments, tickers, klines, trades, time."""
        if request.path == "/v5/market/time":
            ns = self.stamp(now_ns)
            return self._ok({"timeSecond": str(ns // 1_000_000_000), "timeNano": str(ns)}, now_ns)
        if request.path == "/v5/market/instruments-info":
            rows = [self._instrument(symbol, name) for name, symbol in self.symbol_of.items()]
            return self._ok({"category": "spot", "list": rows}, now_ns)
        if request.path == "/v5/market/tickers":
            return self._ok({"category": "spot", "list": [self._ticker(*row) for row in self.listed()]}, now_ns)
        if request.path == "/v5/market/kline":
            return self._klines(request.query, now_ns)
        if request.path == "/v5/market/recent-trade":
            return self._recent(request.query, now_ns)
        return NOT_FOUND

    def _recent(self, query: dict[str, str], now_ns: int) -> Reply:
        """The newest fills, newest first; no paging."""
        name = query.get("symbol", "")
        rows = self.fills_of(name)
        if rows is None or query.get("category") != "spot":
            words = "Not supported symbols" if rows is None else "params error: category invalid"
            stamp = self.stamp(now_ns) // _MS
            return Reply({"retCode": 10001, "retMsg": words, "result": {}, "retExtInfo": {}, "time": stamp})
        symbol, limit = self.symbol_of[name], limited(query.get("limit"), _MOST_RECENT, _MOST_RECENT)
        found = [
            {
                "execId": str(trade_id),
                "symbol": name,
                "price": self.prices[symbol][price],
                "size": self.size_text(symbol, units),
                "side": "Buy" if side > 0 else "Sell",
                "time": str(stamp_ns // _MS),
                "isBlockTrade": False,
                "isRPITrade": False,
                "seq": f"1{sequence}",
            }
            for trade_id, stamp_ns, price, units, side, sequence in rows[-limit:][::-1].tolist()
        ]
        return self._ok({"category": "spot", "list": found}, now_ns)

    def _ok(self, result: dict[str, Any], now_ns: int) -> Reply:
        stamp = self.stamp(now_ns) // _MS
        return Reply({"retCode": 0, "retMsg": "OK", "result": result, "retExtInfo": {}, "time": stamp})

    def _instrument(self, symbol: int, name: str) -> dict[str, Any]:
        lot = plain(10.0 ** -int(self.universe.size_decimals[symbol]))
        return {
            "symbol": name,
            "baseCoin": self.universe.bases[symbol],
            "quoteCoin": QUOTE,
            "innovation": "0",
            "status": "Closed" if symbol in self.halted else "Trading",
            "marginTrading": "utaOnly",
            "stTag": "0",
            "lotSizeFilter": {"basePrecision": lot, "quotePrecision": "0.0000001", "minOrderQty": lot},
            "priceFilter": {"tickSize": plain(10.0 ** -self.prices[symbol].decimals, 12)},
            "riskParameters": {"priceLimitRatioX": "0.01", "priceLimitRatioY": "0.02"},
        }

    def _ticker(self, symbol: int, name: str, mid: float, turnover: float) -> dict[str, Any]:
        price = self.price_text(symbol, mid)
        return {
            "symbol": name,
            "bid1Price": price,
            "bid1Size": self.sizes[symbol][0],
            "ask1Price": price,
            "ask1Size": self.sizes[symbol][1],
            "lastPrice": price,
            "prevPrice24h": self.price_text(symbol, mid * 0.99),
            "price24hPcnt": "0.0101",
            "highPrice24h": self.price_text(symbol, mid * 1.02),
            "lowPrice24h": self.price_text(symbol, mid * 0.98),
            "turnover24h": plain(turnover),
            "volume24h": plain(turnover / mid),
        }

    def _klines(self, query: dict[str, str], now_ns: int) -> Reply:
        text = query.get("interval", "")
        name, interval = query.get("symbol", ""), interval_seconds("1D" if text == "D" else text)
        if interval is None or name not in self.symbol_of:
            stamp = self.stamp(now_ns) // _MS
            words = "Invalid period!" if interval is None else "Not supported symbols"
            return Reply({"retCode": 10001, "retMsg": words, "result": {}, "retExtInfo": {}, "time": stamp})
        end = number(query.get("end"))
        limit = min(number(query.get("limit")) or 200, 1000)
        start, end_s = seconds(query.get("start")), None if end is None else end // 1000
        candles = self.candles(name, interval, start, end_s, limit, now_ns) or []
        symbol = self.symbol_of[name]
        rows = [
            [
                str(row.open_s * 1000),
                *(self.price_text(symbol, price) for price in (row.open, row.high, row.low, row.close)),
                plain(row.volume),
                plain(row.quote_volume),
            ]
            for row in reversed(candles)
        ]
        return self._ok({"category": "spot", "symbol": name, "list": rows}, now_ns)


def _put_sweep(begin: tuple[str, list[Put]], sweep: list[str]) -> None:
    if sweep:
        put_all(begin[1], f"{begin[0]}{','.join(sweep)}]}}")
