"""Gate spot, WebSocket v4: public trades and best bid and offer.

Source: Gate docs, Spot WebSocket v4 `spot.trades` and `spot.book_ticker`; frames in tests/captures/gateio.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from functools import partial
from math import nan

import msgspec

from connectors import listing, rows
from connectors.columns import spans_of, spans_to
from connectors.times import from_decimal_ms, from_ms
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
from market.schema import BUY, I64, NS_PER_S, SELL

NAME = "gateio"
WS_URL = "wss://api.gateio.ws/ws/v4/"
"""With its last slash."""
REST_URL = "https://api.gateio.ws"

HEARTBEAT = Heartbeat(ping=b'{"channel":"spot.ping"}', every_s=15.0, pong_s=10.0, silence_s=40.0)
"""No interval is documented; a socket that never sends anything was closed after about 30 s."""
LIMITS = Limits(
    topics_per_message=100, topics_per_connection=1000, messages_per_s=10.0, connections_per_window=(300, 300.0)
)
"""The venue documents no bounds for public channels; these are ours."""
REFILL = Refill(numbered=True, requests=100, per_s=10.0, page_rows=1000, pages=20)
"""Half of the 200 requests in 10 s; `range` counts one market's fills, REST calls the number `sequence_id`."""
KLINES = Klines(
    {60: "1m", 300: "5m", 900: "15m", 3_600: "1h", 14_400: "4h", 86_400: "1d"}, rows=1000, requests=100, per_s=10.0
)
"""Half of the 200 requests in 10 s."""

TRADES = "spot.trades"
QUOTES = "spot.book_ticker"
UPDATE = "update"
SIDE = {"buy": BUY, "sell": SELL}
"""The taker's side."""

_NAMED = re.compile(r"\b[A-Z0-9]+_[A-Z0-9]+\b")


class _Row(msgspec.Struct, gc=False):
    """A trade or the best quote, by channel.

    `{"id":220643714,"id_market":220643714,"create_time":1790359171,"create_time_ms":"1790359171119.653000",
    "side":"sell","currency_pair":"BTC_USDT","amount":"0.002984","price":"83790.9","range":"220643714-220643714"}`
    `{"t":1654029559473,"u":6765708346,"s":"BTC_USDT","b":"31738.93","B":"2.3039","a":"31738.94","A":"0.335"}`

    `create_time_ms` is milliseconds with up to six decimals, as text. `range`, since 2025, is the first and the last
    number of the fills joined in a trade, in a count of its market; `id` is another count on some markets.
    """

    id: int = -1
    range: str = ""
    create_time_ms: str = ""
    side: str = ""
    currency_pair: str = ""
    amount: float | None = nan
    price: float | None = nan
    t: int = 0
    s: str = ""
    b: float | None = nan
    B: float | None = nan
    a: float | None = nan
    A: float | None = nan


class _Message(msgspec.Struct, gc=False):
    """`{"time":1790359171,"time_ms":1790359171120,"channel":"spot.trades","event":"update","result":{...}}`."""

    channel: str = ""
    event: str = ""
    result: _Row | None = None


class _Fault(msgspec.Struct):
    code: int = 0
    message: str = ""


class _Result(msgspec.Struct):
    type: str = ""


class _Answer(msgspec.Struct):
    """An answer, a pong or a notice.

    `{"time":1,"id":1,"channel":"spot.trades","event":"subscribe","payload":["BTC_USDT"],"result":{...}}`
    `{"time":1,"id":1,"channel":"spot.trades","event":"subscribe","error":{"code":2,"message":"..."},"result":{...}}`
    `{"time":1,"channel":"spot.pong","event":"","error":null,"result":null}`
    """

    channel: str = ""
    event: str = ""
    id: int | None = None
    payload: list[str] | None = None
    error: _Fault | None = None
    result: _Result | None = None


class _Pair(msgspec.Struct, gc=False):
    """`{"id":"BTC_USDT","base":"BTC","quote":"USDT","trade_status":"tradable"}`."""

    id: str
    base: str
    quote: str
    trade_status: str


