"""Bitget v2: public trades and best bid and offer.

Source: Bitget docs, v2 Trading Channel and Depth Channel; frames in tests/captures/bitget.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from math import nan

import msgspec

from connectors import listing, rows
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
    glued_symbol,
    paired_symbol,
)
from market.schema import BUY, I64, SELL

NAME = "bitget"
WS_URL = "wss://ws.bitget.com/v2/ws/public"
REST_URL = "https://api.bitget.com"

HEARTBEAT = Heartbeat(ping=b"ping", every_s=30.0, pong_s=10.0, silence_s=45.0)
"""A bare text `ping` every 30 s as documented; the server closes after 2 minutes without."""
LIMITS = Limits(
    topics_per_message=20,
    topics_per_connection=1000,
    messages_per_s=10.0,
    connections_per_window=(300, 300.0),
    connection_life_s=86_400.0,
    request_bytes=4096,
    requests_per_hour=240,
)
"""The args of one request must stay under 4096 bytes; 20 were seen to be fine where 25 were not."""
REFILL = Refill(numbered=False, requests=5, per_s=1.0, page_rows=500, pages=20, coarse_ns=1_000_000_000)
"""Half of the 10 requests a second. Ids are ordered and skip: a page reaches far enough once it is older."""
KLINES = Klines(
    {60: "1min", 300: "5min", 900: "15min", 3_600: "1h", 14_400: "4h", 86_400: "1Dutc"},
    rows=1000,
    requests=10,
    per_s=1.0,
)
"""Half of the 20 requests a second. `1day` would begin at midnight of Singapore."""

TRADES = "trade"
QUOTES = "books1"
SPOT = "SPOT"
DERIVATIVES = ("USDT-FUTURES", "USDC-FUTURES", "COIN-FUTURES")
"""Kinds of instrument, by `instType`, whose natives are the spot ones': ours for them is `instType/instId`."""
SIDE = {"buy": BUY, "sell": SELL}
"""The taker's side."""

_REFUSED = {30001, 30016}
"""Channel or instrument does not exist; parameter error."""


class _Arg(msgspec.Struct, gc=False):
    instType: str = ""
    channel: str = ""
    instId: str = ""


class _Level(msgspec.Struct, array_like=True, gc=False):
    """`["72377.25","0.00408"]`: price, size."""

    price: float | None = nan
    size: float | None = nan


class _Row(msgspec.Struct, gc=False):
    """A trade or the best levels, by channel.

    `{"ts":"1730332858796","price":"72389.99","size":"0.001373","side":"buy","tradeId":"1235671058980749319"}`
    `{"asks":[["72377.25","0.00408"]],"bids":[["72354.67","1.16460"]],"checksum":0,"ts":"1730332859984"}`
    """

    ts: int = 0
    price: float | None = nan
    size: float | None = nan
    side: str = ""
    tradeId: str = ""
    asks: list[_Level] | None = None
    bids: list[_Level] | None = None


class _Message(msgspec.Struct, gc=False):
    """`{"action":"update","arg":{"instType":"SPOT","channel":"trade","instId":"BTCUSDT"},"data":[...],"ts":...}`.

    The first push of trades has action `snapshot`: 30 to 50 old trades, newest first.
    """

    action: str = ""
    arg: _Arg = msgspec.field(default_factory=_Arg)
    data: list[_Row] = []


class _Answer(msgspec.Struct):
    """An answer to one arg of a request.

    `{"event":"subscribe","arg":{"instType":"SPOT","channel":"trade","instId":"BTCUSDT"}}`
    `{"event":"error","arg":{...},"code":30001,"msg":"...doesn't exist","op":"subscribe"}`
    """

    event: str = ""
    arg: _Arg = msgspec.field(default_factory=_Arg)
    code: int | str = ""
    msg: str = ""


class _Pair(msgspec.Struct, gc=False):
    """`{"symbol":"BTCUSDT","baseCoin":"BTC","quoteCoin":"USDT","status":"online"}`."""

    symbol: str
    baseCoin: str
    quoteCoin: str
    status: str


class _Pairs(msgspec.Struct):
    code: str
    data: list[_Pair] = []
    msg: str = ""


class _Statistic(msgspec.Struct, gc=False):
    """`{"symbol":"BTCUSDT","quoteVolume":"120647061.749114"}`."""

    symbol: str
    quoteVolume: float | str | None


class _Statistics(msgspec.Struct):
    code: str
    data: list[_Statistic] = []
    msg: str = ""


class _Fills(msgspec.Struct):
    """`{"code":"00000","msg":"success","data":[{"symbol":"BTCUSDT","tradeId":"...","side":"buy","price":"...",...}]}`."""

    code: str
    data: list[_Row] | None = None
    msg: str = ""


class _Kline(msgspec.Struct, array_like=True, gc=False):
    """`["1656604800000","37834.5","37849.5","37773.5","37773.5","428.3462","16198849.1079","16198849.1079"]`."""

    open_ms: int
    open: float
    high: float
    low: float
    close: float
    volume: float
    quote_volume: float


class _Klines(msgspec.Struct):
    code: str
    data: list[_Kline] | None = None
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
    """Return subscribe requests; each topic is acknowledged by itself, and no id is repeated."""
    return _requests("subscribe", topics)


def unsubscribe(topics: Sequence[str], first_id: int) -> list[Request]:
    """Return unsubscribe requests of the same shape."""
    return _requests("unsubscribe", topics)


def _requests(op: str, topics: Sequence[str]) -> list[Request]:
    requests = []
    for part in split(topics, LIMITS.topics_per_message):
        pairs = [topic.partition(":") for topic in part]
        args = [{"instType": SPOT, "channel": channel, "instId": native} for channel, _, native in pairs]
        requests.append(Request(msgspec.json.encode({"op": op, "args": args}), tuple(part), acks=len(args)))
    return requests


