"""OKX v5: public trades and best bid and offer.

Source: OKX API v5 documentation, public channels `trades` and `bbo-tbt`; frames in tests/captures/okx.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from functools import partial
from math import nan

import msgspec

from connectors import listing, rows
from connectors.columns import spans_to
from connectors.times import from_ms
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
    paired_symbol,
)
from market.schema import BUY, I64, SELL

NAME = "okx"
WS_URL = "wss://ws.okx.com:8443/ws/v5/public"
REST_URL = "https://www.okx.com"

HEARTBEAT = Heartbeat(ping=b"ping", every_s=20.0, pong_s=10.0, silence_s=35.0)
"""A bare text `ping`: the server closes a socket on which nothing was pushed for 30 s."""
LIMITS = Limits(
    topics_per_message=200,
    topics_per_connection=1000,
    messages_per_s=3.0,
    connections_per_window=(3, 1.0),
    request_bytes=65_536,
    requests_per_hour=480,
)
"""The documented bounds are 64 KB a request and 480 requests an hour; 200 topics are about 11 KB."""
REFILL = Refill(numbered=True, requests=10, per_s=2.0, page_rows=100, pages=200)
"""Half of the 20 requests in 2 s; `tradeId` counts single fills, of which a push joins the last `count`."""
KLINES = Klines(
    {60: "1m", 300: "5m", 900: "15m", 3_600: "1H", 14_400: "4H", 86_400: "1Dutc"}, rows=300, requests=20, per_s=2.0
)
"""Half of the 40 requests in 2 s. `1D` would begin at midnight of Hong Kong."""

TRADES = "trades"
QUOTES = "bbo-tbt"
SIDE = {"buy": BUY, "sell": SELL}
"""The taker's side."""
PERPETUAL = "SWAP"

_REFUSED = "60018"
_NOTICE = "64008"
_NAMED = re.compile(r"instId:([A-Za-z0-9_-]+)")


class _Arg(msgspec.Struct, gc=False):
    channel: str = ""
    instId: str = ""


class _Level(msgspec.Struct, array_like=True, gc=False):
    """`["84093.5","667.19","0","70"]`: price, size, a leftover, orders."""

    price: float | None = nan
    size: float | None = nan


class _Row(msgspec.Struct, gc=False):
    """A trade or the best levels, by channel.

    `{"instId":"BTC-USDT","tradeId":"1002","px":"77708","sz":"0.1","side":"buy","ts":"1788416106000","count":"1"}`
    `{"asks":[["84093.5","667.19","0","70"]],"bids":[["84093.4","570.27","0","83"]],"ts":"1790439594900"}`

    A push joins the `count` fills of one taker order at one price; `tradeId` is the last of them. Frames before 2023
    have no `count` and join nothing.
    """

    tradeId: str = ""
    count: int = 1
    px: float = nan
    sz: float = nan
    side: str = ""
    asks: list[_Level] | None = None
    bids: list[_Level] | None = None
    ts: int = 0


class _Message(msgspec.Struct, gc=False):
    """`{"arg":{"channel":"trades","instId":"BTC-USDT"},"data":[...]}`."""

    arg: _Arg = msgspec.field(default_factory=_Arg)
    data: list[_Row] = []


class _Answer(msgspec.Struct, gc=False):
    """An answer to a request, or a notice.

    `{"event":"subscribe","arg":{"channel":"trades","instId":"BTC-USDT"},"connId":"47165dce"}`
    `{"event":"error","msg":"...channel:candle1m,instId:BTC-USDT doesn't exist...","code":"60018","connId":"25ebf8bb"}`
    """

    event: str = ""
    id: str = ""
    arg: _Arg = msgspec.field(default_factory=_Arg)
    code: str = ""
    msg: str = ""


class _Pair(msgspec.Struct, gc=False):
    """`{"instId":"BTC-USDT","baseCcy":"BTC","quoteCcy":"USDT","state":"live"}`."""

    instId: str
    baseCcy: str
    quoteCcy: str
    state: str


class _Pairs(msgspec.Struct):
    code: str
    data: list[_Pair]
    msg: str = ""


