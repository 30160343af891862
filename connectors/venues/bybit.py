"""Bybit v5 spot: public trades and best bid and offer.

Source: bybit-exchange/docs, docs/v5/websocket/public and docs/v5/market; frames in tests/captures/bybit.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from math import nan

import msgspec

from connectors import listing, rows
from connectors.times import from_ms
from connectors.topics import bounds, split
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
    glued_symbol,
)
from market.schema import BUY, I64, SELL

NAME = "bybit"
WS_URL = "wss://stream.bybit.com/v5/public/spot"
"""Spot has its own socket; a frame does not say whose it is."""
REST_URL = "https://api.bybit.com"

HEARTBEAT = Heartbeat(ping=b'{"op":"ping"}', every_s=20.0, pong_s=10.0, silence_s=45.0)
"""The client pings, every 20 s as documented."""
LIMITS = Limits(
    topics_per_message=10,
    topics_per_connection=800,
    messages_per_s=10.0,
    connections_per_window=(500, 300.0),
    topic_bytes_per_connection=21_000,
)
"""10 args a request on spot; all args of a connection together at most 21,000 characters. The rate is our choice."""
REFILL = Refill(numbered=False, requests=10, per_s=1.0, page_rows=60, pages=1)
"""Ids skip. REST has the newest 60 trades of a spot symbol, without paging: a longer hole cannot be filled."""
KLINES = Klines(
    {60: "1", 300: "5", 900: "15", 3_600: "60", 14_400: "240", 86_400: "D"}, rows=1000, requests=50, per_s=1.0
)
"""Less than half of the 600 requests in 5 s an address."""

TRADES = "publicTrade"
QUOTES = "orderbook.1"
SIDE = {"Buy": BUY, "Sell": SELL}
"""The taker's side."""

_TRADES_FROM, _TRADES_TO = bounds(f"{TRADES}.")
_QUOTES_FROM, _QUOTES_TO = bounds(f"{QUOTES}.")
_NAMED = re.compile(r"(?:publicTrade|orderbook\.1)\.([^\]\s,]+)")


class _Trade(msgspec.Struct, gc=False):
    """`{"i":"2290000001203630617","T":1788488776839,"p":"80694.4","v":"0.000136","S":"Buy","seq":1,"s":"BTCUSDT"}`.

    `L`, the tick direction, is sent for derivatives only: a frame that has it is not ours, and does not decode.
    """

    i: str = ""
    T: int = 0
    p: float | None = nan
    v: float | None = nan
    S: str = ""
    s: str = ""
    L: None = None


class _Level(msgspec.Struct, array_like=True, gc=False):
    """`["80694.3","0.186713"]`: price, size."""

    price: float | None = nan
    size: float | None = nan


class _Book(msgspec.Struct, gc=False):
    """`{"s":"BTCUSDT","b":[["80694.3","0.186713"]],"a":[["80694.4","0.584259"]],"u":91124997,"seq":113596275717}`.

    In 2023 a `delta` could hold one side only, or size "0" for a side that went away.
    """

    s: str = ""
    b: list[_Level] = []
    a: list[_Level] = []


class _Message(msgspec.Struct, gc=False):
    """`{"topic":"publicTrade.BTCUSDT","ts":1788488776840,"type":"snapshot","data":[...]}`.

    `cts`, on books, is the time of the matching engine and comparable with `T` of trades; 2023 frames lack it.
    """

    topic: str = ""
    data: list[_Trade] | _Book | None = None
    cts: int = 0


class _Sent(msgspec.Struct):
    ts: int = 0


class _Answer(msgspec.Struct):
    """`{"success":true,"ret_msg":"subscribe","conn_id":"...","req_id":"1","op":"subscribe"}`; a pong has op `ping`."""

    op: str = ""
    success: bool = False
    ret_msg: str = ""
    req_id: str = ""


class _Pair(msgspec.Struct, gc=False):
    """`{"symbol":"BTCUSDT","baseCoin":"BTC","quoteCoin":"USDT","status":"Trading"}`."""

    symbol: str
    baseCoin: str
    quoteCoin: str
    status: str


class _PairList(msgspec.Struct):
    pairs: list[_Pair] = msgspec.field(name="list")


class _Pairs(msgspec.Struct):
    retCode: int
    result: _PairList | None = None
    retMsg: str = ""


class _Statistic(msgspec.Struct, gc=False):
    """`{"symbol":"BTCUSDT","turnover24h":"1242160016.20538339"}`."""

    symbol: str
    turnover24h: float | str | None


