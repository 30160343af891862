"""Kraken spot, WebSocket v2: public trades and best bid and offer.

Source: docs.kraken.com, spot WebSocket v2 `trade` and `ticker`; frames in tests/captures/kraken.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from math import nan

import msgspec

from connectors import listing, rows
from connectors.times import from_ns, from_rfc3339
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
from market.symbols import ALIASES, split_native

NAME = "kraken"
WS_URL = "wss://ws.kraken.com/v2"
REST_URL = "https://api.kraken.com"

HEARTBEAT = Heartbeat(ping=b'{"method":"ping"}', every_s=30.0, pong_s=10.0, silence_s=10.0)
"""The venue sends a heartbeat a second while nothing else is sent; our ping only holds a socket not yet subscribed."""
LIMITS = Limits(
    topics_per_message=100, topics_per_connection=1000, messages_per_s=1.0, connections_per_window=(150, 600.0)
)
"""No bounds are stated; the allowed rate is dynamic and unpublished, one request a second is a safe pace."""
REFILL = Refill(numbered=True, requests=1, per_s=1.0, page_rows=1000, pages=20, by_time=True)
"""About one request a second an address and pair is safe; `trade_id` rises by one a symbol."""
KLINES = Klines(
    {60: "1", 300: "5", 900: "15", 3_600: "60", 14_400: "240", 86_400: "1440"}, rows=720, requests=2, per_s=2.0
)
"""About one request a second is safe; the newest 720 candles are all there is, whatever is asked for."""

TRADES = "trade"
QUOTES = "ticker"
SIDE = {"buy": BUY, "sell": SELL}
"""The taker's side."""

_OPTIONS: dict[str, dict[str, object]] = {TRADES: {"snapshot": False}, QUOTES: {"event_trigger": "bbo"}}
_LEGACY_QUOTES = {"ZUSD", "ZEUR", "ZGBP", "ZCAD", "ZJPY", "ZAUD", "XXBT", "XETH"}
"""Quote currencies as the eight-letter REST keys write them, `XXBTZUSD`."""

_REST_CODES = {"BTC": "XBT", "DOGE": "XDG"}
"""Currencies that REST names otherwise than WebSocket v2."""


class _Row(msgspec.Struct, gc=False):
    """A trade or the best quote, by channel.

    `{"symbol":"BTC/USD","side":"sell","price":77566.2,"qty":0.00015760,"ord_type":"limit","trade_id":105749532,
    "timestamp":"2026-08-23T13:40:09.726398Z"}`
    `{"symbol":"BTC/USD","bid":81205.0,"bid_qty":0.58905885,"ask":81205.1,"ask_qty":0.69697106,"last":81205.1,...,
    "timestamp":"2026-09-04T00:21:20.217476Z"}`; quotes before 2026 have no time.
    """

    symbol: str = ""
    side: str = ""
    price: float | None = nan
    qty: float | None = nan
    trade_id: int = -1
    timestamp: str = ""
    bid: float | None = nan
    bid_qty: float | None = nan
    ask: float | None = nan
    ask_qty: float | None = nan


class _Message(msgspec.Struct, gc=False):
    """`{"channel":"trade","type":"update","data":[...]}`; type `snapshot` repeats the last 50 trades."""

    channel: str = ""
    type: str = ""
    data: list[_Row] = []


class _State(msgspec.Struct):
    system: str = ""


class _Result(msgspec.Struct):
    symbol: str = ""


class _Answer(msgspec.Struct):
    """An answer, a heartbeat or the venue's state.

    `{"method":"subscribe","result":{"channel":"trade","symbol":"BTC/USD"},"success":true,"req_id":1}`
    `{"error":"Currency pair not supported XBT/USD","method":"subscribe","success":false,"symbol":"XBT/USD"}`
    `{"channel":"status","type":"update","data":[{"system":"online","api_version":"v2"}]}`
    """

    method: str = ""
    channel: str = ""
    success: bool = False
    error: str = ""
    Error: str = ""
    symbol: str = ""
    req_id: int | None = None
    result: _Result | None = None
    data: list[_State] = []


class _Pair(msgspec.Struct, gc=False):
    """`{"altname":"XBTUSD","wsname":"XBT/USD","base":"XXBT","quote":"ZUSD","status":"online"}`."""

    altname: str
    wsname: str = ""
    status: str = "online"


class _Pairs(msgspec.Struct):
    error: list[str]
    result: dict[str, _Pair] = {}


class _Statistic(msgspec.Struct, gc=False):
    """`{"v":["735.06931643","5243.60824494"],"p":["29812.62518","30272.79057"]}`: volume and vwap, today and 24 h."""

    v: tuple[float, float]
    p: tuple[float, float]


class _Statistics(msgspec.Struct):
    error: list[str]
    result: dict[str, _Statistic] = {}


class _Fill(msgspec.Struct, array_like=True, gc=False):
    """`["30243.40000","0.34507674",1688669597.8277369,"b","m","",61044952]`; the time is a number of seconds."""

    price: float
    volume: float
    time: float
    side: str
    kind: str
    other: str
    trade_id: int


