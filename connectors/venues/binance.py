"""Binance spot: public trades and best bid and offer.

Source: binance/binance-spot-api-docs, web-socket-streams.md and rest-api.md; frames in tests/captures/binance.
"""

from __future__ import annotations

from collections.abc import Sequence
from math import nan
from urllib.parse import quote

import msgspec

from connectors import listing, rows
from connectors.times import from_ms, unstamped
from connectors.topics import split
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

NAME = "binance"
WS_URL = "wss://stream.binance.com:9443/stream"
"""The combined form: a best quote names neither its kind nor a time, only its stream says what it is."""
REST_URL = "https://api.binance.com"

HEARTBEAT = Heartbeat(ping=None, every_s=20.0, pong_s=10.0, silence_s=60.0)
"""Protocol pings only, every 20 s, answered by the WebSocket library."""
LIMITS = Limits(
    topics_per_message=200,
    topics_per_connection=1024,
    messages_per_s=5.0,
    connections_per_window=(300, 300.0),
    connection_life_s=86_400.0,
)
"""The largest accepted request is not documented; 200 streams are about 4 KB."""
REFILL = Refill(numbered=True, requests=100, per_s=60.0, page_rows=1000, pages=20)
"""A page weighs 25 of the 6000 a minute; `t` rises by one a symbol."""
KLINES = Klines(
    {60: "1m", 300: "5m", 900: "15m", 3_600: "1h", 14_400: "4h", 86_400: "1d"}, rows=1000, requests=1000, per_s=60.0
)
"""A request weighs 2 of the 6000 a minute."""

TRADES = "trade"
AGGREGATES = "aggTrade"
QUOTES = "bookTicker"
SIDE: dict[bool | None, int] = {True: SELL, False: BUY}
"""By `m`, the buyer is the maker: then the taker sold."""


class _Data(msgspec.Struct, gc=False):
    """A trade, an aggregate trade or a best quote.

    `{"e":"trade","E":1723161255343,"s":"BTCUSDT","t":3735683259,"p":"61837.63000000","q":"0.02000000",
    "T":1723161255342,"m":true,"M":true}`
    `{"u":50093246588,"s":"BTCUSDT","b":"61833.09000000","B":"0.47931000","a":"61833.10000000","A":"4.28168000"}`

    `a` is the ask price of a quote, the id of an aggregate trade, an order id in trades before 2023. `M` carries
    nothing, but only spot sends it: a trade without it is of the futures.
    """

    e: str = ""
    u: int = 0
    s: str = ""
    t: int = -1
    b: float | None = nan
    B: float | None = nan
    a: int | float | None = nan
    A: float | None = nan
    p: float | None = nan
    q: float | None = nan
    T: int = 0
    m: bool | None = None
    M: bool | None = None


class _Message(msgspec.Struct, gc=False):
    """`{"stream":"btcusdt@trade","data":{...}}`; on a raw stream a frame is what `data` is here."""

    data: _Data | None = None


class _Fault(msgspec.Struct):
    code: int = 0
    msg: str = ""


class _Shutdown(msgspec.Struct):
    e: str = ""


class _Answer(msgspec.Struct):
    """An answer to a request: `{"result":null,"id":1}`, `{"error":{"code":2,"msg":"..."},"id":4}`, `{"code":2,...}`.

    Or `{"e":"serverShutdown","E":1770123456789}`, alone or as `data` of a stream: a restart is near.
    """

    id: int | str | None = None
    result: msgspec.Raw | msgspec.UnsetType = msgspec.UNSET
    error: _Fault | None = None
    code: int | None = None
    msg: str = ""
    e: str = ""
    data: _Shutdown | None = None


class _Pair(msgspec.Struct, gc=False):
    """`{"symbol":"BTCUSDT","status":"TRADING","baseAsset":"BTC","quoteAsset":"USDT","isSpotTradingAllowed":true}`."""

    symbol: str
    status: str
    baseAsset: str
    quoteAsset: str
    isSpotTradingAllowed: bool = True


class _Pairs(msgspec.Struct):
    symbols: list[_Pair]


