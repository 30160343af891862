"""Bitget v2 spot: channels `trade` and `books1`.

Source: Bitget v2 documentation. On subscription the newest old trades are replayed, newest first; so are the fills
of one update.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable
from typing import Any, Final

from simulator.frames import HEADERS
from simulator.history import History
from simulator.limits import Limit
from simulator.market import Market, Quotes, Trades
from simulator.universe import QUOTE, Universe
from simulator.venues.base import (
    NOT_FOUND,
    OLD_TRADES,
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
    put_all,
    read_json,
    seconds,
)

_MS: Final = 1_000_000
_HISTORY: Final = 40
_MOST_BYTES: Final = 4096
_MARKET: Final = "/api/v2/spot/market"
_WEEK_MS: Final = 7 * 86_400_000


class Bitget(Venue):
    """One ack an arg; wants the text `ping` at least every two minutes."""

    NAME = "bitget"
    PATH = "/v2/ws/public"
    CHANNELS = ("trade", "books1")
    IDLE_S = 130.0
    PING = "ping"
    LIMITS = (
        Limit(6000, 60.0),
        Limit(10, 1.0, {f"{_MARKET}/fills": 1, f"{_MARKET}/fills-history": 1}, other=0, by_path=True),
        Limit(20, 1.0, {f"{_MARKET}/candles": 1, f"{_MARKET}/history-candles": 1}, other=0, by_path=True),
        Limit(20, 1.0, {"/api/v2/spot/public/symbols": 1, f"{_MARKET}/tickers": 1}, other=0, by_path=True),
    )

    def __init__(self, universe: Universe, market: Market, history: History) -> None:
        super().__init__(universe, market, history)
        self._recent: list[deque[str]] = [deque(maxlen=_HISTORY) for _ in self.native]
        for symbol, listing in self.listing.items():
            old = market.old_trades(listing, OLD_TRADES)
            self._recent[symbol].extend(self._row(*row) for row in zip(*_columns(old), strict=True))

    def native_of(self, base: str) -> str:
        """`BTC` -> `BTCUSDT`."""
        return f"{base}{QUOTE}"

    def _row(self, symbol: int, price: int, size: int, side: int, trade_id: int, stamp_ns: int) -> str:
        return (
            f'{{"ts":"{stamp_ns // _MS}","price":"{self.prices[symbol][price]}","size":"{self.sizes[symbol][size]}",'
            f'"side":"{"buy" if side > 0 else "sell"}","tradeId":"{trade_id}"}}'
        )

    def trades(self, rows: Trades, routes: Routes) -> int:
        """`trade`: the fills of one sweep share a frame, newest first. Remembers the newest for replays."""
        route, recent, make_row, skew_ns = routes["trade"], self._recent, self._row, self.skew_ns
        put_rows, remembers = 0, self.remembers
        sweep: list[str] = []
        key = (-1, -1)
        ms = 0
        columns = zip(zip(*_columns(rows), strict=True), rows.sequence, rows.send_ns, strict=True)
        for fields, sequence, send_ns in columns:
            symbol = fields[0]
            text = make_row(*fields)
            if remembers:
                recent[symbol].append(text)
            if key != (symbol, sequence):
                if sweep:
                    self._put(routes, "update", key[0], sweep, ms)
                key, sweep, ms = (symbol, sequence), [], (send_ns + skew_ns) // _MS
            sweep.append(text)
            put_rows += len(route[symbol])
        if sweep:
            self._put(routes, "update", key[0], sweep, ms)
        return put_rows

    def _put(self, routes: Routes, action: str, symbol: int, rows: Iterable[str], ms: int) -> None:
        puts = routes["trade"][symbol]
        if puts:
            newest_first = ",".join(reversed(list(rows)))
            put_all(
                puts,
                f'{{"action":"{action}","arg":{{"instType":"SPOT","channel":"trade","instId":"{self.native[symbol]}"}},'
                f'"data":[{newest_first}],"ts":{ms}}}',
            )

    def quotes(self, rows: Quotes, routes: Routes) -> None:
        """`books1`: every push is a snapshot."""
        route, names, prices, sizes, skew_ns = routes["books1"], self.native, self.prices, self.sizes, self.skew_ns
        columns = (
            rows.symbol, rows.bid, rows.bid_size, rows.ask, rows.ask_size, rows.sequence, rows.stamp_ns, rows.send_ns,
        )  # fmt: skip
        for symbol, bid, bid_size, ask, ask_size, sequence, stamp_ns, send_ns in zip(*columns, strict=True):
            puts = route[symbol]
            if not puts:
                continue
            price, size = prices[symbol], sizes[symbol]
            text = (
                f'{{"action":"snapshot","arg":{{"instType":"SPOT","channel":"books1","instId":"{names[symbol]}"}},'
                f'"data":[{{"asks":[["{price[ask]}","{size[ask_size]}"]],"bids":[["{price[bid]}","{size[bid_size]}"]],'
                f'"seq":{sequence},"pseq":0,"ts":"{stamp_ns // _MS}"}}],"ts":{(send_ns + skew_ns) // _MS}}}'
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
        op = message.get("op") if isinstance(message, dict) else None
        if op not in ("subscribe", "unsubscribe"):
            peer.send(compact({"event": "error", "code": 30002, "msg": "Unrecognized request", "op": op or ""}))
            return
        if len(text) > _MOST_BYTES:
            peer.send(compact({"event": "error", "code": 30016, "msg": "Param error", "op": op}))
            return
        for arg in message.get("args") or []:
            self._argument(peer, op, arg if isinstance(arg, dict) else {}, now_ns)

    def _argument(self, peer: Peer, op: str, arg: dict[str, Any], now_ns: int) -> None:
        kind, channel, name = (str(arg.get(key)) for key in ("instType", "channel", "instId"))
        symbol = self.symbol_of.get(name)
        if symbol is None or channel not in self.CHANNELS or kind != "SPOT":
            words = f"instType:{kind},channel:{channel},instId:{name},precision:null doesn't exist"
            peer.send(compact({"event": "error", "arg": arg, "code": 30001, "msg": words, "op": op}))
            return
        peer.send(compact({"event": op, "arg": {"instType": kind, "channel": channel, "instId": name}}))
        if op == "unsubscribe":
            self.unsubscribe(peer, channel, symbol)
        elif self.subscribe(peer, channel, symbol):
            if channel == "books1":
                self.push_quote(peer, channel, symbol, now_ns)
            else:
                routes = self.empty_routes()
                routes["trade"][symbol].append(peer.put)
                self._put(routes, "snapshot", symbol, self._recent[symbol], self.stamp(now_ns) // _MS)

    def refusal(self, status: int) -> Any:
        """The status as text."""
        words = "Too Many Requests" if status == TOO_MANY else "Service unavailable"
        return {"code": str(status), "msg": words, "data": None}

    def rest(self, request: Request, now_ns: int) -> Reply:
        """Symbols, tickers, candles, trades, time."""
        if request.path == "/api/v2/public/time":
            return self._ok({"serverTime": str(self.stamp(now_ns) // _MS)}, now_ns)
        if request.path == "/api/v2/spot/public/symbols":
            return self._ok([self._instrument(symbol, name) for name, symbol in self.symbol_of.items()], now_ns)
        if request.path == "/api/v2/spot/market/tickers":
            return self._ok([self._ticker(*row, now_ns) for row in self.listed()], now_ns)
        if request.path in ("/api/v2/spot/market/candles", "/api/v2/spot/market/history-candles"):
            return self._candles(request.query, now_ns)
        if request.path == f"{_MARKET}/fills":
            return self._fills({key: request.query[key] for key in ("symbol", "limit") if key in request.query}, now_ns)
        if request.path == f"{_MARKET}/fills-history":
            return self._fills(request.query, now_ns, history=True)
        return NOT_FOUND

    def _fills(self, query: dict[str, str], now_ns: int, *, history: bool = False) -> Reply:
        """Fills, newest first; those of the history have whole seconds and sides in capitals."""
        rows = self.fills_of(query.get("symbol", ""))
        if rows is None:
            return self._failure("40034", f"Parameter {query.get('symbol', 'symbol')} does not exist", now_ns)
        start, end = number(query.get("startTime")) or 0, number(query.get("endTime")) or self.stamp(now_ns) // _MS
        if start and end - start > _WEEK_MS:
            return self._failure("40017", "startTime and endTime should be within 7 days", now_ns)
        older = number(query.get("idLessThan"))
        limit = limited(query.get("limit"), *((500, 1000) if history else (100, 500)))
        ms = rows["stamp_ns"] // _MS
        rows = rows[(ms >= start) & (ms <= end) & (rows["trade_id"] < (2**63 - 1 if older is None else older))]
        symbol, tick_ms, sides = self.symbol_of[query["symbol"]], 1000 if history else 1, ("buy", "sell")
        sides = ("Buy", "Sell") if history else sides
        return self._ok(
            [
                {
                    "symbol": query["symbol"],
                    "tradeId": str(trade_id),
                    "side": sides[side < 0],
                    "price": self.prices[symbol][price],
                    "size": self.size_text(symbol, units),
                    "ts": str(stamp_ns // _MS // tick_ms * tick_ms),
                }
                for trade_id, stamp_ns, price, units, side, _ in rows[-limit:][::-1].tolist()
            ],
            now_ns,
        )

    def _failure(self, code: str, words: str, now_ns: int) -> Reply:
        return Reply({"code": code, "msg": words, "requestTime": self.stamp(now_ns) // _MS, "data": None}, 400)

    def _ok(self, data: Any, now_ns: int) -> Reply:
        return Reply({"code": "00000", "msg": "success", "requestTime": self.stamp(now_ns) // _MS, "data": data})

    def _instrument(self, symbol: int, name: str) -> dict[str, Any]:
        return {
            "symbol": name,
            "baseCoin": self.universe.bases[symbol],
            "quoteCoin": QUOTE,
            "minTradeAmount": "0",
            "maxTradeAmount": "900000000000000000000",
            "takerFeeRate": "0.002",
            "makerFeeRate": "0.002",
            "pricePrecision": str(self.prices[symbol].decimals),
            "quantityPrecision": str(int(self.universe.size_decimals[symbol])),
            "quotePrecision": "8",
            "status": "halt" if symbol in self.halted else "online",
            "minTradeUSDT": "1",
            "areaSymbol": "no",
        }

    def _ticker(self, symbol: int, name: str, mid: float, turnover: float, now_ns: int) -> dict[str, Any]:
        price = self.price_text(symbol, mid)
        return {
            "open": self.price_text(symbol, mid * 0.99),
            "symbol": name,
            "high24h": self.price_text(symbol, mid * 1.02),
            "low24h": self.price_text(symbol, mid * 0.98),
            "lastPr": price,
            "quoteVolume": plain(turnover),
            "baseVolume": plain(turnover / mid),
            "usdtVolume": plain(turnover),
            "ts": str(self.stamp(now_ns) // _MS),
            "bidPr": price,
            "askPr": price,
            "bidSz": self.sizes[symbol][0],
            "askSz": self.sizes[symbol][1],
            "openUtc": price,
            "changeUtc24h": "0",
            "change24h": "0.0101",
        }

    def _candles(self, query: dict[str, str], now_ns: int) -> Reply:
        name, interval = query.get("symbol", ""), interval_seconds(query.get("granularity", ""))
        if interval is None or name not in self.symbol_of:
            return self._failure("40034", f"Parameter {name or 'granularity'} does not exist", now_ns)
        end = number(query.get("endTime"))
        limit = min(number(query.get("limit")) or 100, 1000)
        start, end_s = seconds(query.get("startTime")), None if end is None else end // 1000
        symbol = self.symbol_of[name]
        rows = [
            [
                str(row.open_s * 1000),
                *(self.price_text(symbol, price) for price in (row.open, row.high, row.low, row.close)),
                plain(row.volume),
                plain(row.quote_volume),
                plain(row.quote_volume),
            ]
            for row in self.candles(name, interval, start, end_s, limit, now_ns) or []
        ]
        return self._ok(rows, now_ns)


def _columns(rows: Trades) -> tuple[list[int], ...]:
    return rows.symbol, rows.price, rows.size, rows.side, rows.trade_id, rows.stamp_ns
