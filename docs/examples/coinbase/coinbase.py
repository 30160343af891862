"""Coinbase Exchange spot: public trades and best bid and offer.

Source: docs.cdp.coinbase.com, Exchange WebSocket (overview, channels, rate limits, errors) and REST (products), read
2026-11-22; frames in tests/captures/coinbase.

| question | answer | evidence |
|---|---|---|
| trades | `matches`: a frame a trade; the first after subscribing is `last_match`, history | page and payload |
| quotes | `ticker`: the best levels at each match, cascades batched; nothing says what "none" looks like | page |
| side | of `match`, the maker's: `sell` is an up-tick | page; a ticker has the taker's, the opposite |
| trade id | a number, rising in each product | page, `last_trade_id` |
| stamps | microseconds UTC, of the match; a ticker repeats that of its match | payloads of one match |
| numbers | strings | payload |
| limits | 8 requests a second; nothing on topics | page |
| heartbeat | nobody pings; a `heartbeat` channel can be had | page |
| errors | `error` with `message`, for a refused product `reason` | page and payload |
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from math import nan

import msgspec

from connectors import listing, rows
from connectors.times import from_rfc3339
from connectors.topics import by_channel
from connectors.venue import (
    Catalog,
    Control,
    Decoded,
    Heartbeat,
    Hole,
    Instrument,
    Kline,
    Klines,
    Limits,
    Refill,
    Request,
    paired_symbol,
)
from market.schema import BUY, I64, SELL

NAME = "coinbase"
WS_URL = "wss://ws-feed.exchange.coinbase.com"
REST_URL = "https://api.exchange.coinbase.com"

HEARTBEAT = Heartbeat(ping=None, every_s=20.0, pong_s=10.0, silence_s=60.0)
"""No ping is documented, either way. A minute without any match of any symbol is taken for a dead link."""
LIMITS = Limits(topics_per_message=100, topics_per_connection=200, messages_per_s=8.0, connections_per_window=(8, 1.0))
"""Too large a message is refused, how large is not said; spreading over connections is advised. The sizes are ours."""
REFILL = Refill(numbered=False, requests=5, per_s=1.0, page_rows=1000, pages=20)
"""Half of the 10 requests a second. Ids rise; that none is left out is not promised."""
KLINES = Klines({60: "60", 300: "300", 900: "900", 3_600: "3600", 86_400: "86400"}, rows=300, requests=5, per_s=1.0)

TRADES = "matches"
QUOTES = "ticker"
SIDE = {"sell": BUY, "buy": SELL}
"""A match names the maker's side: where the maker sold, the taker bought."""

_NAMED = re.compile(r"^(\S+-\S+) is ")


class _Message(msgspec.Struct, gc=False):
    """A match or a ticker, by type.

    `{"type":"match","trade_id":1081862675,"maker_order_id":"f07e...","taker_order_id":"e6f5...","side":"sell",
    "size":"0.00000001","price":"80691.53","product_id":"BTC-USD","sequence":134905860111,
    "time":"2026-08-25T03:35:57.198335Z"}`
    `{"type":"ticker","sequence":137212619516,"product_id":"BTC-USD","price":"84737.58",...,"best_bid":"84737.58",
    "best_bid_size":"0.19921154","best_ask":"84737.59","best_ask_size":"0.05223077","side":"sell",
    "time":"2026-10-03T20:58:31.127510Z","trade_id":1102042811,"last_size":"0.00000025"}`

    Tickers before 2022 have no sizes.
    """

    type: str = ""
    trade_id: int = -1
    product_id: str = ""
    side: str = ""
    size: float | None = nan
    price: float | None = nan
    best_bid: float | None = nan
    best_bid_size: float | None = nan
    best_ask: float | None = nan
    best_ask_size: float | None = nan
    time: str = ""


class _Answer(msgspec.Struct):
    """`{"type":"subscriptions","channels":[...]}`, `{"type":"error","message":"...","reason":"..."}`, a heartbeat."""

    type: str = ""
    message: str = ""
    reason: str = ""


class _Pair(msgspec.Struct, gc=False):
    """`{"id":"BTC-USD","base_currency":"BTC","quote_currency":"USD","status":"online","cancel_only":false,...}`."""

    id: str
    base_currency: str
    quote_currency: str
    status: str
    trading_disabled: bool = False


class _Fill(msgspec.Struct, gc=False):
    """`{"trade_id":74,"side":"sell","size":"0.01","price":"10.0","time":"2014-11-07T22:19:28.578544Z"}`."""

    trade_id: int
    side: str
    size: float
    price: float
    time: str


class _Kline(msgspec.Struct, array_like=True, gc=False):
    """`[1415398768,0.32,4.2,0.35,4.2,12.3]`: opens, low, high, open, close, volume; no volume in the quote currency."""

    open_s: int
    low: float
    high: float
    open: float
    close: float
    volume: float


_MESSAGE = msgspec.json.Decoder(_Message, strict=False)
_ANSWER = msgspec.json.Decoder(_Answer)
_PAIRS = msgspec.json.Decoder(list[_Pair])
_FILLS = msgspec.json.Decoder(list[_Fill], strict=False)
_KLINES = msgspec.json.Decoder(list[_Kline], strict=False)
_STATISTICS = msgspec.json.Decoder(list[msgspec.Raw])


def handshake() -> str | None:
    """Return None: no token is needed."""
    return None


def endpoint(ws_url: str, reply: bytes | None, topics: Sequence[str]) -> tuple[str, Heartbeat]:
    """Return the base URL itself; the heartbeat is fixed."""
    return ws_url, HEARTBEAT


