"""KuCoin spot, token handshake: public trades and best bid and offer.

Source: KuCoin docs, classic spot WebSocket and its introduction; frames in tests/captures/kucoin.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from math import nan
from urllib.parse import urlencode, urlsplit

import msgspec

from connectors import listing, rows
from connectors.times import from_ms, from_ns
from connectors.topics import bounds, by_channel
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

NAME = "kucoin"
WS_URL = "wss://ws-api-spot.kucoin.com/"
"""For the record: the handshake's reply names the endpoint to use."""
REST_URL = "https://api.kucoin.com"

HEARTBEAT = Heartbeat(ping=b'{"id":"ping","type":"ping"}', every_s=18.0, pong_s=10.0, silence_s=40.0)
"""Where the handshake's reply does not say otherwise, by `pingInterval` and `pingTimeout`."""
_QUIET_S = 12.0
"""A link may be silent for this much longer than a ping and its answer take."""
_PING_S = (1.0, 50.0)
"""Bounds of what we take from a reply: a socket without any message of ours is closed after about 60 s."""
LIMITS = Limits(
    topics_per_message=100,
    topics_per_connection=300,
    messages_per_s=10.0,
    connections_per_window=(30, 60.0),
    connection_life_s=86_400.0,
)
"""400 topics a connection are documented now, 300 before and in error texts: the lower holds."""
REFILL = Refill(numbered=False, requests=10, per_s=1.0, page_rows=100, pages=1, coarse_ns=1_000_000)
"""`sequence` skips. REST has the last 100 trades of a symbol, without paging: a longer hole cannot be filled."""
KLINES = Klines(
    {60: "1min", 300: "5min", 900: "15min", 3_600: "1hour", 14_400: "4hour", 86_400: "1day"},
    rows=1500,
    requests=20,
    per_s=2.0,
)
"""Well within the 2000 units of weight in 30 s. Quiet minutes are left out."""

TRADES = "/market/match"
QUOTES = "/spotMarket/level1"
TICKERS = "/market/ticker"
SIDE = {"buy": BUY, "sell": SELL}
"""The taker's side."""

_GOOD = "200000"
_REFUSED = {"404", "509"}
"""The topic is unknown; too many subscriptions."""

_TRADES_FROM, _TRADES_TO = bounds(f"{TRADES}:")
_QUOTES_FROM, _QUOTES_TO = bounds(f"{QUOTES}:")
_TICKERS_FROM, _TICKERS_TO = bounds(f"{TICKERS}:")
_QUOTES_CUT, _TICKERS_CUT = len(_QUOTES_FROM), len(_TICKERS_FROM)


class _Level(msgspec.Struct, array_like=True, gc=False):
    """`["68145.8","0.51987471"]`: price, size; empty where a side is absent."""

    price: float | None = nan
    size: float | None = nan


class _Data(msgspec.Struct, gc=False):
    """A trade, the best levels, or a ticker, by topic.

    `{"symbol":"BTC-USDT","side":"sell","size":"0.003","price":"64024.4","tradeId":"23898084682776576",
    "time":"1786538821105000000","sequence":"23898084682776576","type":"match"}`
    `{"asks":["68145.8","0.51987471"],"bids":["68145.7","1.29267802"],"timestamp":1729816058766}`
    `{"bestAsk":"31785.3","bestAskSize":"1.0455757","bestBid":"31785.2","bestBidSize":"0.4645037","price":"31785.2",
    "sequence":"1630218274617","size":"0.03133705","time":1654032320677}`

    A ticker's `time` is that of the last trade, hours old on a quiet pair: no time of the quote.
    """

    symbol: str = ""
    side: str = ""
    size: float | None = nan
    price: float | None = nan
    time: int = 0
    tradeId: str = ""
    asks: _Level | None = None
    bids: _Level | None = None
    timestamp: int = 0
    bestBid: float | None = nan
    bestBidSize: float | None = nan
    bestAsk: float | None = nan
    bestAskSize: float | None = nan