class _Fills(msgspec.Struct):
    """`{"error":[],"result":{"XXBTZUSD":[...],"last":"1688671969993150842"}}`: one pair, under a name of REST's own."""

    error: list[str]
    result: dict[str, msgspec.Raw] = {}


class _Kline(msgspec.Struct, array_like=True, gc=False):
    """`[1688671200,"30306.1","30306.2","30305.7","30305.7","30306.1","3.39243896",23]`; the sixth is the vwap."""

    open_s: int
    open: float
    high: float
    low: float
    close: float
    vwap: float
    volume: float


_MESSAGE = msgspec.json.Decoder(_Message)
_ANSWER = msgspec.json.Decoder(_Answer)
_PAIRS = msgspec.json.Decoder(_Pairs)
_STATISTICS = msgspec.json.Decoder(_Statistics, strict=False)
_KLINES = msgspec.json.Decoder(list[_Kline], strict=False)
_FILLS = msgspec.json.Decoder(_Fills)
_FILL_LIST = msgspec.json.Decoder(list[_Fill], strict=False)


def handshake() -> str | None:
    """Return None: no token is needed."""
    return None


def endpoint(ws_url: str, reply: bytes | None, topics: Sequence[str]) -> tuple[str, Heartbeat]:
    """Return the base URL itself; the heartbeat is fixed."""
    return ws_url, HEARTBEAT


def topics(natives: Sequence[str]) -> list[str]:
    """Return `channel:BASE/QUOTE` for trades, then quotes."""
    return [f"{channel}:{native}" for channel in (TRADES, QUOTES) for native in natives]


def subscribe(topics: Sequence[str], first_id: int) -> list[Request]:
    """Return subscribe requests, one channel each; every symbol is acknowledged by itself, with the request's id."""
    return _requests("subscribe", topics, first_id)


def unsubscribe(topics: Sequence[str], first_id: int) -> list[Request]:
    """Return unsubscribe requests of the same shape."""
    return _requests("unsubscribe", topics, first_id)


def _requests(method: str, topics: Sequence[str], first_id: int) -> list[Request]:
    requests = []
    for number, (channel, natives) in enumerate(by_channel(topics, LIMITS.topics_per_message), first_id):
        asked = tuple(f"{channel}:{native}" for native in natives)
        params = {"channel": channel, "symbol": natives, **_OPTIONS.get(channel, {})}
        frame = msgspec.json.encode({"method": method, "params": params, "req_id": number})
        requests.append(Request(frame, asked, acks=len(natives), key=str(number)))
    return requests


def waits_for_welcome() -> bool:
    """Return False: requests may be sent before the first status frame."""
    return False


def answer(frame: bytes) -> bytes | None:
    """Return None: the venue sends no application pings."""
    return None


def control(frame: bytes) -> Control | None:
    """Read an ack, a refusal, a pong, a heartbeat or the venue's state; maintenance is a notice."""
    message = rows.read_one(_ANSWER, frame)
    if message is None:
        return None
    key = "" if message.req_id is None else str(message.req_id)
    if message.channel == "heartbeat":
        return Control("heartbeat")
    if message.channel == "status":
        system = message.data[0].system if message.data else ""
        return Control("notice" if system == "maintenance" else "heartbeat", text=system)
    if message.method == "pong":
        return Control("pong", key)
    if message.method in ("subscribe", "unsubscribe"):
        native = message.result.symbol if message.result else message.symbol
        good = message.success or message.error == "Already subscribed"
        return Control("ack" if good else "refusal", key, native, text=message.error)
    text = message.error or message.Error
    return Control("error", key, message.symbol, text=text) if text else None


def _walk(messages: list[_Message], batch: rows.Batch) -> None:
    trades_at: list[int] = []
    quotes_at: list[int] = []
    sold: list[list[_Row]] = []
    quoted: list[list[_Row]] = []
    for at, message in enumerate(messages):
        channel, data = message.channel, message.data
        if channel == TRADES and data:
            trades_at.append(at)
            sold.append(data)
            if message.type == "snapshot":
                batch.replayed.append(at)
        elif channel == QUOTES and data:
            quotes_at.append(at)
            quoted.append(data)
        else:
            batch.others.append(at)
    if sold:
        trades = rows.flat(sold)
        batch.trades = rows.Trades(
            rows.beside(trades, sold, trades_at),
            [trade.symbol for trade in trades],
            [trade.price for trade in trades],
            [trade.qty for trade in trades],
            [trade.side for trade in trades],
            [trade.trade_id for trade in trades],
            [trade.timestamp for trade in trades],
        )
    if quoted:
        quotes = rows.flat(quoted)
        batch.quotes = rows.Quotes(
            rows.beside(quotes, quoted, quotes_at),
            [quote.symbol for quote in quotes],
            [quote.bid for quote in quotes],
            [quote.bid_qty for quote in quotes],
            [quote.ask for quote in quotes],
            [quote.ask_qty for quote in quotes],
            [quote.timestamp for quote in quotes],
        )


