"""The contract between a venue's module and the generic code over it.

A venue is a module, not a class: facts, what to say, how to read. It has no I/O, no clock, no log and no memory
across calls. Connecting, beating, reconnecting, counting and ordering exist once, elsewhere.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, NamedTuple, Protocol

from market.schema import I64, Rows
from market.symbols import check_symbol, split_native, symbol_of


@dataclass(frozen=True, slots=True)
class Heartbeat:
    """How a venue wants to be kept alive, and how it shows that it is.

    Attributes:
        ping: Frame we send every `every_s` seconds; None if the venue only uses protocol pings (answered by the
            WebSocket library).
        every_s: Seconds between our pings.
        pong_s: Seconds the answer may take before the link counts as dead.
        silence_s: Without any frame for this long the link counts as stale. Heartbeats are frames too: staleness of
            the data is judged apart.
    """

    ping: bytes | None
    every_s: float
    pong_s: float
    silence_s: float


@dataclass(frozen=True, slots=True)
class Limits:
    """What a venue allows a client, as its documentation states.

    Attributes:
        topics_per_message: Topics (a channel of a symbol) in one subscribe frame.
        topics_per_connection: Topics on one connection.
        messages_per_s: Frames we may send a second on one connection.
        connections_per_window: Connection attempts, and the seconds in which one address may make them.
        connection_life_s: The venue closes a connection after this long; None if it does not.
        request_bytes: Length of one subscribe frame; None if it is not bounded.
        topic_bytes_per_connection: Length of all topics of one connection together; None if it is not bounded.
        requests_per_hour: Subscribe and unsubscribe frames an hour on one connection; None if they are not counted.
    """

    topics_per_message: int
    topics_per_connection: int
    messages_per_s: float
    connections_per_window: tuple[int, float]
    connection_life_s: float | None = None
    request_bytes: int | None = None
    topic_bytes_per_connection: int | None = None
    requests_per_hour: int | None = None


@dataclass(frozen=True, slots=True)
class Refill:
    """How holes in a venue's trades are found, and what we ask of its REST history.

    Attributes:
        numbered: Whether each symbol's trades are numbered without a break, so that a jump is a hole. Elsewhere only
            a lost link or a silence shows that there may be one.
        requests: Requests we make at once at most, and in `per_s` seconds in the long run; within the venue's limits.
        per_s: See `requests`.
        page_rows: Trades in a full answer.
        pages: Answers read for one hole at most; 1 where the venue has no paging.
        coarse_ns: Unit of the stamps in the history, where it is coarser than on the WebSocket.
        by_time: Whether the first page begins at a time that we name, so that it always goes back to a hole's begin.
    """

    numbered: bool
    requests: int
    per_s: float
    page_rows: int
    pages: int
    coarse_ns: int = 1
    by_time: bool = False


@dataclass(frozen=True, slots=True)
class Klines:
    """What a venue's REST has of candles, and how fast we ask for them.

    Attributes:
        names: Seconds -> the venue's name of the interval, for those that begin with UTC's hours and days.
        rows: Candles in an answer at most.
        requests: Requests we make at once at most, and in `per_s` seconds in the long run; within the venue's limits.
        per_s: See `requests`.
    """

    names: Mapping[int, str]
    rows: int
    requests: int
    per_s: float


class Kline(NamedTuple):
    """A venue's candle: when it opens, UTC epoch seconds, prices, volume in base and in quote currency."""

    open_s: int
    open: float
    high: float
    low: float
    close: float
    volume: float
    quote_volume: float


@dataclass(frozen=True, slots=True)
class Hole:
    """Trades of a symbol that may be missing.

    Attributes:
        symbol: Symbol code.
        from_ns: The venue's stamp of the last trade before it, UTC epoch nanoseconds; since when the symbol is
            followed, if there was none.
        to_ns: The venue's stamp of the first trade after it.
        after: Number of the last trade before it, its id where trades are not numbered; 0 if there is none.
        before: Number of the first trade after it; 0 where trades are not numbered.
    """

    symbol: int
    from_ns: int
    to_ns: int
    after: int = 0
    before: int = 0

    @property
    def size(self) -> int:
        """Return how many trades are missing; 0 where the numbers do not tell."""
        return self.before - self.after - 1 if self.after and self.before else 0


