"""Gate spot v4: channels `spot.trades` and `spot.book_ticker`.

Source: Gate spot WebSocket v4 documentation. Trade time is milliseconds with six decimals, as text; ids count one
market without gaps, and `range` covers all fills of the taker's order.
"""

from __future__ import annotations

import hashlib
from typing import Any, Final

from simulator.frames import HEADERS
from simulator.limits import Limit, Spent
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
_S: Final = 1_000_000_000
_MOST_OFFSET: Final = 100_000


class Gateio(Venue):
    """One ack a request; a request with a bad pair fails as a whole."""

    NAME = "gateio"
    PATH = "/ws/v4/"
    CHANNELS = ("spot.trades", "spot.book_ticker")
    PING = '"spot.ping"'
    LIMITS = (Limit(200, 10.0, by_path=True),)

    def native_of(self, base: str) -> str:
        """`BTC` -> `BTC_USDT`."""
        return f"{base}_{QUOTE}"

    def trades(self, rows: Trades, routes: Routes) -> int:
        """`spot.trades`: one object a frame."""
        route, names, prices, sizes, skew_ns = routes["spot.trades"], self.native, self.prices, self.sizes, self.skew_ns
        put_rows = 0
        columns = (
            rows.symbol, rows.price, rows.size, rows.side, rows.trade_id, rows.fills, rows.stamp_ns, rows.send_ns,
        )  # fmt: skip
        for symbol, price, size, side, trade_id, fills, stamp_ns, send_ns in zip(*columns, strict=True):
            puts = route[symbol]
            if not puts:
                continue
            sent = send_ns + skew_ns
            text = (
                f'{{"time":{sent // _S},"time_ms":{sent // _MS},"channel":"spot.trades","event":"update","result":{{'
                f'"id":{trade_id},"id_market":{trade_id},"create_time":{stamp_ns // _S},'
                f'"create_time_ms":"{stamp_ns // _MS}.{stamp_ns // 1000 % 1000:03d}000",'
                f'"side":"{"buy" if side > 0 else "sell"}","currency_pair":"{names[symbol]}",'
                f'"amount":"{sizes[symbol][size]}","price":"{prices[symbol][price]}",'
                f'"range":"{trade_id if fills == 1 else trade_id - fills + 1}-{trade_id}","trade_mode":0}}}}'
            )
            text = HEADERS[len(text)] + text
            for put in puts:
                put(text)
            put_rows += len(puts)
        return put_rows

    def quotes(self, rows: Quotes, routes: Routes) -> None:
        """`spot.book_ticker`."""
        route, names, prices, sizes = routes["spot.book_ticker"], self.native, self.prices, self.sizes
        skew_ns = self.skew_ns
        columns = (
            rows.symbol, rows.bid, rows.bid_size, rows.ask, rows.ask_size, rows.sequence, rows.stamp_ns, rows.send_ns,
        )  # fmt: skip
        for symbol, bid, bid_size, ask, ask_size, sequence, stamp_ns, send_ns in zip(*columns, strict=True):
            puts = route[symbol]
            if not puts:
                continue
            sent, price, size = send_ns + skew_ns, prices[symbol], sizes[symbol]
            text = (
                f'{{"time":{sent // _S},"time_ms":{sent // _MS},"channel":"spot.book_ticker","event":"update",'
                f'"result":{{"t":{stamp_ns // _MS},"u":{sequence},"s":"{names[symbol]}","b":"{price[bid]}",'
                f'"B":"{size[bid_size]}","a":"{price[ask]}","A":"{size[ask_size]}"}}}}'
            )
            text = HEADERS[len(text)] + text
            for put in puts:
                put(text)

    def received(self, peer: Peer, text: str, now_ns: int) -> None:
        """`spot.ping`, subscribe and unsubscribe."""
        message = read_json(text)
        if not isinstance(message, dict):
            peer.send(compact(self._failure(peer, {"channel": "", "event": ""}, 1, "Invalid request body", now_ns)))
            return
        channel, event, payload = message.get("channel"), message.get("event"), message.get("payload")
        if channel == "spot.ping":
            now = self.stamp(now_ns)
            pong = {"channel": "spot.pong", "event": "", "result": None}
            peer.send(compact({"time": now // _S, "time_ms": now // _MS, **pong}))
            return
        if channel not in self.CHANNELS or event not in ("subscribe", "unsubscribe") or not isinstance(payload, list):
            peer.send(compact(self._failure(peer, message, 2, f"unknown channel {channel}", now_ns)))
            return
        unknown = [str(name) for name in payload if str(name) not in self.symbol_of]
        if unknown:
            peer.send(compact(self._failure(peer, message, 2, f"unknown currency pair: {unknown[0]}", now_ns)))
            return
        peer.send(compact({**self._head(peer, message, now_ns), "result": {"status": "success"}, **_request_id(peer)}))
        for name in payload:
            if event == "unsubscribe":
                self.unsubscribe(peer, channel, self.symbol_of[name])
            else:
                self.subscribe(peer, channel, self.symbol_of[name])

    def _head(self, peer: Peer, message: dict[str, Any], now_ns: int) -> dict[str, Any]:
        now = self.stamp(now_ns)
        peer.options["requests"] = peer.options.get("requests", 0) + 1
        head: dict[str, Any] = {"time": now // _S, "time_ms": now // _MS}
        if "id" in message:
            head["id"] = message["id"]
        head |= {"conn_id": peer.tag[:16], "trace_id": _trace(peer)}
        head |= {key: message[key] for key in ("channel", "event", "payload") if key in message}
        return head

    def _failure(self, peer: Peer, message: dict[str, Any], code: int, words: str, now_ns: int) -> dict[str, Any]:
        error = {"error": {"code": code, "message": words}, "result": {"status": "fail"}}
        return {**self._head(peer, message, now_ns), **error, **_request_id(peer)}

    def refusal(self, status: int) -> Any:
        """A label and words."""
        if status == TOO_MANY:
            return {"label": "TOO_MANY_REQUESTS", "message": "Request Rate limit Exceeded"}
        return {"label": "SERVER_ERROR", "message": "Service unavailable"}

    def limit_headers(self, spent: list[Spent]) -> dict[str, str]:
        """What remains on this path, and until when."""
        window, name = spent[0], "X-Gate-RateLimit"
        return {
            f"{name}-Requests-Remain": str(max(0, window.limit.most - window.used)),
            f"{name}-Limit": str(window.limit.most),
            f"{name}-Reset-Timestamp": str(int(window.until_s)),
        }

    def rest(self, request: Request, now_ns: int) -> Reply:
        """Currency pairs, tickers, candlesticks, trades, time."""
        path = request.path.removeprefix("/api/v4")
        if path == "/spot/time":
            return Reply({"server_time": self.stamp(now_ns) // _MS})
        if path == "/spot/currency_pairs":
            return Reply([self._pair(symbol, name) for name, symbol in self.symbol_of.items()])
        if path == "/spot/tickers":
            return Reply([self._ticker(*row) for row in self.listed()])
        if path == "/spot/candlesticks":
            return self._candlesticks(request.query, now_ns)
        if path == "/spot/trades":
            return self._trades_page(request.query)
        return NOT_FOUND

    def _trades_page(self, query: dict[str, str]) -> Reply:
        """Single fills, newest first, of the seconds `from` to `to`; `sequence_id` counts one market."""
        rows = self.fills_of(query.get("currency_pair", ""))
        if rows is None:
            return Reply({"label": "INVALID_CURRENCY_PAIR", "message": "invalid currency_pair"}, 400)
        symbol, limit = self.symbol_of[query["currency_pair"]], limited(query.get("limit"), 100, 1000)
        page, start, end = max(1, number(query.get("page")) or 1), number(query.get("from")), number(query.get("to"))
        if limit * (page - 1) > _MOST_OFFSET:
            return Reply({"label": "INVALID_PARAM_VALUE", "message": "page too large"}, 400)
        at = rows["stamp_ns"] // _S
        rows = rows[(at >= (0 if start is None else start)) & (at <= (at if end is None else end))][::-1]
        return Reply(
            [
                {
                    "id": str(trade_id),
                    "create_time": str(stamp_ns // _S),
                    "create_time_ms": f"{stamp_ns // _MS}.{stamp_ns // 1000 % 1000:03d}000",
                    "currency_pair": query["currency_pair"],
                    "side": "buy" if side > 0 else "sell",
                    "amount": self.size_text(symbol, units),
                    "price": self.prices[symbol][price],
                    "sequence_id": str(trade_id),
                }
                for trade_id, stamp_ns, price, units, side, _ in rows[limit * (page - 1) :][:limit].tolist()
            ]
        )

    def _pair(self, symbol: int, name: str) -> dict[str, Any]:
        base = self.universe.bases[symbol]
        return {
            "id": name,
            "base": base,
            "base_name": base,
            "quote": QUOTE,
            "quote_name": "Tether",
            "fee": "0.2",
            "min_base_amount": plain(10.0 ** -int(self.universe.size_decimals[symbol])),
            "min_quote_amount": "3",
            "max_quote_amount": "5000000",
            "amount_precision": int(self.universe.size_decimals[symbol]),
            "precision": self.prices[symbol].decimals,
            "trade_status": "untradable" if symbol in self.halted else "tradable",
            "sell_start": 0,
            "buy_start": 0,
            "type": "normal",
        }

    def _ticker(self, symbol: int, name: str, mid: float, turnover: float) -> dict[str, Any]:
        price = self.price_text(symbol, mid)
        return {
            "currency_pair": name,
            "last": price,
            "lowest_ask": price,
            "lowest_size": self.sizes[symbol][0],
            "highest_bid": price,
            "highest_size": self.sizes[symbol][1],
            "change_percentage": "1.01",
            "base_volume": plain(turnover / mid),
            "quote_volume": plain(turnover),
            "high_24h": self.price_text(symbol, mid * 1.02),
            "low_24h": self.price_text(symbol, mid * 0.98),
        }

    def _candlesticks(self, query: dict[str, str], now_ns: int) -> Reply:
        interval = interval_seconds(query.get("interval", "30m"))
        start, end = number(query.get("from")), number(query.get("to"))
        limit = number(query.get("limit"))
        if interval is None or (limit is not None and (start is not None or end is not None)):
            return Reply({"label": "INVALID_PARAM_VALUE", "message": "invalid candlestick range"}, 400)
        most = min(limit or (1000 if start is not None else 100), 1000)
        candles = self.candles(query.get("currency_pair", ""), interval, start, end, most, now_ns)
        if candles is None:
            return Reply({"label": "INVALID_CURRENCY_PAIR", "message": "invalid currency_pair"}, 400)
        symbol, stamp_s = self.symbol_of[query["currency_pair"]], self.stamp(now_ns) // _S
        return Reply(
            [
                [
                    str(row.open_s),
                    plain(row.quote_volume),
                    *(self.price_text(symbol, price) for price in (row.close, row.high, row.low, row.open)),
                    plain(row.volume),
                    "true" if row.open_s + interval <= stamp_s else "false",
                ]
                for row in candles
            ]
        )


def _trace(peer: Peer) -> str:
    return hashlib.blake2b(f"{peer.tag}/{peer.options['requests']}".encode(), digest_size=16).hexdigest()


def _request_id(peer: Peer) -> dict[str, str]:
    return {"requestId": _trace(peer)}
