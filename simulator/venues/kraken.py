"""Kraken spot v2: channels `trade` and `ticker`.

Source: docs.kraken.com, spot WebSocket v2. Numbers are JSON numbers with the pair's fixed decimals. The socket says
BTC and DOGE where REST says XBT and XDG.
"""

from __future__ import annotations

from collections import deque
from datetime import UTC, datetime
from typing import Any, Final

import numpy as np

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
    Put,
    Reply,
    Request,
    Routes,
    Venue,
    compact,
    limited,
    number,
    plain,
    put_all,
    read_json,
)

_REST_NAMES: Final = {"BTC": "XBT", "DOGE": "XDG"}
_REST_ASSETS: Final = {"BTC": "XXBT", "DOGE": "XXDG", "ETH": "XETH", "LTC": "XLTC", "XRP": "XXRP", "XLM": "XXLM"}
_OHLC_ROWS: Final = 720


class Kraken(Venue):
    """One ack a symbol, a status frame first, heartbeats when idle."""

    NAME = "kraken"
    PATH = "/v2"
    CHANNELS = ("trade", "ticker")
    PING = '"ping"'
    LIMITS = (Limit(15, 15.0, {"/0/public/Trades": 1, "/0/public/OHLC": 1}, other=0, by_path=True, by="pair"),)
    STRIP_PRICES = False
    STRIP_SIZES = False

    def __init__(self, universe: Universe, market: Market, history: History) -> None:
        super().__init__(universe, market, history)
        self._times = _Iso()
        self._recent: list[deque[str]] = [deque(maxlen=OLD_TRADES) for _ in self.native]
        self._last = [""] * len(self.native)
        self._day = [""] * len(self.native)
        for symbol, _, mid, turnover in self.listed():
            self._last[symbol] = self.price_text(symbol, mid)
            self._day[symbol] = self._day_text(symbol, mid, turnover)
            old = market.old_trades(self.listing[symbol], OLD_TRADES)
            self._recent[symbol].extend(self._row(*row) for row in zip(*_columns(old), strict=True))

    def native_of(self, base: str) -> str:
        """`BTC` -> `BTC/USDT`."""
        return f"{base}/{QUOTE}"

    def _row(self, symbol: int, price: int, size: int, side: int, trade_id: int, stamp_ns: int) -> str:
        return (
            f'{{"symbol":"{self.native[symbol]}","side":"{"buy" if side > 0 else "sell"}",'
            f'"price":{self.prices[symbol][price]},"qty":{self.sizes[symbol][size]},'
            f'"ord_type":"{"market" if size & 3 else "limit"}","trade_id":{trade_id},'
            f'"timestamp":"{self._times.text(stamp_ns)}"}}'
        )

    def trades(self, rows: Trades, routes: Routes) -> int:
        """`trade`: the fills of one sweep share a frame, oldest first. Remembers the newest for snapshots."""
        route, recent, last, make_row = routes["trade"], self._recent, self._last, self._row
        put_rows, remembers = 0, self.remembers
        sweep: list[str] = []
        key = (-1, -1)
        for fields, sequence in zip(zip(*_columns(rows), strict=True), rows.sequence, strict=True):
            symbol = fields[0]
            text = make_row(*fields)
            if remembers:
                recent[symbol].append(text)
            last[symbol] = self.prices[symbol][fields[1]]
            if key != (symbol, sequence):
                _put_sweep(route, key[0], sweep)
                key, sweep = (symbol, sequence), []
            sweep.append(text)
            put_rows += len(route[symbol])
        _put_sweep(route, key[0], sweep)
        return put_rows

    def quotes(self, rows: Quotes, routes: Routes, kind: str = "update") -> None:
        """`ticker` with the trigger `bbo`."""
        route, names, prices, sizes = routes["ticker"], self.native, self.prices, self.sizes
        last, day, time_text = self._last, self._day, self._times.text
        columns = (rows.symbol, rows.bid, rows.bid_size, rows.ask, rows.ask_size, rows.stamp_ns)
        for symbol, bid, bid_size, ask, ask_size, stamp_ns in zip(*columns, strict=True):
            puts = route[symbol]
            if not puts:
                continue
            price, size = prices[symbol], sizes[symbol]
            text = (
                f'{{"channel":"ticker","type":"{kind}","data":[{{"symbol":"{names[symbol]}","bid":{price[bid]},'
                f'"bid_qty":{size[bid_size]},"ask":{price[ask]},"ask_qty":{size[ask_size]},"last":{last[symbol]},'
                f'{day[symbol]},"timestamp":"{time_text(stamp_ns)}"}}]}}'
            )
            text = HEADERS[len(text)] + text
            for put in puts:
                put(text)

    def _day_text(self, symbol: int, mid: float, turnover: float) -> str:
        price = self.price_text
        return (
            f'"volume":{turnover / mid:.8f},"vwap":{price(symbol, mid)},"low":{price(symbol, mid * 0.98)},'
            f'"high":{price(symbol, mid * 1.02)},"change":{price(symbol, mid * 0.01)},"change_pct":1.01,'
            f'"trades":{int(turnover // 300) + 1}'
        )

    def opened(self, peer: Peer, query: dict[str, str], now_ns: int) -> None:
        """The status frame comes unasked."""
        status = {
            "version": "2.0.10",
            "system": "online",
            "api_version": "v2",
            "connection_id": int(peer.tag[:16], 16) | 1 << 63,
            "upcoming_maintenance": [],
            "emergency": [],
        }
        peer.send(compact({"channel": "status", "type": "update", "data": [status]}))

    def beat(self, peer: Peer, idle_s: float, age_s: int, now_ns: int) -> None:
        """A heartbeat when subscribed and nothing else was sent for about a second."""
        if peer.topics and idle_s >= 0.9:
            peer.send('{"channel":"heartbeat"}')

    def received(self, peer: Peer, text: str, now_ns: int) -> None:
        """Ping, subscribe and unsubscribe."""
        message = read_json(text)
        method = message.get("method") if isinstance(message, dict) else None
        if method == "ping":
            peer.send(compact(self._reply(message, {"method": "pong"}, now_ns)))
        elif method in ("subscribe", "unsubscribe") and isinstance(message.get("params"), dict):
            names = message["params"].get("symbol")
            for name in names if isinstance(names, list) else [names]:
                self._subscription(peer, message, str(name), now_ns)
        else:
            error = {"error": "Unsupported method" if method else "Malformed request", "method": method or ""}
            peer.send(compact(self._reply(message, {**error, "success": False}, now_ns)))

    def _subscription(self, peer: Peer, message: dict[str, Any], name: str, now_ns: int) -> None:
        params, method = message["params"], message["method"]
        channel, symbol = str(params.get("channel")), self.symbol_of.get(name)
        wanted = bool(params.get("snapshot", channel == "ticker"))
        problem = ""
        if channel not in self.CHANNELS:
            problem = "Unsupported channel"
        elif symbol is None:
            problem = f"Currency pair not supported {name}"
        elif method == "subscribe" and (channel, symbol) in peer.topics:
            problem = "Already subscribed"
        elif method == "unsubscribe" and (channel, symbol) not in peer.topics:
            problem = "Subscription Not Found"
        if problem or symbol is None:
            refusal = {"error": problem, "method": method, "success": False, "symbol": name}
            peer.send(compact(self._reply(message, refusal, now_ns)))
            return
        result = {"channel": channel, "snapshot": wanted, "symbol": name}
        if channel == "ticker":
            result = {"channel": channel, "event_trigger": params.get("event_trigger", "trades"), **result}
        peer.send(compact(self._reply(message, {"method": method, "result": result, "success": True}, now_ns)))
        if method == "unsubscribe":
            self.unsubscribe(peer, channel, symbol)
            return
        if wanted:
            self._snapshot(peer, channel, symbol, now_ns)
        self.subscribe(peer, channel, symbol)

    def _snapshot(self, peer: Peer, channel: str, symbol: int, now_ns: int) -> None:
        if channel == "trade":
            put_all([peer.put], f'{{"channel":"trade","type":"snapshot","data":[{",".join(self._recent[symbol])}]}}')
            return
        routes = self.empty_routes()
        routes[channel][symbol].append(peer.put)
        self.quotes(self.market.present_quote(self.listing[symbol], now_ns), routes, "snapshot")

    def _reply(self, message: Any, reply: dict[str, Any], now_ns: int) -> dict[str, Any]:
        if isinstance(message, dict) and "req_id" in message:
            method = reply.pop("method")
            reply = {"method": method, "req_id": message["req_id"], **reply}
        now = self.stamp(now_ns)
        return {**reply, "time_in": self._times.text(now), "time_out": self._times.text(now + 30_000)}

    def refusal(self, status: int) -> Any:
        """In the usual envelope."""
        return {"error": ["EAPI:Rate limit exceeded" if status == TOO_MANY else "EService:Unavailable"]}

    def rest(self, request: Request, now_ns: int) -> Reply:
        """AssetPairs, Ticker, OHLC, Trades, Time."""
        if request.path == "/0/public/Time":
            return _ok({"unixtime": self.stamp(now_ns) // 1_000_000_000})
        if request.path == "/0/public/AssetPairs":
            return _ok({_rest_key(self.universe.bases[s]): self._pair(s) for s in self.listing})
        if request.path == "/0/public/Ticker":
            return _ok({_rest_key(self.universe.bases[row[0]]): self._ticker(*row) for row in self.listed()})
        if request.path == "/0/public/OHLC":
            return self._ohlc(request.query, now_ns)
        if request.path == "/0/public/Trades":
            return self._trades_page(request.query)
        return NOT_FOUND

    def _asked(self, query: dict[str, str]) -> int | None:
        """Return the symbol of a `pair`, in the REST or the socket's spelling."""
        asked = query.get("pair", "")
        keys = {_rest_key(self.universe.bases[s]): s for s in self.listing}
        return keys.get(asked.replace("/", ""), self.symbol_of.get(asked))

    def _trades_page(self, query: dict[str, str]) -> Reply:
        """Trades after a time in ns, oldest first; without one, the newest. A page ends where a time ends."""
        symbol = self._asked(query)
        if symbol is None:
            return Reply({"error": ["EQuery:Unknown asset pair"]})
        count, since = limited(query.get("count"), 1000, 1000), number(query.get("since"))
        rows = self.fills_of(self.native[symbol])
        assert rows is not None
        if since is None:
            rows = rows[-count:]
        else:  # the cursor is a time, so rows of one time must not be torn apart
            rows = rows[rows["stamp_ns"] > since]
            if len(rows) > count:
                torn = np.flatnonzero(rows["stamp_ns"] == rows["stamp_ns"][count])
                rows = rows[: torn[0] or torn[-1] + 1]
        found = [
            [
                self.prices[symbol][price],
                f"{float(self.size_text(symbol, units)):.8f}",
                stamp_ns / 1e9,
                "b" if side > 0 else "s",
                "m" if units & 1 else "l",
                "",
                trade_id,
            ]
            for trade_id, stamp_ns, price, units, side, _ in rows.tolist()
        ]
        last_ns = int(rows["stamp_ns"][-1]) if len(rows) else since or 0
        return _ok({_rest_key(self.universe.bases[symbol]): found, "last": str(last_ns)})

    def _pair(self, symbol: int) -> dict[str, Any]:
        base = self.universe.bases[symbol]
        return {
            "altname": f"{_REST_NAMES.get(base, base)}{QUOTE}",
            "wsname": f"{_REST_NAMES.get(base, base)}/{QUOTE}",
            "aclass_base": "currency",
            "base": _REST_ASSETS.get(base, base),
            "aclass_quote": "currency",
            "quote": QUOTE,
            "lot": "unit",
            "cost_decimals": 5,
            "pair_decimals": self.prices[symbol].decimals,
            "lot_decimals": int(self.universe.size_decimals[symbol]),
            "lot_multiplier": 1,
            "leverage_buy": [2, 3],
            "leverage_sell": [2, 3],
            "fees": [[0, 0.4], [10000, 0.35]],
            "fee_volume_currency": "ZUSD",
            "margin_call": 80,
            "margin_stop": 40,
            "ordermin": self.sizes[symbol][0],
            "costmin": "0.5",
            "tick_size": plain(10.0 ** -self.prices[symbol].decimals, 12),
            "status": "cancel_only" if symbol in self.halted else "online",
        }

    def _ticker(self, symbol: int, name: str, mid: float, turnover: float) -> dict[str, Any]:
        price, volume = self.price_text(symbol, mid), f"{turnover / mid:.8f}"
        high, low = self.price_text(symbol, mid * 1.02), self.price_text(symbol, mid * 0.98)
        trades = int(turnover // 300) + 1
        return {
            "a": [price, "1", "1.000"],
            "b": [price, "1", "1.000"],
            "c": [price, self.sizes[symbol][0]],
            "v": [volume, volume],
            "p": [price, price],
            "t": [trades, trades],
            "l": [low, low],
            "h": [high, high],
            "o": self.price_text(symbol, mid * 0.99),
        }

    def _ohlc(self, query: dict[str, str], now_ns: int) -> Reply:
        symbol = self._asked(query)
        if symbol is None:
            return Reply({"error": ["EQuery:Unknown asset pair"]})
        interval = (number(query.get("interval")) or 1) * 60
        since = number(query.get("since")) or 0
        newest = self.candles(self.native[symbol], interval, None, None, _OHLC_ROWS, now_ns) or []
        rows = [
            [
                row.open_s,
                *(self.price_text(symbol, price) for price in (row.open, row.high, row.low, row.close)),
                self.price_text(symbol, row.quote_volume / row.volume if row.volume else row.close),
                f"{row.volume:.8f}",
                row.trades,
            ]
            for row in newest
            if row.open_s > since
        ]
        last = newest[-2].open_s if len(newest) > 1 else 0
        return _ok({_rest_key(self.universe.bases[symbol]): rows, "last": last})


class _Iso:
    """RFC 3339 text with 6 decimals; the text of the last second is kept, as most rows share it."""

    def __init__(self) -> None:
        self._second = -1
        self._prefix = ""

    def text(self, ns: int) -> str:
        second, rest = divmod(ns, 1_000_000_000)
        if second != self._second:
            self._second = second
            self._prefix = datetime.fromtimestamp(second, UTC).strftime("%Y-%m-%dT%H:%M:%S.")
        return f"{self._prefix}{rest // 1000:06d}Z"


def _columns(rows: Trades) -> tuple[list[int], ...]:
    return rows.symbol, rows.price, rows.size, rows.side, rows.trade_id, rows.stamp_ns


def _put_sweep(route: list[list[Put]], symbol: int, sweep: list[str]) -> None:
    if sweep and route[symbol]:
        put_all(route[symbol], f'{{"channel":"trade","type":"update","data":[{",".join(sweep)}]}}')


def _rest_key(base: str) -> str:
    return f"{_REST_NAMES.get(base, base)}{QUOTE}"


def _ok(result: dict[str, Any]) -> Reply:
    return Reply({"error": [], "result": result})