_READING = rows.Reading(NAME, _MESSAGE, _Message(), _walk, SIDE, from_rfc3339, from_rfc3339, control)


def decode(frames: Sequence[bytes], receive_ns: I64, catalog: Catalog) -> Decoded:
    """Decode frames of `trade` and `ticker`; see `Venue.decode`."""
    return rows.decode(_READING, frames, receive_ns, catalog)


_HISTORY = replace(_READING, sides={"b": BUY, "s": SELL}, trade_times=from_ns)


def trades_path(native: str, hole: Hole, page: int, got: Decoded | None) -> str:
    """Return the path of trades after a time, oldest first; see `Venue.trades_path`.

    Stamps are seconds as a number, exact to the microsecond: a page begins two before the last one's end.
    """
    since_ns = max(hole.from_ns, int(got.ticks["exchange_ns"].max()) if got else 0) - 2_000
    return f"/0/public/Trades?pair={_rest_pair(native)}&since={since_ns}&count={REFILL.page_rows}"


def trades(body: bytes, native: str, receive_ns: int, catalog: Catalog) -> Decoded:
    """Read a page of trades; see `Venue.trades`."""
    page = listing.read_list(_FILLS, body, NAME, "page of trades")
    listing.check_code(page.error, [], " ".join(page.error), NAME, "page of trades")
    pair = next((name for name in page.result if name != "last"), "")
    fills = listing.read_list(_FILL_LIST, bytes(page.result[pair]) if pair else b"[]", NAME, "page of trades")
    found = [(f.price, f.volume, f.side, f.trade_id, round(f.time * 1e6) * 1000) for f in fills]
    return rows.decode_history(_HISTORY, native, found, receive_ns, catalog)


def klines_path(native: str, interval_s: int, start_s: int, end_s: int) -> str:
    """Return the path of candles after a time, oldest first; see `Venue.klines_path`."""
    return f"/0/public/OHLC?pair={_rest_pair(native)}&interval={KLINES.names[interval_s]}&since={start_s - 1}"


def klines(body: bytes) -> list[Kline]:
    """Read candles; see `Venue.klines`."""
    page = listing.read_list(_FILLS, body, NAME, "list of candles")
    listing.check_code(page.error, [], " ".join(page.error), NAME, "list of candles")
    pair = next((name for name in page.result if name != "last"), "")
    found = listing.read_list(_KLINES, bytes(page.result[pair]) if pair else b"[]", NAME, "list of candles")
    return [Kline(k.open_s, k.open, k.high, k.low, k.close, k.volume, k.volume * k.vwap) for k in found]


def symbol_of_native(native: str) -> str | None:
    """Return our symbol for `BTC/USD`."""
    base, slash, quote = native.partition("/")
    return paired_symbol(base, quote) if slash else None


def _native(base: str, quote: str) -> str:
    """Return the name that WebSocket v2 uses: it refuses the XBT and XDG of REST."""
    return f"{ALIASES.get(base, base)}/{ALIASES.get(quote, quote)}"


def _rest_pair(native: str) -> str:
    """Return the name that REST knows a pair by, `BTC/USD` -> `XBTUSD`."""
    base, _, quote = native.partition("/")
    return f"{_REST_CODES.get(base, base)}{_REST_CODES.get(quote, quote)}"


def instruments_path() -> str:
    """Return the REST path of the list of spot pairs."""
    return "/0/public/AssetPairs"


def instruments(body: bytes) -> list[Instrument]:
    """Read the list of spot pairs by `wsname`; see `Venue.instruments`. Pairs without one are not on the WebSocket."""
    listed = listing.read_list(_PAIRS, body, NAME, "list of pairs")
    listing.check_code(listed.error, [], " ".join(listed.error), NAME, "list of pairs")
    named = [(*pair.wsname.partition("/"), pair.status == "online") for pair in listed.result.values()]
    return listing.instruments((_native(base, quote), base, quote, trading) for base, _, quote, trading in named)


def volumes_path() -> str:
    """Return the REST path of 24 h statistics."""
    return "/0/public/Ticker"


def volumes(body: bytes) -> dict[str, float]:
    """Read turnover by native symbol: 24 h volume times 24 h vwap; see `Venue.volumes`."""
    listed = listing.read_list(_STATISTICS, body, NAME, "24 h statistics")
    listing.check_code(listed.error, [], " ".join(listed.error), NAME, "24 h statistics")
    named = ((_native_of_key(key), row.v[1] * row.p[1]) for key, row in listed.result.items())
    return listing.turnovers((native, turnover) for native, turnover in named if native)


def _native_of_key(key: str) -> str:
    """Return the native symbol for a REST key, `XXBTZUSD` `USDTZUSD` `SOLUSD` `SOL/USD`; "" if it cannot be split."""
    base, slash, quote = key.partition("/")
    if slash:
        return _native(base, quote)
    if len(key) == 8 and key[4:] in _LEGACY_QUOTES:
        base = key[:4]
        return _native(base[1:] if base[0] in "XZ" else base, key[5:])
    parts = split_native(key)
    if parts is None:
        return ""
    return _native(parts[0], parts[1])
