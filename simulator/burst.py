"""Capacity mode: ready-made frames of the model, sent again and again with new ids and times.

The frames are formatted once with marker digits where an id, a counter or a time goes; sending is then a NumPy patch
of those digits and one write. Ids go on without repeats and without holes, times are the present, so nothing is a
duplicate. Prices repeat every few thousand frames. There are no wicks, no sweeps and no ledger here.
"""

from __future__ import annotations

import asyncio
import re
import time
from datetime import UTC, datetime
from typing import Final

import numpy as np

from market.schema import I64, Bool
from simulator.market import Market, Quotes, Trades, columns_of, running_totals
from simulator.server import Connection, Port
from simulator.venues.base import Venue

TAPE_FRAMES: Final = 4096
"""Frames a connection's tape has at least; fewer would repeat prices sooner."""
CHUNK_FRAMES: Final = 512
"""Frames a write has at most."""
STEP_S: Final = 0.01

_MARK_MS: Final = 8_888_888_888_880
_MARK_NS: Final = _MARK_MS * 1_000_000
_MARK_SEQUENCE: Final = 7_777_777_777
_MARK_ISO: Final = datetime.fromtimestamp(_MARK_MS // 1000, UTC).strftime("%Y-%m-%dT%H:%M:%S.880000Z")


class Counters:
    """The newest trade id and book counter of each symbol of a venue; tapes move them on in place.

    Attributes:
        ids: S int64.
        sequences: S int64.
    """

    def __init__(self, venue: Venue) -> None:
        self.ids: I64 = np.zeros(len(venue.native), np.int64)
        for symbol, listing in venue.listing.items():
            self.ids[symbol] = venue.market.first_id[listing]
        self.sequences: I64 = np.full(len(venue.native), 2_000_000_000, np.int64)


class Tape:
    """The frames of one connection's topics, to be sent in a circle.

    Attributes:
        symbol: n int64, the symbol of each frame.
        trade: n bool, whether it is a trade.
    """

    def __init__(self, venue: Venue, counters: Counters, frames: list[tuple[str, int, bool]]) -> None:
        """Build from (frame, symbol, is-a-trade); ids go on from `counters`."""
        self._venue = venue
        self._counters = counters
        texts = [text for text, _, _ in frames]
        self.symbol: I64 = np.array([symbol for _, symbol, _ in frames], np.int64)
        self.trade: Bool = np.array([trade for _, _, trade in frames], np.bool_)
        joined = "".join(texts)
        self._ends: I64 = np.cumsum([len(text) for text in texts], dtype=np.int64)
        self._buffer = np.frombuffer(joined.encode("latin-1"), np.uint8).copy()
        self._ids = self._find("9" * venue.id_digits, joined)
        self._sequences = self._find(str(_MARK_SEQUENCE), joined)
        self._times = self._find(str(_MARK_MS), joined)
        self._seconds = self._find("(?<!8)8{10}(?!8)", joined)
        self._isos = self._find(re.escape(_MARK_ISO), joined)
        self._at = 0

    def __len__(self) -> int:
        return len(self._ends)

    def take(self, count: int, now_ns: int) -> tuple[bytes, int, int]:
        """Return the next frames, at most `count` and not beyond the circle's end: bytes, frames, trades."""
        first, last = self._at, min(self._at + count, len(self))
        stamp = self._venue.stamp(now_ns)
        ids, sequences = self._next_numbers(first, last)
        self._patch(self._ids, first, last, ids)
        self._patch(self._sequences, first, last, sequences)
        self._patch(self._times, first, last, np.full(last - first, stamp // 1_000_000))
        self._patch(self._seconds, first, last, np.full(last - first, stamp // 1_000_000_000))
        self._patch_iso(first, last, stamp)
        begin = int(self._ends[first - 1]) if first else 0
        self._at = last % len(self)
        return self._buffer[begin : self._ends[last - 1]].tobytes(), last - first, int(self.trade[first:last].sum())

    def _find(self, pattern: str, text: str) -> tuple[I64, I64, int]:
        """Return the starts of a marker, the frame of each, and its length."""
        spans = [match.span() for match in re.finditer(pattern, text)]
        starts = np.array([begin for begin, _ in spans], np.int64)
        width = spans[0][1] - spans[0][0] if spans else 0
        return starts, np.searchsorted(self._ends, starts, side="right"), width

    def _next_numbers(self, first: int, last: int) -> tuple[I64, I64]:
        """Return new ids (of trades) and counters (of all) for some frames, counting on per symbol."""
        symbol, trade = self.symbol[first:last], self.trade[first:last]
        ids = running_totals(self._counters.ids, symbol, trade.astype(np.int64))
        return ids, running_totals(self._counters.sequences, symbol, np.ones_like(symbol))

    def _patch(self, found: tuple[I64, I64, int], first: int, last: int, values: I64) -> None:
        starts, frames, width = found
        low, high = np.searchsorted(frames, [first, last])
        if low == high:
            return
        power = 10 ** np.arange(width - 1, -1, -1, dtype=np.int64)
        digits = values[frames[low:high] - first][:, None] // power % 10 + 48
        self._buffer[starts[low:high, None] + np.arange(width)] = digits

    def _patch_iso(self, first: int, last: int, stamp_ns: int) -> None:
        starts, frames, width = self._isos
        low, high = np.searchsorted(frames, [first, last])
        if low == high:
            return
        text = datetime.fromtimestamp(stamp_ns // 1_000_000_000, UTC).strftime("%Y-%m-%dT%H:%M:%S")
        text += f".{stamp_ns // 1000 % 1_000_000:06d}Z"
        self._buffer[starts[low:high, None] + np.arange(width)] = np.frombuffer(text.encode(), np.uint8)


class Burst:
    """Sends tapes to all connections, at a rate in all or as fast as they are read."""

    def __init__(self, market: Market, ports: list[Port], rate: float) -> None:
        """Prepare the rows of the tapes; `rate` 0 = as fast as the clients take it."""
        self._ports = ports
        self._rate = rate
        self._blocks = [market.block() for _ in range(20)]
        self._counters = {port: Counters(port.venue) for port in ports}
        for port in ports:
            port.venue.remembers = False
        self._tapes: dict[Connection, Tape] = {}
        self._senders: dict[Connection, asyncio.Task[None]] = {}

    async def run(self) -> None:
        """Serve until cancelled."""
        try:
            while True:
                self._keep_tapes()
                await asyncio.sleep(0.02)
        finally:
            for sender in self._senders.values():
                sender.cancel()

    def _keep_tapes(self) -> None:
        clients = {client: port for port in self._ports for client in port.clients}
        for client in self._senders.keys() - clients.keys():
            self._senders.pop(client).cancel()
            self._tapes.pop(client, None)
        for client, port in clients.items():
            if client.changed:  # still subscribing: wait until a round brings nothing new
                client.changed = False
                continue
            tape = self._tapes.get(client)
            if client.topics and (tape is None or client.options.get("taped") != client.topics):
                self._tapes[client] = self._tape(client, port)
            if client not in self._senders and client in self._tapes:
                self._senders[client] = asyncio.create_task(self._send(client, port))

    def _tape(self, client: Connection, port: Port) -> Tape:
        client.options["taped"] = set(client.topics)
        name = port.venue.NAME
        rows = [(block.trades[name], block.quotes[name]) for block in self._blocks]
        most = max(TAPE_FRAMES, 16 * len(client.topics))
        return Tape(port.venue, self._counters[port], render(port.venue, client.topics, rows, most))

    async def _send(self, client: Connection, port: Port) -> None:
        owed, before = 0.0, time.monotonic()
        while True:
            tape = self._tapes[client]
            if self._rate:
                await asyncio.sleep(STEP_S)
                now = time.monotonic()
                owed = min(owed + (now - before) * self._rate / len(self._senders), self._rate)
                before = now
            else:
                owed = CHUNK_FRAMES
            while owed >= 1 and len(tape):
                data, frames, trades = tape.take(min(int(owed), CHUNK_FRAMES), time.time_ns())
                client.write_frames(data, frames)
                port.trades += trades
                owed -= frames
                if not self._rate:
                    await client.writable.wait()
            await asyncio.sleep(0)


def render(
    venue: Venue, topics: set[tuple[str, int]], rows: list[tuple[Trades, Quotes]], most: int
) -> list[tuple[str, int, bool]]:
    """Format rows with markers for some topics, in sending order: at most `most` of (frame, symbol, is-a-trade)."""
    routes = venue.empty_routes()
    taken: list[str] = []
    sent_ns = _MARK_NS - venue.skew_ns  # venues add their skew to sending times
    for channel, symbol in topics:
        routes[channel][symbol].append(taken.append)
    frames: list[tuple[str, int, bool]] = []
    for trades, quotes in rows:
        single: list[tuple[int, int, bool, list[int]]] = []
        for trade, block in ((True, trades), (False, quotes)):
            single += [(row[0], row[2], trade, list(row)) for row in zip(*columns_of(block), strict=True)]
        for _, symbol, trade, row in sorted(single, key=lambda item: item[0]):
            if trade:
                row[0:2], row[6:9] = [sent_ns, _MARK_NS], [int("9" * venue.id_digits), 1, _MARK_SEQUENCE]
                venue.trades(Trades(*([value] for value in row)), routes)
            else:
                row[0:2], row[7] = [sent_ns, _MARK_NS], _MARK_SEQUENCE
                venue.quotes(Quotes(*([value] for value in row)), routes)
            frames += [(text, symbol, trade) for text in taken]
            taken.clear()
            if len(frames) >= most:
                return frames
    return frames