class _StatisticList(msgspec.Struct):
    statistics: list[_Statistic] = msgspec.field(name="list")


class _Statistics(msgspec.Struct):
    retCode: int
    result: _StatisticList | None = None
    retMsg: str = ""


class _Fill(msgspec.Struct, gc=False):
    """A fill of REST.

    `{"execId":"2100000000007764263","symbol":"BTCUSDT","price":"16618.49","size":"0.00012","side":"Buy",
    "time":"1672052955758","isBlockTrade":false}`
    """

    execId: str
    price: float
    size: float
    side: str
    time: int


class _FillList(msgspec.Struct):
    fills: list[_Fill] = msgspec.field(name="list", default_factory=list)


class _Fills(msgspec.Struct):
    retCode: int
    retMsg: str = ""
    result: _FillList = msgspec.field(default_factory=_FillList)


class _Kline(msgspec.Struct, array_like=True, gc=False):
    """`["1670608800000","17071","17073","17027","17055.5","268611","15.74462667"]`."""

    open_ms: int
    open: float
    high: float
    low: float
    close: float
    volume: float
    quote_volume: float


class _KlineList(msgspec.Struct):
    candles: list[_Kline] = msgspec.field(name="list", default_factory=list)


class _Klines(msgspec.Struct):
    retCode: int
    retMsg: str = ""
    result: _KlineList = msgspec.field(default_factory=_KlineList)


_MESSAGE = msgspec.json.Decoder(_Message, strict=False)
_SENT = msgspec.json.Decoder(_Sent, strict=False)
_ANSWER = msgspec.json.Decoder(_Answer)
_PAIRS = msgspec.json.Decoder(_Pairs)
_STATISTICS = msgspec.json.Decoder(_Statistics)
_KLINES = msgspec.json.Decoder(_Klines, strict=False)
_FILLS = msgspec.json.Decoder(_Fills, strict=False)
_ABSENT = _Level()


def handshake() -> str | None:
    """Return None: no token is needed."""
    return None


def endpoint(ws_url: str, reply: bytes | None, topics: Sequence[str]) -> tuple[str, Heartbeat]:
    """Return the base URL itself; the heartbeat is fixed."""
    return ws_url, HEARTBEAT


def topics(natives: Sequence[str]) -> list[str]:
    """Return topics for trades, then quotes."""
    return [f"{channel}.{native}" for channel in (TRADES, QUOTES) for native in natives]


def subscribe(topics: Sequence[str], first_id: int) -> list[Request]:
    """Return subscribe requests; each draws one ack, which repeats its id."""
    return _requests("subscribe", topics, first_id)


def unsubscribe(topics: Sequence[str], first_id: int) -> list[Request]:
    """Return unsubscribe requests of the same shape."""
    return _requests("unsubscribe", topics, first_id)


def _requests(op: str, topics: Sequence[str], first_id: int) -> list[Request]:
    requests = []
    for number, part in enumerate(split(topics, LIMITS.topics_per_message), first_id):
        frame = msgspec.json.encode({"req_id": str(number), "op": op, "args": part})
        requests.append(Request(frame, tuple(part), acks=1, key=str(number)))
    return requests


def waits_for_welcome() -> bool:
    """Return False: requests may be sent at once."""
    return False


def answer(frame: bytes) -> bytes | None:
    """Return None: the venue sends no application pings."""
    return None


def control(frame: bytes) -> Control | None:
    """Read an ack, a refusal or a pong."""
    message = rows.read_one(_ANSWER, frame)
    if message is None or not message.op:
        return None
    if message.op in ("ping", "pong"):
        return Control("pong", message.req_id)
    if message.op not in ("subscribe", "unsubscribe"):
        return Control("error", message.req_id, text=message.ret_msg)
    if message.success:
        return Control("ack", message.req_id)
    if "already subscribed" in message.ret_msg:
        return Control("ack", message.req_id)
    named = _NAMED.search(message.ret_msg)
    return Control("refusal", message.req_id, named[1] if named else "", text=message.ret_msg)