def topics(natives: Sequence[str]) -> list[str]:
    """Return `channel:product` for trades, then quotes."""
    return [f"{channel}:{native}" for channel in (TRADES, QUOTES) for native in natives]


def subscribe(topics: Sequence[str], first_id: int) -> list[Request]:
    """Return subscribe requests, one channel each; each draws one `subscriptions`, without an id."""
    return _requests("subscribe", topics)


def unsubscribe(topics: Sequence[str], first_id: int) -> list[Request]:
    """Return unsubscribe requests of the same shape, answered in the same way."""
    return _requests("unsubscribe", topics)


def _requests(verb: str, topics: Sequence[str]) -> list[Request]:
    requests = []
    for channel, natives in by_channel(topics, LIMITS.topics_per_message):
        asked = tuple(f"{channel}:{native}" for native in natives)
        frame = msgspec.json.encode({"type": verb, "channels": [{"name": channel, "product_ids": natives}]})
        requests.append(Request(frame, asked, acks=1))
    return requests


def waits_for_welcome() -> bool:
    """Return False: the venue hangs up if nothing is requested within 5 s."""
    return False


def answer(frame: bytes) -> bytes | None:
    """Return None: the venue sends no application pings."""
    return None


def control(frame: bytes) -> Control | None:
    """Read an ack, a refusal, an error or a heartbeat."""
    message = rows.read_one(_ANSWER, frame)
    if message is None:
        return None
    if message.type == "subscriptions":
        return Control("ack")
    if message.type == "heartbeat":
        return Control("heartbeat")
    if message.type == "error":
        named = _NAMED.search(message.reason)
        text = f"{message.message}: {message.reason}" if message.reason else message.message
        return Control("refusal" if named else "error", native=named[1] if named else "", text=text)
    return None


def _walk(messages: list[_Message], batch: rows.Batch) -> None:
    trades_at: list[int] = []
    quotes_at: list[int] = []
    for at, message in enumerate(messages):
        kind = message.type
        if kind == "match" or kind == "last_match":
            trades_at.append(at)
            if kind == "last_match":
                batch.replayed.append(at)
        elif kind == QUOTES:
            quotes_at.append(at)
        else:
            batch.others.append(at)
    if trades_at:
        trades = [messages[at] for at in trades_at]
        batch.trades = rows.Trades(
            trades_at,
            [trade.product_id for trade in trades],
            [trade.price for trade in trades],
            [trade.size for trade in trades],
            [trade.side for trade in trades],
            [trade.trade_id for trade in trades],
            [trade.time for trade in trades],
        )
    if quotes_at:
        quotes = [messages[at] for at in quotes_at]
        batch.quotes = rows.Quotes(
            quotes_at,
            [quote.product_id for quote in quotes],
            [quote.best_bid for quote in quotes],
            [quote.best_bid_size for quote in quotes],
            [quote.best_ask for quote in quotes],
            [quote.best_ask_size for quote in quotes],
            [quote.time for quote in quotes],
        )


_READING = rows.Reading(NAME, _MESSAGE, _Message(), _walk, SIDE, from_rfc3339, from_rfc3339, control)


def decode(frames: Sequence[bytes], receive_ns: I64, catalog: Catalog) -> Decoded:
    """Decode frames of `matches` and `ticker`; see `Venue.decode`."""
    return rows.decode(_READING, frames, receive_ns, catalog)


def trades_path(native: str, hole: Hole, page: int, got: Decoded | None) -> str:
    """Return the path of the newest trades, then of those older than an id, newest first; see `Venue.trades_path`."""
    older = f"&after={int(got.ticks['trade_id'][-1])}" if got else ""
    return f"/products/{native}/trades?limit={REFILL.page_rows}{older}"


def trades(body: bytes, native: str, receive_ns: int, catalog: Catalog) -> Decoded:
    """Read a page of trades; see `Venue.trades`."""
    fills = listing.read_list(_FILLS, body, NAME, "page of trades")
    found = [(f.price, f.size, f.side, f.trade_id, f.time) for f in fills]
    return rows.decode_history(_READING, native, found, receive_ns, catalog)


def klines_path(native: str, interval_s: int, start_s: int, end_s: int) -> str:
    """Return the path of candles, newest first; see `Venue.klines_path`."""
    return f"/products/{native}/candles?granularity={KLINES.names[interval_s]}&start={start_s}&end={end_s}"


def klines(body: bytes) -> list[Kline]:
    """Read candles, their volume in the quote currency taken at the close; see `Venue.klines`."""
    found = listing.read_list(_KLINES, body, NAME, "list of candles")
    return [Kline(k.open_s, k.open, k.high, k.low, k.close, k.volume, k.volume * k.close) for k in found]


def symbol_of_native(native: str) -> str | None:
    """Return our symbol for `BTC-USD`."""
    base, dash, quote = native.partition("-")
    return paired_symbol(base, quote) if dash else None


def instruments_path() -> str:
    """Return the REST path of the list of spot pairs."""
    return "/products"


def instruments(body: bytes) -> list[Instrument]:
    """Read the list of spot pairs; see `Venue.instruments`."""
    listed = listing.read_list(_PAIRS, body, NAME, "list of pairs")
    return listing.instruments(
        (row.id, row.base_currency, row.quote_currency, row.status == "online" and not row.trading_disabled)
        for row in listed
    )


def volumes_path() -> str:
    """Return the REST path of 24 h statistics."""
    return "/products/volume-summary"


def volumes(body: bytes) -> dict[str, float]:
    """Return nothing: the one list of all pairs counts base currency and has no price to turn it into turnover.

    `top:N` then knows that the venue lists a pair, and takes the turnover from the others; see `Venue.volumes`.
    """
    listing.read_list(_STATISTICS, body, NAME, "24 h statistics")
    return {}
