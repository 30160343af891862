"""OKX spot: channels `trades` and `bbo-tbt` on the public socket.

Source: OKX API v5 documentation. Numbers are strings without trailing zeros; fills of one order leave as one trade.
"""

from __future__ import annotations

from typing import Any, Final

from simulator.frames import HEADERS
from simulator.limits import Limit
from simulator.market import Quotes, Trades
from simulator.universe import QUOTE
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
    limited,
    number,
    plain,
    read_json,
)

_MS: Final = 1_000_000


class Okx(Venue):
    """Acks each arg by itself; a refusal names the arg only in its words."""

    NAME = "okx"
    PATH = "/ws/v5/public"
    CHANNELS = ("trades", "bbo-tbt")
    PING = "ping"
    LIMITS = (
        Limit(100, 2.0, {"/api/v5/market/trades": 1}, other=0),
        Limit(20, 2.0, {"/api/v5/market/history-trades": 1}, other=0),
        Limit(40, 2.0, {"/api/v5/market/candles": 1}, other=0),
        Limit(20, 2.0, {"/api/v5/market/history-candles": 1}, other=0),
    )

    def native_of(self, base: str) -> str:
        """`BTC` -> `BTC-USDT`."""
        return f"{base}-{QUOTE}"

    def trades(self, rows: Trades, routes: Routes) -> int:
        """`trades`: one row a frame, `count` fills ending in `tradeId`."""
        route, names, prices, sizes = routes["trades"], self.native, self.prices, self.sizes
        put_rows = 0
        columns = (
            rows.symbol,
            rows.price,
            rows.size,
            rows.side,
            rows.trade_id,
            rows.fills,
            rows.sequence,
            rows.stamp_ns,
        )
        for symbol, price, size, side, trade_id, fills, sequence, stamp_ns in zip(*columns, strict=True):
            puts = route[symbol]
            if not puts:
                continue
            name = names[symbol]
            text = (
                f'{{"arg":{{"channel":"trades","instId":"{name}"}},"data":[{{"instId":"{name}","tradeId":"{trade_id}",'
                f'"px":"{prices[symbol][price]}","sz":"{sizes[symbol][size]}","side":"{"buy" if side > 0 else "sell"}",'
                f'"ts":"{stamp_ns // _MS}","count":"{fills}","source":"0","seqId":{sequence}}}]}}'
            )
            text = HEADERS[len(text)] + text
            for put in puts:
                put(text)
            put_rows += len(puts)
        return put_rows

    def quotes(self, rows: Quotes, routes: Routes) -> None:
        """`bbo-tbt`: one level a side, times on a grid of 10 ms."""
        route, names, prices, sizes = routes["bbo-tbt"], self.native, self.prices, self.sizes
        columns = (rows.symbol, rows.bid, rows.bid_size, rows.ask, rows.ask_size, rows.sequence, rows.stamp_ns)
        for symbol, bid, bid_size, ask, ask_size, sequence, stamp_ns in zip(*columns, strict=True):
            puts = route[symbol]
            if not puts:
                continue
            price, size = prices[symbol], sizes[symbol]
            text = (
                f'{{"arg":{{"channel":"bbo-tbt","instId":"{names[symbol]}"}},"data":[{{'
                f'"asks":[["{price[ask]}","{size[ask_size]}","0","{1 + (ask_size & 31)}"]],'
                f'"bids":[["{price[bid]}","{size[bid_size]}","0","{1 + (bid_size & 31)}"]],'
                f'"ts":"{stamp_ns // 10_000_000}0","seqId":{sequence}}}]}}'
            )
            text = HEADERS[len(text)] + text
            for put in puts:
                put(text)

    def received(self, peer: Peer, text: str, now_ns: int) -> None:
        """`ping`, subscribe and unsubscribe."""
        if text == "ping":
            peer.send("pong")
            return
        message = read_json(text)
        if not isinstance(message, dict) or message.get("op") not in ("subscribe", "unsubscribe"):
            self._error(peer, message, "60012", f"Invalid request: {text[:200]}")
            return
        for arg in message.get("args") or []:
            self._argument(peer, message, arg, now_ns)

    def _argument(self, peer: Peer, message: dict[str, Any], arg: Any, now_ns: int) -> None:
        arg = arg if isinstance(arg, dict) else {}
        channel, name = str(arg.get("channel")), str(arg.get("instId"))
        symbol = self.symbol_of.get(name)
        if symbol is None or channel not in self.CHANNELS:
            words = (
                f"Wrong URL or channel:{channel},instId:{name} doesn't exist. Please use the correct URL, channel and"
                " parameters referring to API document."
            )
            self._error(peer, message, "60018", words)
            return
        ack = {"event": message["op"], "arg": {"channel": channel, "instId": name}, "connId": peer.tag[:8]}
        peer.send(compact(_echo(message, ack)))
        if message["op"] == "unsubscribe":
            self.unsubscribe(peer, channel, symbol)
        elif self.subscribe(peer, channel, symbol) and channel == "bbo-tbt":
            self.push_quote(peer, channel, symbol, now_ns)

    def _error(self, peer: Peer, message: Any, code: str, words: str) -> None:
        error = {"event": "error", "msg": words, "code": code, "connId": peer.tag[:8]}
        peer.send(compact(_echo(message if isinstance(message, dict) else {}, error)))

    def beat(self, peer: Peer, idle_s: float, age_s: int, now_ns: int) -> None:
        """A socket on which nothing was pushed for 30 s is closed."""
        if idle_s > 30:
            peer.close(4004, "No data received in 30s.")

    def closing_notice(self, peer: Peer, now_ns: int) -> str:
        """Code 64008, sent about 30 s before a service upgrade closes the socket."""
        words = "The connection will soon be closed for a service upgrade. Please reconnect."
        return compact({"event": "notice", "code": "64008", "msg": words, "connId": peer.tag[:8]})

    def refusal(self, status: int) -> Any:
        """50011: too many; 50001: unavailable."""
        if status == TOO_MANY:
            return {"code": "50011", "msg": "Too Many Requests", "data": []}
        return {"code": "50001", "msg": "Service temporarily unavailable. Try again later", "data": []}

    def rest(self, request: Request, now_ns: int) -> Reply:
        """Instruments, tickers, candles, trades, time."""
        if request.path == "/api/v5/public/time":
            return _ok([{"ts": str(self.stamp(now_ns) // _MS)}])
        if request.path == "/api/v5/public/instruments":
            return _ok([self._instrument(symbol, name) for name, symbol in self.symbol_of.items()])
        if request.path == "/api/v5/market/tickers":
            return _ok([self._ticker(*row, now_ns) for row in self.listed()])
        if request.path in ("/api/v5/market/candles", "/api/v5/market/history-candles"):
            return self._candles(request.query, now_ns)
        if request.path == "/api/v5/market/trades":
            return self._fills(request.query, "", 500)
        if request.path == "/api/v5/market/history-trades":
            return self._fills(request.query, "stamp_ns" if request.query.get("type") == "2" else "trade_id", 100)
        return NOT_FOUND

    def _fills(self, query: dict[str, str], cursor: str, most: int) -> Reply:
        """Single fills, newest first: older than `after`, newer than `before`, which are trade ids or times in ms."""
        rows = self.fills_of(query.get("instId", ""))
        if rows is None:
            return Reply({"code": "51001", "msg": "Instrument ID doesn't exist.", "data": []})
        symbol, limit = self.symbol_of[query["instId"]], limited(query.get("limit"), 100, most)
        if cursor:
            place = rows["trade_id"] if cursor == "trade_id" else rows["stamp_ns"] // _MS
            after, before = number(query.get("after")), number(query.get("before"))
            rows = rows[
                (True if after is None else place < after) & (True if before is None else place > before) & (place > 0)
            ]
        return _ok(
            [
                {
                    "instId": query["instId"],
                    "side": "buy" if side > 0 else "sell",
                    "sz": self.size_text(symbol, units),
                    "source": "0",
                    "px": self.prices[symbol][price],
                    "tradeId": str(trade_id),
                    "ts": str(stamp_ns // _MS),
                }
                for trade_id, stamp_ns, price, units, side, _ in rows[-limit:][::-1].tolist()
            ]
        )

    def _instrument(self, symbol: int, name: str) -> dict[str, Any]:
        return {
            "instType": "SPOT",
            "instId": name,
            "instFamily": "",
            "uly": "",
            "baseCcy": self.universe.bases[symbol],
            "quoteCcy": QUOTE,
            "settleCcy": "",
            "ctVal": "",
            "ctMult": "",
            "listTime": "1548133413000",
            "expTime": "",
            "tickSz": plain(10.0 ** -self.prices[symbol].decimals, 12),
            "lotSz": plain(10.0 ** -int(self.universe.size_decimals[symbol])),
            "minSz": plain(10.0 ** -int(self.universe.size_decimals[symbol])),
            "state": "suspend" if symbol in self.halted else "live",
            "ruleType": "normal",
        }

    def _ticker(self, symbol: int, name: str, mid: float, turnover: float, now_ns: int) -> dict[str, Any]:
        price = self.price_text(symbol, mid)
        return {
            "instType": "SPOT",
            "instId": name,
            "last": price,
            "lastSz": self.sizes[symbol][0],
            "askPx": price,
            "askSz": self.sizes[symbol][1],
            "bidPx": price,
            "bidSz": self.sizes[symbol][2],
            "open24h": self.price_text(symbol, mid * 0.99),
            "high24h": self.price_text(symbol, mid * 1.02),
            "low24h": self.price_text(symbol, mid * 0.98),
            "volCcy24h": plain(turnover),
            "vol24h": plain(turnover / mid),
            "ts": str(self.stamp(now_ns) // _MS),
            "sodUtc0": price,
            "sodUtc8": price,
        }

    def _candles(self, query: dict[str, str], now_ns: int) -> Reply:
        interval = interval_seconds(query.get("bar", "1m").removesuffix("utc"))
        before, after = number(query.get("before")), number(query.get("after"))
        limit = min(number(query.get("limit")) or 100, 300)
        start = None if before is None else before // 1000 + 1
        end = None if after is None else -(-after // 1000) - 1
        if interval is None:
            return Reply({"code": "51000", "msg": "Parameter bar error", "data": []})
        if start is not None and end is not None:  # the newest of the range
            start = max(start, end - limit * interval + 1)
        candles = self.candles(query.get("instId", ""), interval, start, end, limit, now_ns)
        if candles is None:
            return Reply({"code": "51001", "msg": "Instrument ID doesn't exist.", "data": []})
        symbol, stamp_s = self.symbol_of[query["instId"]], self.stamp(now_ns) // 1_000_000_000
        return _ok(
            [
                [
                    str(row.open_s * 1000),
                    *(self.price_text(symbol, price) for price in (row.open, row.high, row.low, row.close)),
                    plain(row.volume),
                    plain(row.quote_volume),
                    plain(row.quote_volume),
                    "1" if row.open_s + interval <= stamp_s else "0",
                ]
                for row in reversed(candles)
            ]
        )


def _ok(data: list[Any]) -> Reply:
    return Reply({"code": "0", "msg": "", "data": data})


def _echo(message: dict[str, Any], reply: dict[str, Any]) -> dict[str, Any]:
    """Return the reply with the request's id in front, if it had one."""
    return {"id": message["id"], **reply} if "id" in message else reply