def _walk(messages: list[_Message], batch: rows.Batch) -> None:
    trades_at: list[int] = []
    quotes_at: list[int] = []
    sold: list[list[_Trade]] = []
    books: list[_Book] = []
    for at, message in enumerate(messages):
        topic, data = message.topic, message.data
        if _TRADES_FROM < topic < _TRADES_TO and type(data) is list and data:
            trades_at.append(at)
            sold.append(data)
        elif _QUOTES_FROM < topic < _QUOTES_TO and type(data) is _Book:
            quotes_at.append(at)
            books.append(data)
        else:
            batch.others.append(at)
    if sold:
        trades = rows.flat(sold)
        batch.trades = rows.Trades(
            rows.beside(trades, sold, trades_at),
            [trade.s for trade in trades],
            [trade.p for trade in trades],
            [trade.v for trade in trades],
            [trade.S for trade in trades],
            [trade.i for trade in trades],
            [trade.T for trade in trades],
        )
    if books:
        bids = [book.b[0] if book.b else _ABSENT for book in books]
        asks = [book.a[0] if book.a else _ABSENT for book in books]
        batch.quotes = rows.Quotes(
            quotes_at,
            [book.s for book in books],
            [bid.price for bid in bids],
            [bid.size for bid in bids],
            [ask.price for ask in asks],
            [ask.size for ask in asks],
            [messages[at].cts or _sent_ms(batch.frames[at]) for at in quotes_at],
        )


def _sent_ms(frame: bytes) -> int:
    """Return when the venue sent a frame: all the time there is in books of 2023."""
    sent = rows.read_one(_SENT, frame)
    return 0 if sent is None else sent.ts


_READING = rows.Reading(NAME, _MESSAGE, _Message(), _walk, SIDE, from_ms, from_ms, control)


def decode(frames: Sequence[bytes], receive_ns: I64, catalog: Catalog) -> Decoded:
    """Decode frames of `publicTrade` and `orderbook.1`; see `Venue.decode`."""
    return rows.decode(_READING, frames, receive_ns, catalog)


def trades_path(native: str, hole: Hole, page: int, got: Decoded | None) -> str:
    """Return the path of the newest trades, newest first; see `Venue.trades_path`."""
    return f"/v5/market/recent-trade?category=spot&symbol={native}&limit={REFILL.page_rows}"


def trades(body: bytes, native: str, receive_ns: int, catalog: Catalog) -> Decoded:
    """Read the newest trades; see `Venue.trades`."""
    page = listing.read_list(_FILLS, body, NAME, "page of trades")
    listing.check_code(page.retCode, 0, page.retMsg, NAME, "page of trades")
    found = [(f.price, f.size, f.side, f.execId, f.time) for f in page.result.fills]
    return rows.decode_history(_READING, native, found, receive_ns, catalog)


def klines_path(native: str, interval_s: int, start_s: int, end_s: int) -> str:
    """Return the path of candles, newest first; see `Venue.klines_path`."""
    window = f"start={start_s * 1000}&end={end_s * 1000}&limit={KLINES.rows}"
    return f"/v5/market/kline?category=spot&symbol={native}&interval={KLINES.names[interval_s]}&{window}"


def klines(body: bytes) -> list[Kline]:
    """Read candles; see `Venue.klines`."""
    page = listing.read_list(_KLINES, body, NAME, "list of candles")
    listing.check_code(page.retCode, 0, page.retMsg, NAME, "list of candles")
    found = page.result.candles
    return [Kline(k.open_ms // 1000, k.open, k.high, k.low, k.close, k.volume, k.quote_volume) for k in found]


def symbol_of_native(native: str) -> str | None:
    """Return our symbol for `BTCUSDT`."""
    return glued_symbol(native)


def instruments_path() -> str:
    """Return the REST path of the list of spot pairs."""
    return "/v5/market/instruments-info?category=spot"


def instruments(body: bytes) -> list[Instrument]:
    """Read the list of spot pairs; see `Venue.instruments`."""
    listed = listing.read_list(_PAIRS, body, NAME, "list of pairs")
    listing.check_code(listed.retCode, 0, listed.retMsg, NAME, "list of pairs")
    pairs = listed.result.pairs if listed.result else []
    return listing.instruments((row.symbol, row.baseCoin, row.quoteCoin, row.status == "Trading") for row in pairs)


def volumes_path() -> str:
    """Return the REST path of 24 h statistics."""
    return "/v5/market/tickers?category=spot"


def volumes(body: bytes) -> dict[str, float]:
    """Read turnover by native symbol; see `Venue.volumes`."""
    listed = listing.read_list(_STATISTICS, body, NAME, "24 h statistics")
    listing.check_code(listed.retCode, 0, listed.retMsg, NAME, "24 h statistics")
    statistics = listed.result.statistics if listed.result else []
    return listing.turnovers((row.symbol, row.turnover24h) for row in statistics)