class _Statistic(msgspec.Struct, gc=False):
    """`{"symbol":"BTCUSDT","quoteVolume":"1234567.89"}`."""

    symbol: str
    quoteVolume: float | str | None


class _Fill(msgspec.Struct, gc=False):
    """`{"id":28457,"price":"4.00000100","qty":"12.00000000","time":1499865549590,"isBuyerMaker":true}`."""

    id: int
    price: float
    qty: float
    time: int
    isBuyerMaker: bool


class _Kline(msgspec.Struct, array_like=True, gc=False):
    """`[1499040000000,"0.0163","0.8","0.0157","0.0157","148976.1",1499644799999,"2434.19",308,"1756.8","28.4","0"]`."""

    open_ms: int
    open: float
    high: float
    low: float
    close: float
    volume: float
    close_ms: int
    quote_volume: float


_MESSAGE = msgspec.json.Decoder(_Message, strict=False)
_RAW = msgspec.json.Decoder(_Data, strict=False)
_ANSWER = msgspec.json.Decoder(_Answer)
_PAIRS = msgspec.json.Decoder(_Pairs)
_STATISTICS = msgspec.json.Decoder(list[_Statistic])
_KLINES = msgspec.json.Decoder(list[_Kline], strict=False)
_FILLS = msgspec.json.Decoder(list[_Fill], strict=False)
_NOTHING = _Data()


def handshake() -> str | None:
    """Return None: no token is needed."""
    return None


def endpoint(ws_url: str, reply: bytes | None, topics: Sequence[str]) -> tuple[str, Heartbeat]:
    """Return the base URL itself; streams are named by requests, so that they are acknowledged."""
    return ws_url, HEARTBEAT


def topics(natives: Sequence[str]) -> list[str]:
    """Return stream names for trades, then quotes; they are lower case."""
    return [f"{native.lower()}@{channel}" for channel in (TRADES, QUOTES) for native in natives]


def subscribe(topics: Sequence[str], first_id: int) -> list[Request]:
    """Return subscribe requests; each draws one ack."""
    return _requests("SUBSCRIBE", topics, first_id)


def unsubscribe(topics: Sequence[str], first_id: int) -> list[Request]:
    """Return unsubscribe requests of the same shape."""
    return _requests("UNSUBSCRIBE", topics, first_id)


def _requests(method: str, topics: Sequence[str], first_id: int) -> list[Request]:
    requests = []
    for number, part in enumerate(split(topics, LIMITS.topics_per_message), first_id):
        frame = msgspec.json.encode({"method": method, "params": part, "id": number})
        requests.append(Request(frame, tuple(part), acks=1, key=str(number)))
    return requests


def waits_for_welcome() -> bool:
    """Return False: requests may be sent at once."""
    return False


def answer(frame: bytes) -> bytes | None:
    """Return None: the venue sends no application pings."""
    return None


def control(frame: bytes) -> Control | None:
    """Read an ack, an error or the notice of a restart."""
    message = rows.read_one(_ANSWER, frame)
    if message is None:
        return None
    key = "" if message.id is None else str(message.id)
    if message.error is not None:
        return Control("refusal", key, code=str(message.error.code), text=message.error.msg)
    if message.code is not None:
        return Control("refusal", key, code=str(message.code), text=message.msg)
    if "serverShutdown" in (message.e, message.data.e if message.data else ""):
        return Control("notice", text="serverShutdown")
    if message.result is not msgspec.UNSET and key:
        return Control("ack", key)
    return None


def _walk(messages: list[_Message], batch: rows.Batch) -> None:
    trades_at: list[int] = []
    quotes_at: list[int] = []
    trades: list[_Data] = []
    quotes: list[_Data] = []
    for at, message in enumerate(messages):
        data = message.data or _raw(batch, at)
        kind = data.e
        if kind == TRADES and data.M is not None:
            trades_at.append(at)
            trades.append(data)
        elif kind == "" and data.u:
            quotes_at.append(at)
            quotes.append(data)
        elif kind == AGGREGATES and data.M is not None:
            data.t = data.a if isinstance(data.a, int) else -1
            trades_at.append(at)
            trades.append(data)
        else:
            batch.others.append(at)
    if trades:
        batch.trades = rows.Trades(
            trades_at,
            [trade.s for trade in trades],
            [trade.p for trade in trades],
            [trade.q for trade in trades],
            [trade.m for trade in trades],
            [trade.t for trade in trades],
            [trade.T for trade in trades],
        )
    if quotes:
        batch.quotes = rows.Quotes(
            quotes_at,
            [quote.s for quote in quotes],
            [quote.b for quote in quotes],
            [quote.B for quote in quotes],
            [quote.a for quote in quotes],
            [quote.A for quote in quotes],
            quotes_at,
        )