@dataclass(frozen=True, slots=True)
class Instrument:
    """A spot pair as a venue's REST list gives it."""

    symbol: str
    native: str
    trading: bool
    quote_volume: float = 0.0
    """24 h turnover in the quote currency; 0 where the list does not say."""


@dataclass(frozen=True, slots=True)
class Request:
    """A subscribe or unsubscribe frame and what must come back for it.

    Attributes:
        frame: What to send.
        topics: What it asks for.
        acks: How many answers it draws: one, or one a topic.
        key: The id its answers repeat, if they do; else "" and answers are matched in order.
    """

    frame: bytes
    topics: tuple[str, ...]
    acks: int
    key: str = ""


@dataclass(frozen=True, slots=True)
class Control:
    """A frame that is not market data, read.

    Attributes:
        kind: `welcome`, `ack`, `refusal`, `pong`, `heartbeat`, `notice` (the venue will close soon) or `error`.
        key: The id it repeats, if any.
        native: The symbol it names, if any.
        code: The venue's own error code, if any.
        text: Its words, if any.
    """

    kind: str
    key: str = ""
    native: str = ""
    code: str = ""
    text: str = ""


@dataclass(frozen=True, slots=True)
class Reject:
    """A frame, or a row of one, that could not become a tick.

    `reason` is a short fixed phrase per cause (it is counted by it): `malformed`, `unknown symbol`, `bad price`, ...
    """

    receive_ns: int
    reason: str
    frame: bytes


@dataclass(slots=True)
class Decoded:
    """What a batch of frames held.

    Attributes:
        ticks: n rows of TICK in frame order, `receive_ns` of their frame, `event_ns` 0.
        rejects: Unreadable frames and rows, in frame order.
        control: Frames that are not market data, in frame order, unread: `Venue.control` reads them.
        read_spans: Returns `spans`; None where the trade id itself is the number.
    """

    ticks: Rows
    rejects: list[Reject] = field(default_factory=list)
    control: list[bytes] = field(default_factory=list)
    read_spans: Callable[[], I64] | None = None

    @property
    def spans(self) -> I64 | None:
        """Return n x 2 int64 beside `ticks`, first and last number of each trade in its symbol's unbroken count.

        Zeros on quotes and where the frame does not say. Read at each call: only who looks for holes pays for it.
        """
        return None if self.read_spans is None else self.read_spans()


class Catalog:
    """Native symbols of one venue and the codes of ours.

    Attributes:
        codes: native symbol -> code in the SymbolTable; decoders look natives up here, one dict access a row.
        natives: symbol -> native symbol.
    """

    __slots__ = ("codes", "natives")

    def __init__(self, natives: Mapping[str, str], codes: Mapping[str, int]) -> None:
        """Build from symbol -> native symbol and symbol -> code; symbols without a code are left out."""
        self.natives = {symbol: native for symbol, native in natives.items() if symbol in codes}
        self.codes: dict[str, int] = {native: codes[symbol] for symbol, native in self.natives.items()}


class OpenCatalog(Catalog):
    """A catalog that learns: every native symbol gets a code on first sight, its name worked out by `name_of`.

    For frames without an instrument list at hand (recordings, the decode command). Unbounded by nature: it holds
    one entry a distinct symbol in its input.

    Attributes:
        names: Symbols in order of first sight; `names[code]`.
    """

    __slots__ = ("names",)

    def __init__(self, symbol_of_native: SymbolOfNative) -> None:
        super().__init__({}, {})
        self.names: list[str] = []
        self.codes = _Learning(symbol_of_native, self.names, self.natives)


class SymbolOfNative(Protocol):
    """Our symbol for a native one; None if it cannot be read."""

    def __call__(self, native: str, /) -> str | None:
        """Work it out."""


class _Learning(dict[str, int]):
    def __init__(self, symbol_of_native: SymbolOfNative, names: list[str], natives: dict[str, str]) -> None:
        super().__init__()
        self._symbol_of_native = symbol_of_native
        self._names = names
        self._natives = natives

    def get(self, native: str, default: Any = None) -> Any:
        code = super().get(native)
        if code is not None:
            return code
        symbol = self._symbol_of_native(native)
        if symbol is None:
            return default
        if symbol in self._natives:
            code = self._names.index(symbol)
        else:
            code = len(self._names)
            self._names.append(symbol)
            self._natives[symbol] = native
        self[native] = code
        return code