class _Statistic(msgspec.Struct, gc=False):
    """`{"currency_pair":"BTC_USDT","quote_volume":"337744396.9986996"}`."""

    currency_pair: str
    quote_volume: float | str | None


class _Fill(msgspec.Struct, gc=False):
    """A fill of REST; `sequence_id` is its number in the count of `range`.

    `{"id":"1232893232","create_time_ms":"1548000000123.456","side":"buy","amount":"0.15","price":"0.03",
    "currency_pair":"ETH_BTC","sequence_id":"588018"}`
    """

    id: str
    create_time_ms: str
    side: str
    amount: float
    price: float
    sequence_id: str = ""


class _Kline(msgspec.Struct, array_like=True, gc=False):
    """`["1539852480","971519.677","0.0021724","0.0021922","0.0021724","0.0021737","446853.5","true"]`."""

    open_s: int
    quote_volume: float
    close: float
    high: float
    low: float
    open: float
    volume: float


_MESSAGE = msgspec.json.Decoder(_Message, strict=False)
_ANSWER = msgspec.json.Decoder(_Answer)
_PAIRS = msgspec.json.Decoder(list[_Pair])
_STATISTICS = msgspec.json.Decoder(list[_Statistic])
_KLINES = msgspec.json.Decoder(list[_Kline], strict=False)
_FILLS = msgspec.json.Decoder(list[_Fill], strict=False)


def handshake() -> str | None:
    """Return None: no token is needed."""
    return None


def endpoint(ws_url: str, reply: bytes | None, topics: Sequence[str]) -> tuple[str, Heartbeat]:
    """Return the base URL itself; the heartbeat is fixed."""
    return ws_url, HEARTBEAT


def topics(natives: Sequence[str]) -> list[str]:
    """Return `channel:BASE_QUOTE` for trades, then quotes."""
    return [f"{channel}:{native}" for channel in (TRADES, QUOTES) for native in natives]


def subscribe(topics: Sequence[str], first_id: int) -> list[Request]:
    """Return subscribe requests, one channel each; each draws one ack. `time` is left out: it is not required."""
    return _requests("subscribe", topics, first_id)


def unsubscribe(topics: Sequence[str], first_id: int) -> list[Request]:
    """Return unsubscribe requests of the same shape."""
    return _requests("unsubscribe", topics, first_id)


def _requests(event: str, topics: Sequence[str], first_id: int) -> list[Request]:
    requests = []
    for number, (channel, natives) in enumerate(by_channel(topics, LIMITS.topics_per_message), first_id):
        asked = tuple(f"{channel}:{native}" for native in natives)
        frame = msgspec.json.encode({"id": number, "channel": channel, "event": event, "payload": natives})
        requests.append(Request(frame, asked, acks=1, key=str(number)))
    return requests


def waits_for_welcome() -> bool:
    """Return False: requests may be sent at once."""
    return False


def answer(frame: bytes) -> bytes | None:
    """Return None: the venue sends no application pings."""
    return None


def control(frame: bytes) -> Control | None:
    """Read an ack, a refusal, a pong or the notice of an upgrade."""
    message = rows.read_one(_ANSWER, frame)
    if message is None:
        return None
    key = "" if message.id is None else str(message.id)
    if message.channel.endswith(".pong"):
        return Control("pong", key)
    if message.channel.endswith(".system") and message.result is not None:
        return Control("notice", key, text=message.result.type)
    if message.error is not None:
        kind = "refusal" if message.event == "subscribe" else "error"
        return Control(kind, key, _named(message), str(message.error.code), message.error.message)
    if message.event in ("subscribe", "unsubscribe"):
        return Control("ack", key)
    return None


def _named(message: _Answer) -> str:
    """Return the market that an error speaks of: named in its words, or the only one asked for."""
    found = _NAMED.search(message.error.message if message.error else "")
    if found:
        return found[0]
    return message.payload[0] if message.payload and len(message.payload) == 1 else ""