class _Message(msgspec.Struct, gc=False):
    """`{"topic":"/market/match:BTC-USDT","type":"message","subject":"trade.l3match","data":{...}}`.

    On `/market/ticker:all` the subject is the symbol. In an error `data` is text.
    """

    topic: str = ""
    subject: str = ""
    data: _Data | str | None = None


class _Answer(msgspec.Struct):
    """`{"id":"1","type":"ack"}`, `{"id":"1","type":"error","code":404,"data":"topic ..."}`, welcome, pong."""

    id: str = ""
    type: str = ""
    code: int | str = ""
    data: msgspec.Raw = msgspec.Raw(b'""')


class _Server(msgspec.Struct):
    endpoint: str
    pingInterval: float = HEARTBEAT.every_s * 1000
    pingTimeout: float = HEARTBEAT.pong_s * 1000


class _Token(msgspec.Struct):
    token: str
    instanceServers: list[_Server]


class _Bullet(msgspec.Struct):
    """`{"code":"200000","data":{"token":"2neAiu...","instanceServers":[{"endpoint":"wss://...","pingInterval":18000}]}}`.

    Beside `pingInterval` there is `pingTimeout`, both in milliseconds.
    """

    code: str
    data: _Token | None = None
    msg: str = ""


class _Pair(msgspec.Struct, gc=False):
    """`{"symbol":"BCHSV-USDT","baseCurrency":"BSV","quoteCurrency":"USDT","enableTrading":true}`.

    The parts of the name are not always the currencies.
    """

    symbol: str
    baseCurrency: str
    quoteCurrency: str
    enableTrading: bool


class _Pairs(msgspec.Struct):
    code: str
    data: list[_Pair] = []
    msg: str = ""


class _Statistic(msgspec.Struct, gc=False):
    """`{"symbol":"BTC-USDT","volValue":"120647061.749114"}`."""

    symbol: str
    volValue: float | str | None = None


class _StatisticList(msgspec.Struct):
    ticker: list[_Statistic]


class _Statistics(msgspec.Struct):
    code: str
    data: _StatisticList | None = None
    msg: str = ""


class _Fill(msgspec.Struct, gc=False):
    """A fill of REST, without trade id; that of the WebSocket equals `sequence`.

    `{"sequence":"1545896668571","price":"0.07","size":"0.004","side":"buy","time":1545904567062140823}`
    """

    sequence: str
    price: float
    size: float
    side: str
    time: int


class _Fills(msgspec.Struct):
    code: str
    data: list[_Fill] | None = None
    msg: str = ""


class _Kline(msgspec.Struct, array_like=True, gc=False):
    """`["1545904980","0.058","0.049","0.058","0.049","0.018","0.000945"]`: close comes before high and low."""

    open_s: int
    open: float
    close: float
    high: float
    low: float
    volume: float
    quote_volume: float


class _Klines(msgspec.Struct):
    code: str
    data: list[_Kline] | None = None
    msg: str = ""


_MESSAGE = msgspec.json.Decoder(_Message, strict=False)
_ANSWER = msgspec.json.Decoder(_Answer)
_BULLET = msgspec.json.Decoder(_Bullet)
_PAIRS = msgspec.json.Decoder(_Pairs)
_STATISTICS = msgspec.json.Decoder(_Statistics)
_KLINES = msgspec.json.Decoder(_Klines, strict=False)
_FILLS = msgspec.json.Decoder(_Fills, strict=False)
_ABSENT = _Level()


def handshake() -> str | None:
    """Return the path that hands out a token; it takes a POST without key or body."""
    return "/api/v1/bullet-public"