def _raw(batch: rows.Batch, at: int) -> _Data:
    """Return the frame read as the data themselves."""
    data = rows.read_frame(_RAW, batch.frames[at])
    if data is None:
        batch.unreadable.add(at)
    return data or _NOTHING


_READING = rows.Reading(NAME, _MESSAGE, _Message(), _walk, SIDE, from_ms, unstamped, control)


def decode(frames: Sequence[bytes], receive_ns: I64, catalog: Catalog) -> Decoded:
    """Decode frames of `trade`, `aggTrade` and `bookTicker`, raw or combined; see `Venue.decode`."""
    return rows.decode(_READING, frames, receive_ns, catalog)


def trades_path(native: str, hole: Hole, page: int, got: Decoded | None) -> str:
    """Return the path of fills from an id on, oldest first, the id included; see `Venue.trades_path`.

    Where the first one is not known, each page ends where the one before begins.
    """
    before = hole.before
    if hole.after:
        first = int(got.ticks["trade_id"][-1]) + 1 if got else hole.after + 1
    else:
        before = int(got.ticks["trade_id"][0]) if got else before
        first = max(1, before - REFILL.page_rows)
    limit = max(1, min(REFILL.page_rows, before - first))
    return f"/api/v3/historicalTrades?symbol={quote(native)}&fromId={first}&limit={limit}"


def trades(body: bytes, native: str, receive_ns: int, catalog: Catalog) -> Decoded:
    """Read a page of fills; see `Venue.trades`."""
    fills = listing.read_list(_FILLS, body, NAME, "page of trades")
    found = [(f.price, f.qty, f.isBuyerMaker, f.id, f.time) for f in fills]
    return rows.decode_history(_READING, native, found, receive_ns, catalog)


def klines_path(native: str, interval_s: int, start_s: int, end_s: int) -> str:
    """Return the path of candles, oldest first; see `Venue.klines_path`."""
    window = f"startTime={start_s * 1000}&endTime={end_s * 1000}&limit={KLINES.rows}"
    return f"/api/v3/klines?symbol={quote(native)}&interval={KLINES.names[interval_s]}&{window}"


def klines(body: bytes) -> list[Kline]:
    """Read candles; see `Venue.klines`."""
    found = listing.read_list(_KLINES, body, NAME, "list of candles")
    return [Kline(k.open_ms // 1000, k.open, k.high, k.low, k.close, k.volume, k.quote_volume) for k in found]


def symbol_of_native(native: str) -> str | None:
    """Return our symbol for `BTCUSDT`."""
    return glued_symbol(native)


def instruments_path() -> str:
    """Return the REST path of the list of spot pairs."""
    return "/api/v3/exchangeInfo"


def instruments(body: bytes) -> list[Instrument]:
    """Read the list of spot pairs; see `Venue.instruments`."""
    listed = listing.read_list(_PAIRS, body, NAME, "list of pairs")
    return listing.instruments(
        (row.symbol, row.baseAsset, row.quoteAsset, row.status == "TRADING")
        for row in listed.symbols
        if row.isSpotTradingAllowed
    )


def volumes_path() -> str:
    """Return the REST path of 24 h statistics."""
    return "/api/v3/ticker/24hr"


def volumes(body: bytes) -> dict[str, float]:
    """Read turnover by native symbol; see `Venue.volumes`."""
    listed = listing.read_list(_STATISTICS, body, NAME, "24 h statistics")
    return listing.turnovers((row.symbol, row.quoteVolume) for row in listed)