def _walk(messages: list[_Message], batch: rows.Batch) -> None:
    trades_at: list[int] = []
    quotes_at: list[int] = []
    trades: list[_Row] = []
    quotes: list[_Row] = []
    for at, message in enumerate(messages):
        channel, row = message.channel, message.result
        if row is None or message.event != UPDATE:
            batch.others.append(at)
        elif channel == TRADES:
            trades_at.append(at)
            trades.append(row)
        elif channel == QUOTES:
            quotes_at.append(at)
            quotes.append(row)
        else:
            batch.others.append(at)
    if trades:
        batch.trades = rows.Trades(
            trades_at,
            [trade.currency_pair for trade in trades],
            [trade.price for trade in trades],
            [trade.amount for trade in trades],
            [trade.side for trade in trades],
            [trade.id for trade in trades],
            [trade.create_time_ms for trade in trades],
        )
        batch.read_spans = partial(spans_of, [trade.range for trade in trades])
    if quotes:
        batch.quotes = rows.Quotes(
            quotes_at,
            [quote.s for quote in quotes],
            [quote.b for quote in quotes],
            [quote.B for quote in quotes],
            [quote.a for quote in quotes],
            [quote.A for quote in quotes],
            [quote.t for quote in quotes],
        )


_READING = rows.Reading(NAME, _MESSAGE, _Message(), _walk, SIDE, from_decimal_ms, from_ms, control)


def decode(frames: Sequence[bytes], receive_ns: I64, catalog: Catalog) -> Decoded:
    """Decode frames of `spot.trades` and `spot.book_ticker`; see `Venue.decode`."""
    return rows.decode(_READING, frames, receive_ns, catalog)


def trades_path(native: str, hole: Hole, page: int, got: Decoded | None) -> str:
    """Return the path of a page of the fills within some seconds, newest first; see `Venue.trades_path`."""
    from_s, to_s = hole.from_ns // NS_PER_S, hole.to_ns // NS_PER_S + 1
    return (
        f"/api/v4/spot/trades?currency_pair={native}&from={from_s}&to={to_s}&limit={REFILL.page_rows}&page={page + 1}"
    )


def trades(body: bytes, native: str, receive_ns: int, catalog: Catalog) -> Decoded:
    """Read a page of single fills; see `Venue.trades`."""
    fills = listing.read_list(_FILLS, body, NAME, "page of trades")
    found = [(f.price, f.amount, f.side, f.id, f.create_time_ms) for f in fills]
    read_spans = partial(spans_to, [f.sequence_id for f in fills], [1] * len(fills))
    return rows.decode_history(_READING, native, found, receive_ns, catalog, read_spans)


def klines_path(native: str, interval_s: int, start_s: int, end_s: int) -> str:
    """Return the path of candles, oldest first; see `Venue.klines_path`."""
    window = f"interval={KLINES.names[interval_s]}&from={start_s}&to={end_s}"
    return f"/api/v4/spot/candlesticks?currency_pair={native}&{window}"


def klines(body: bytes) -> list[Kline]:
    """Read candles; see `Venue.klines`."""
    found = listing.read_list(_KLINES, body, NAME, "list of candles")
    return [Kline(k.open_s, k.open, k.high, k.low, k.close, k.volume, k.quote_volume) for k in found]


def symbol_of_native(native: str) -> str | None:
    """Return our symbol for `BTC_USDT`."""
    base, separator, quote = native.partition("_")
    return paired_symbol(base, quote) if separator else None


def instruments_path() -> str:
    """Return the REST path of the list of spot pairs."""
    return "/api/v4/spot/currency_pairs"


def instruments(body: bytes) -> list[Instrument]:
    """Read the list of spot pairs; see `Venue.instruments`."""
    listed = listing.read_list(_PAIRS, body, NAME, "list of pairs")
    return listing.instruments((row.id, row.base, row.quote, row.trade_status == "tradable") for row in listed)


def volumes_path() -> str:
    """Return the REST path of 24 h statistics."""
    return "/api/v4/spot/tickers"


def volumes(body: bytes) -> dict[str, float]:
    """Read turnover by native symbol; see `Venue.volumes`."""
    listed = listing.read_list(_STATISTICS, body, NAME, "24 h statistics")
    return listing.turnovers((row.currency_pair, row.quote_volume) for row in listed)