def endpoint(ws_url: str, reply: bytes | None, topics: Sequence[str]) -> tuple[str, Heartbeat]:
    """Return the first server of the handshake's reply, with its token and its ping times; see `Venue.endpoint`."""
    bullet = listing.read_list(_BULLET, reply or b"", NAME, "token")
    listing.check_code(bullet.code, _GOOD, bullet.msg, NAME, "token")
    if bullet.data is None or not bullet.data.instanceServers:
        message = f"{NAME}: the token's reply names no server"
        raise ValueError(message)
    server = bullet.data.instanceServers[0]
    url = server.endpoint
    if not urlsplit(url).path:
        url += "/"  # without a path the upgrade is answered with 400
    every_s, pong_s = (min(max(ms / 1000, _PING_S[0]), _PING_S[1]) for ms in (server.pingInterval, server.pingTimeout))
    heartbeat = replace(HEARTBEAT, every_s=every_s, pong_s=pong_s, silence_s=every_s + pong_s + _QUIET_S)
    return f"{url}?{urlencode({'token': bullet.data.token, 'connectId': 'mie'})}", heartbeat


def topics(natives: Sequence[str]) -> list[str]:
    """Return topics for trades, then quotes."""
    return [f"{channel}:{native}" for channel in (TRADES, QUOTES) for native in natives]


def subscribe(topics: Sequence[str], first_id: int) -> list[Request]:
    """Return subscribe requests, one channel each; each draws one ack, which repeats its id."""
    return _requests("subscribe", topics, first_id)


def unsubscribe(topics: Sequence[str], first_id: int) -> list[Request]:
    """Return unsubscribe requests of the same shape."""
    return _requests("unsubscribe", topics, first_id)


def _requests(kind: str, topics: Sequence[str], first_id: int) -> list[Request]:
    requests = []
    for number, (channel, natives) in enumerate(by_channel(topics, LIMITS.topics_per_message), first_id):
        request = {
            "id": str(number),
            "type": kind,
            "topic": f"{channel}:{','.join(natives)}",
            "privateChannel": False,
            "response": True,
        }
        asked = tuple(f"{channel}:{native}" for native in natives)
        requests.append(Request(msgspec.json.encode(request), asked, acks=1, key=str(number)))
    return requests


def waits_for_welcome() -> bool:
    """Return True: requests before the welcome are lost."""
    return True


def answer(frame: bytes) -> bytes | None:
    """Return None: the venue sends no application pings."""
    return None


def control(frame: bytes) -> Control | None:
    """Read a welcome, an ack, a refusal, an error or a pong."""
    message = rows.read_one(_ANSWER, frame)
    if message is None:
        return None
    if message.type in ("welcome", "ack", "pong"):
        return Control(message.type, message.id)
    if message.type == "error":
        code = str(message.code)
        text = bytes(message.data).decode(errors="replace").strip('"')
        return Control("refusal" if code in _REFUSED else "error", message.id, code=code, text=text)
    return None


def _walk(messages: list[_Message], batch: rows.Batch) -> None:
    trades_at: list[int] = []
    quotes_at: list[int] = []
    trades: list[_Data] = []
    quotes: list[_Data] = []
    natives: list[str] = []
    for at, message in enumerate(messages):
        topic, data = message.topic, message.data
        if type(data) is not _Data:
            batch.others.append(at)
        elif _QUOTES_FROM < topic < _QUOTES_TO:
            quotes_at.append(at)
            quotes.append(data)
            natives.append(topic[_QUOTES_CUT:])
        elif _TRADES_FROM < topic < _TRADES_TO:
            trades_at.append(at)
            trades.append(data)
        elif _TICKERS_FROM < topic < _TICKERS_TO:
            quotes_at.append(at)
            quotes.append(_of_ticker(data))
            native = topic[_TICKERS_CUT:]
            natives.append(message.subject if native == "all" else native)
        else:
            batch.others.append(at)
    if trades:
        batch.trades = rows.Trades(
            trades_at,
            [trade.symbol for trade in trades],
            [trade.price for trade in trades],
            [trade.size for trade in trades],
            [trade.side for trade in trades],
            [trade.tradeId for trade in trades],
            [trade.time for trade in trades],
        )
    if quotes:
        bids = [quote.bids or _ABSENT for quote in quotes]
        asks = [quote.asks or _ABSENT for quote in quotes]
        batch.quotes = rows.Quotes(
            quotes_at,
            natives,
            [bid.price for bid in bids],
            [bid.size for bid in bids],
            [ask.price for ask in asks],
            [ask.size for ask in asks],
            [quote.timestamp for quote in quotes],
        )