def glued_symbol(native: str) -> str | None:
    """Return our symbol for a native one without separator, `BTCUSDT` -> `BTC-USDT`."""
    parts = split_native(native)
    return None if parts is None else paired_symbol(*parts)


def paired_symbol(base: str, quote: str, *, perpetual: bool = False) -> str | None:
    """Return our symbol for two currency codes as a venue writes them; None if they do not make one."""
    try:
        return check_symbol(symbol_of(base, quote, perpetual=perpetual))
    except ValueError:
        return None


class Venue(Protocol):
    """What a venue module offers. mypy checks each module against it where it enters `connectors.venues.VENUES`."""

    NAME: str
    WS_URL: str
    """`wss://host/path`; the path is kept when the host is replaced (simulator, regional host)."""
    REST_URL: str
    HEARTBEAT: Heartbeat
    """What holds unless a handshake's reply says otherwise."""
    LIMITS: Limits
    REFILL: Refill
    KLINES: Klines

    def handshake(self) -> str | None:
        """Return the REST path to POST to before connecting (token venues), or None."""

    def endpoint(self, ws_url: str, reply: bytes | None, topics: Sequence[str]) -> tuple[str, Heartbeat]:
        """Return the URL to connect to and the heartbeat there, given base URL, handshake's reply and topics.

        Raises:
            ValueError: The reply is not what the venue documents.
        """

    def topics(self, natives: Sequence[str]) -> list[str]:
        """Return the topics for trades and quotes of these native symbols, trades first."""

    def subscribe(self, topics: Sequence[str], first_id: int) -> list[Request]:
        """Return subscribe requests in sending order, split at the venue's limits; ids count up from `first_id`."""

    def unsubscribe(self, topics: Sequence[str], first_id: int) -> list[Request]:
        """Return the requests that undo `subscribe`."""

    def waits_for_welcome(self) -> bool:
        """Return whether the first request must wait for a welcome frame."""

    def answer(self, frame: bytes) -> bytes | None:
        """Return the reply to an application-level ping of the venue, or None if `frame` is none."""

    def control(self, frame: bytes) -> Control | None:
        """Read a frame that `decode` handed back as control; None if it is not known."""

    def decode(self, frames: Sequence[bytes], receive_ns: I64, catalog: Catalog) -> Decoded:
        """Decode frames into ticks. Never raises on any bytes.

        Args:
            frames: n raw frames, as the socket gave them.
            receive_ns: n int64, when each arrived.
            catalog: Native symbols to codes.
        """

    def symbol_of_native(self, native: str) -> str | None:
        """Return our symbol for a native one by its spelling alone; None if it cannot be read."""

    def trades_path(self, native: str, hole: Hole, page: int, got: Decoded | None) -> str:
        """Return the REST path of a page of the trades that a hole may hide.

        Args:
            native: The symbol's native name.
            hole: What is looked for.
            page: Which one, from 0.
            got: What the page before held, at least one row; None at first.
        """

    def trades(self, body: bytes, native: str, receive_ns: int, catalog: Catalog) -> Decoded:
        """Read a page: single fills as TICK rows flagged BACKFILL, in the venue's order.

        Raises:
            ValueError: It is not what the venue documents.
        """

    def klines_path(self, native: str, interval_s: int, start_s: int, end_s: int) -> str:
        """Return the REST path of the candles that open in [start_s, end_s], not more than an answer holds."""

    def klines(self, body: bytes) -> list[Kline]:
        """Read candles, in the venue's order, the forming one perhaps among them.

        Raises:
            ValueError: It is not what the venue documents.
        """

    def instruments_path(self) -> str:
        """Return the REST path of the list of spot pairs."""

    def instruments(self, body: bytes) -> list[Instrument]:
        """Read the list of spot pairs. Raises ValueError if it is not what the venue documents."""

    def volumes_path(self) -> str:
        """Return the REST path of 24 h statistics of all pairs."""

    def volumes(self, body: bytes) -> dict[str, float]:
        """Read native symbol -> 24 h turnover in the quote currency. Raises ValueError as above."""