class _Statistic(msgspec.Struct, gc=False):
    """`{"instId":"BTC-USDT","volCcy24h":"123456.7"}`; on spot `volCcy24h` is in the quote currency."""

    instId: str
    volCcy24h: float | str | None


class _Statistics(msgspec.Struct):
    code: str
    data: list[_Statistic]
    msg: str = ""


class _Fills(msgspec.Struct):
    """`{"code":"0","msg":"","data":[{"instId":"BTC-USDT","side":"sell","sz":"0.1","px":"77708","tradeId":"1002",...}]}`."""

    code: str
    data: list[_Row]
    msg: str = ""


class _Kline(msgspec.Struct, array_like=True, gc=False):
    """`["1597026383085","3.721","3.743","3.677","3.708","8422410","22698348.04","12698348.04","1"]`."""

    open_ms: int
    open: float
    high: float
    low: float
    close: float
    volume: float
    quote_volume: float


class _Klines(msgspec.Struct):
    code: str
    data: list[_Kline]
    msg: str = ""


_MESSAGE = msgspec.json.Decoder(_Message, strict=False)
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
    """Return `channel:instId` for trades, then quotes."""
    return [f"{channel}:{native}" for channel in (TRADES, QUOTES) for native in natives]


def subscribe(topics: Sequence[str], first_id: int) -> list[Request]:
    """Return subscribe requests; each topic is acknowledged by itself."""
    return _requests("subscribe", topics, first_id)


def unsubscribe(topics: Sequence[str], first_id: int) -> list[Request]:
    """Return unsubscribe requests of the same shape."""
    return _requests("unsubscribe", topics, first_id)


def _requests(op: str, topics: Sequence[str], first_id: int) -> list[Request]:
    requests = []
    for number, part in enumerate(split(topics, LIMITS.topics_per_message), first_id):
        pairs = [topic.partition(":") for topic in part]
        args = [{"channel": channel, "instId": native} for channel, _, native in pairs]
        frame = msgspec.json.encode({"id": str(number), "op": op, "args": args})
        requests.append(Request(frame, tuple(part), acks=len(args), key=str(number)))
    return requests


def waits_for_welcome() -> bool:
    """Return False: requests may be sent at once."""
    return False


def answer(frame: bytes) -> bytes | None:
    """Return None: the venue sends no application pings."""
    return None


def control(frame: bytes) -> Control | None:
    """Read an ack, an error, a notice or the text `pong`."""
    if frame == b"pong":
        return Control("pong")
    message = rows.read_one(_ANSWER, frame)
    if message is None or not message.event:
        return None
    native = message.arg.instId
    if message.event in ("subscribe", "unsubscribe"):
        return Control("ack", message.id, native)
    if message.event == "notice":
        return Control("notice", message.id, native, message.code, message.msg)
    if message.event == "error":
        named = _NAMED.search(message.msg)
        kind = "refusal" if message.code == _REFUSED else "error"
        return Control(kind, message.id, native or (named[1] if named else ""), message.code, message.msg)
    return None


def _walk(messages: list[_Message], batch: rows.Batch) -> None:
    trades_at: list[int] = []
    quotes_at: list[int] = []
    sold: list[list[_Row]] = []
    quoted: list[list[_Row]] = []
    trade_natives: list[str] = []
    quote_natives: list[str] = []
    for at, message in enumerate(messages):
        arg, data = message.arg, message.data
        channel, native = arg.channel, arg.instId
        if channel == TRADES and data:
            trades_at.append(at)
            sold.append(data)
            trade_natives.append(native)
        elif channel == QUOTES and data:
            quotes_at.append(at)
            quoted.append(data)
            quote_natives.append(native)
        else:
            batch.others.append(at)
    if sold:
        trades = rows.flat(sold)
        ids = [trade.tradeId for trade in trades]
        batch.trades = rows.Trades(
            rows.beside(trades, sold, trades_at),
            rows.beside(trades, sold, trade_natives),
            [trade.px for trade in trades],
            [trade.sz for trade in trades],
            [trade.side for trade in trades],
            ids,
            [trade.ts for trade in trades],
        )
        batch.read_spans = partial(spans_to, ids, [trade.count for trade in trades])
    if quoted:
        quotes = rows.flat(quoted)
        bids = [quote.bids[0] if quote.bids else _ABSENT for quote in quotes]
        asks = [quote.asks[0] if quote.asks else _ABSENT for quote in quotes]
        batch.quotes = rows.Quotes(
            rows.beside(quotes, quoted, quotes_at),
            rows.beside(quotes, quoted, quote_natives),
            [bid.price for bid in bids],
            [bid.size for bid in bids],
            [ask.price for ask in asks],
            [ask.size for ask in asks],
            [quote.ts for quote in quotes],
        )