def _of_ticker(data: _Data) -> _Data:
    """Return a ticker as best levels, without a time."""
    bid, ask = _Level(data.bestBid, data.bestBidSize), _Level(data.bestAsk, data.bestAskSize)
    return _Data(bids=bid, asks=ask)


_READING = rows.Reading(NAME, _MESSAGE, _Message(), _walk, SIDE, from_ns, from_ms, control)


def decode(frames: Sequence[bytes], receive_ns: I64, catalog: Catalog) -> Decoded:
    """Decode frames of `match`, `level1` and `ticker`; see `Venue.decode`."""
    return rows.decode(_READING, frames, receive_ns, catalog)


def trades_path(native: str, hole: Hole, page: int, got: Decoded | None) -> str:
    """Return the path of the last trades; see `Venue.trades_path`."""
    return f"/api/v1/market/histories?symbol={native}"


def trades(body: bytes, native: str, receive_ns: int, catalog: Catalog) -> Decoded:
    """Read the last trades; see `Venue.trades`."""
    page = listing.read_list(_FILLS, body, NAME, "page of trades")
    listing.check_code(page.code, _GOOD, page.msg, NAME, "page of trades")
    found = [(f.price, f.size, f.side, f.sequence, f.time) for f in page.data or []]
    return rows.decode_history(_READING, native, found, receive_ns, catalog)


def klines_path(native: str, interval_s: int, start_s: int, end_s: int) -> str:
    """Return the path of candles, newest first, the end not included; see `Venue.klines_path`."""
    window = f"startAt={start_s}&endAt={end_s + 1}"
    return f"/api/v1/market/candles?symbol={native}&type={KLINES.names[interval_s]}&{window}"


def klines(body: bytes) -> list[Kline]:
    """Read candles; see `Venue.klines`."""
    page = listing.read_list(_KLINES, body, NAME, "list of candles")
    listing.check_code(page.code, _GOOD, page.msg, NAME, "list of candles")
    found = page.data or []
    return [Kline(k.open_s, k.open, k.high, k.low, k.close, k.volume, k.quote_volume) for k in found]


def symbol_of_native(native: str) -> str | None:
    """Return our symbol for `BTC-USDT`."""
    base, dash, quote = native.partition("-")
    return paired_symbol(base, quote) if dash else None


def instruments_path() -> str:
    """Return the REST path of the list of spot pairs."""
    return "/api/v2/symbols"


def instruments(body: bytes) -> list[Instrument]:
    """Read the list of spot pairs; see `Venue.instruments`."""
    listed = listing.read_list(_PAIRS, body, NAME, "list of pairs")
    listing.check_code(listed.code, _GOOD, listed.msg, NAME, "list of pairs")
    return listing.instruments(
        (row.symbol, row.baseCurrency, row.quoteCurrency, row.enableTrading) for row in listed.data
    )


def volumes_path() -> str:
    """Return the REST path of 24 h statistics."""
    return "/api/v1/market/allTickers"


def volumes(body: bytes) -> dict[str, float]:
    """Read turnover by native symbol; see `Venue.volumes`."""
    listed = listing.read_list(_STATISTICS, body, NAME, "24 h statistics")
    listing.check_code(listed.code, _GOOD, listed.msg, NAME, "24 h statistics")
    return listing.turnovers((row.symbol, row.volValue) for row in (listed.data.ticker if listed.data else []))