def waits_for_welcome() -> bool:
    """Return False: requests may be sent at once."""
    return False


def answer(frame: bytes) -> bytes | None:
    """Return None: the venue sends no application pings."""
    return None


def control(frame: bytes) -> Control | None:
    """Read an ack, a refusal, an error or the text `pong`."""
    if frame == b"pong":
        return Control("pong")
    message = rows.read_one(_ANSWER, frame)
    if message is None:
        return None
    native = message.arg.instId
    if message.event in ("subscribe", "unsubscribe"):
        return Control("ack", native=native)
    if message.event == "error":
        kind = "refusal" if message.code in _REFUSED else "error"
        return Control(kind, native=native, code=str(message.code), text=message.msg)
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
        if arg.instType != SPOT:
            if arg.instType not in DERIVATIVES:  # an older dialect, or a newer
                batch.others.append(at)
                continue
            native = f"{arg.instType}/{native}"
        if channel == TRADES and data:
            trades_at.append(at)
            sold.append(data)
            trade_natives.append(native)
            if message.action == "snapshot":
                batch.replayed.append(at)
        elif channel == QUOTES and data:
            quotes_at.append(at)
            quoted.append(data)
            quote_natives.append(native)
        else:
            batch.others.append(at)
    if sold:
        trades = rows.flat(sold)
        batch.trades = rows.Trades(
            rows.beside(trades, sold, trades_at),
            rows.beside(trades, sold, trade_natives),
            [trade.price for trade in trades],
            [trade.size for trade in trades],
            [trade.side for trade in trades],
            [trade.tradeId for trade in trades],
            [trade.ts for trade in trades],
        )
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
    """Decode frames of `trade` and `books1`; see `Venue.decode`. Rows keep the venue's order, newest first."""
    return rows.decode(_READING, frames, receive_ns, catalog)


_HISTORY = replace(_READING, sides={**SIDE, "Buy": BUY, "Sell": SELL})


def trades_path(native: str, hole: Hole, page: int, got: Decoded | None) -> str:
    """Return the path of the newest fills, then of those older than an id, newest first; see `Venue.trades_path`.

    Only the newest have stamps in milliseconds, the history's are cut to the second.
    """
    if got is None:
        return f"/api/v2/spot/market/fills?symbol={native}&limit={REFILL.page_rows}"
    from_ms, to_ms = hole.from_ns // 1_000_000_000 * 1000, hole.to_ns // 1_000_000 + 1
    oldest = min(got.ticks["trade_id"].tolist(), key=int).decode()
    window = f"startTime={from_ms}&endTime={to_ms}&idLessThan={oldest}&limit={REFILL.page_rows}"
    return f"/api/v2/spot/market/fills-history?symbol={native}&{window}"


def trades(body: bytes, native: str, receive_ns: int, catalog: Catalog) -> Decoded:
    """Read a page of fills; see `Venue.trades`."""
    page = listing.read_list(_FILLS, body, NAME, "page of trades")
    listing.check_code(page.code, "00000", page.msg, NAME, "page of trades")
    found = [(f.price, f.size, f.side, f.tradeId, f.ts) for f in page.data or []]
    return rows.decode_history(_HISTORY, native, found, receive_ns, catalog)


def klines_path(native: str, interval_s: int, start_s: int, end_s: int) -> str:
    """Return the path of candles; see `Venue.klines_path`."""
    window = f"startTime={start_s * 1000}&endTime={end_s * 1000 + 1}&limit={KLINES.rows}"
    return f"/api/v2/spot/market/candles?symbol={native}&granularity={KLINES.names[interval_s]}&{window}"


def klines(body: bytes) -> list[Kline]:
    """Read candles; see `Venue.klines`."""
    page = listing.read_list(_KLINES, body, NAME, "list of candles")
    listing.check_code(page.code, "00000", page.msg, NAME, "list of candles")
    found = page.data or []
    return [Kline(k.open_ms // 1000, k.open, k.high, k.low, k.close, k.volume, k.quote_volume) for k in found]


def symbol_of_native(native: str) -> str | None:
    """Return our symbol for `BTCUSDT`, or for `USDT-FUTURES/BTCUSDT` and `USDC-FUTURES/BTCPERP` the perpetual's."""
    kind, slash, name = native.rpartition("/")
    if not slash:
        return glued_symbol(native)
    if kind not in DERIVATIVES:
        return None
    if kind == "USDC-FUTURES" and name.endswith("PERP"):
        return paired_symbol(name.removesuffix("PERP"), "USDC", perpetual=True)
    symbol = glued_symbol(name)
    return None if symbol is None else f"{symbol}-PERP"


def instruments_path() -> str:
    """Return the REST path of the list of spot pairs."""
    return "/api/v2/spot/public/symbols"


def instruments(body: bytes) -> list[Instrument]:
    """Read the list of spot pairs; see `Venue.instruments`."""
    listed = listing.read_list(_PAIRS, body, NAME, "list of pairs")
    listing.check_code(listed.code, "00000", listed.msg, NAME, "list of pairs")
    return listing.instruments((row.symbol, row.baseCoin, row.quoteCoin, row.status == "online") for row in listed.data)


def volumes_path() -> str:
    """Return the REST path of 24 h statistics."""
    return "/api/v2/spot/market/tickers"


def volumes(body: bytes) -> dict[str, float]:
    """Read turnover by native symbol; see `Venue.volumes`."""
    listed = listing.read_list(_STATISTICS, body, NAME, "24 h statistics")
    listing.check_code(listed.code, "00000", listed.msg, NAME, "24 h statistics")
    return listing.turnovers((row.symbol, row.quoteVolume) for row in listed.data)