_READING = rows.Reading(NAME, _MESSAGE, _Message(), _walk, SIDE, from_ms, from_ms, control)


def decode(frames: Sequence[bytes], receive_ns: I64, catalog: Catalog) -> Decoded:
    """Decode frames of `trades` and `bbo-tbt`; see `Venue.decode`."""
    return rows.decode(_READING, frames, receive_ns, catalog)


def trades_path(native: str, hole: Hole, page: int, got: Decoded | None) -> str:
    """Return the path of fills older than an id, newest first; see `Venue.trades_path`."""
    before = int(got.ticks["trade_id"][-1]) if got else hole.before
    return f"/api/v5/market/history-trades?instId={native}&type=1&after={before}&limit={REFILL.page_rows}"


def trades(body: bytes, native: str, receive_ns: int, catalog: Catalog) -> Decoded:
    """Read a page of single fills; see `Venue.trades`."""
    page = listing.read_list(_FILLS, body, NAME, "page of trades")
    listing.check_code(page.code, "0", page.msg, NAME, "page of trades")
    found = [(f.px, f.sz, f.side, f.tradeId, f.ts) for f in page.data]
    return rows.decode_history(_READING, native, found, receive_ns, catalog)


def klines_path(native: str, interval_s: int, start_s: int, end_s: int) -> str:
    """Return the path of candles, newest first, the bounds not included; see `Venue.klines_path`."""
    window = f"before={start_s * 1000 - 1}&after={end_s * 1000 + 1}&limit={KLINES.rows}"
    return f"/api/v5/market/candles?instId={native}&bar={KLINES.names[interval_s]}&{window}"


def klines(body: bytes) -> list[Kline]:
    """Read candles; see `Venue.klines`."""
    page = listing.read_list(_KLINES, body, NAME, "list of candles")
    listing.check_code(page.code, "0", page.msg, NAME, "list of candles")
    return [Kline(k.open_ms // 1000, k.open, k.high, k.low, k.close, k.volume, k.quote_volume) for k in page.data]


def symbol_of_native(native: str) -> str | None:
    """Return our symbol: `BTC-USDT`, or `BTC-USDT-PERP` for `BTC-USDT-SWAP`; None for dated contracts and options."""
    match native.split("-"):
        case [base, quote]:
            return paired_symbol(base, quote)
        case [base, quote, kind] if kind == PERPETUAL:
            return paired_symbol(base, quote, perpetual=True)
    return None


def instruments_path() -> str:
    """Return the REST path of the list of spot pairs."""
    return "/api/v5/public/instruments?instType=SPOT"


def instruments(body: bytes) -> list[Instrument]:
    """Read the list of spot pairs; see `Venue.instruments`."""
    listed = listing.read_list(_PAIRS, body, NAME, "list of pairs")
    listing.check_code(listed.code, "0", listed.msg, NAME, "list of pairs")
    return listing.instruments((row.instId, row.baseCcy, row.quoteCcy, row.state == "live") for row in listed.data)


def volumes_path() -> str:
    """Return the REST path of 24 h statistics."""
    return "/api/v5/market/tickers?instType=SPOT"


def volumes(body: bytes) -> dict[str, float]:
    """Read turnover by native symbol; see `Venue.volumes`."""
    listed = listing.read_list(_STATISTICS, body, NAME, "24 h statistics")
    listing.check_code(listed.code, "0", listed.msg, NAME, "24 h statistics")
    return listing.turnovers((row.instId, row.volCcy24h) for row in listed.data)
