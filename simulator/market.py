"""The market model: one efficient price per symbol, seen by each venue with its own noise, premium, delay and clock.

Works in blocks of 100 ms of true time, a few hundred NumPy calls each however many messages they hold. A block is a
function of the seed, the settings and the blocks before it; no clock is read here. Formats nothing.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, fields
from typing import Final, TypeVar

import numpy as np

from market.schema import F64, I64, Bool, Rows
from simulator.events import MS, Events, Record
from simulator.universe import SIZE_CHOICES, TRAITS, Universe

BLOCK_NS: Final = 100 * MS
"""Divides a minute, so that no block straddles one."""
GRID: Final = 10
"""Points of the efficient price in a block."""
TRADE_SHARE: Final = 0.25
SWEEP_SHARE: Final = 0.15
"""Part of the taker orders that fill against more than one maker, 2 to 6 fills (3 more than one on average)."""
BOOKS_KEPT: Final = 6
"""Blocks whose last quotes are kept; more than the slowest venue's delay, so that the oldest were all sent."""
REVERSION_S: Final = 3600.0
"""Time in which the price is pulled back to where it started, so that a long run keeps its scale."""


PRINT: Final = np.dtype(
    [
        ("send_ns", "i8"), ("stamp_ns", "i8"), ("price", "i8"), ("trade_id", "i8"), ("sequence", "i8"),
        ("symbol", "i4"), ("size", "i2"), ("side", "i1"), ("fills", "i1"),
    ]
)  # fmt: skip
"""A trade as an array's row; meanings as in `Trades`."""


@dataclass(slots=True)
class Trades:
    """Trades of one venue in sending order, columns of Python ints.

    Attributes:
        send_ns: When the frame leaves the venue, true time.
        stamp_ns: When it happened, on the venue's clock.
        symbol: Place in `Universe.symbols`.
        price: In ticks of the listing.
        size: Place in the symbol's sizes.
        side: +1 taker bought, -1 taker sold.
        trade_id: The id; of joined fills that of the last.
        fills: Fills joined in this row.
        sequence: The venue's book counter; shared by the fills of one sweep.
    """

    send_ns: list[int]
    stamp_ns: list[int]
    symbol: list[int]
    price: list[int]
    size: list[int]
    side: list[int]
    trade_id: list[int]
    fills: list[int]
    sequence: list[int]


@dataclass(slots=True)
class Quotes:
    """Quotes of one venue in sending order, columns of Python ints; meanings as in `Trades`."""

    send_ns: list[int]
    stamp_ns: list[int]
    symbol: list[int]
    bid: list[int]
    bid_size: list[int]
    ask: list[int]
    ask_size: list[int]
    sequence: list[int]


@dataclass(slots=True)
class Block:
    """What all venues do in one block: venue name -> its rows, and the arrays behind the trades.

    Attributes:
        prints: Venue name -> its trades again, as PRINT rows.
        listing: n int64, the listing of each trade, ascending, in order of time within a listing.
        price: n float64.
        size: n float64, base currency.
    """

    start_ns: int
    trades: dict[str, Trades]
    quotes: dict[str, Quotes]
    prints: dict[str, Rows]
    listing: I64
    price: F64
    size: F64


RowsT = TypeVar("RowsT", Trades, Quotes)


class Market:
    """The model's state. `block()` moves it on by BLOCK_NS.

    Attributes:
        universe: What is listed where.
        events: Wicks and crashes; None if there are none.
        now_ns: True time up to which blocks were made, a multiple of BLOCK_NS.
        skew_ns: V int64, what each venue's clock is ahead of the true time.
        first_id: L int64, the trade id before a listing's first one.
        halted: Listings in which nothing happens; ids and counters stand still.
    """

    def __init__(
        self,
        universe: Universe,
        *,
        seed: int,
        rate: float,
        start_ns: int,
        wicks_per_minute: float = 12.0,
        skew_ms: dict[str, float] | None = None,
        start_log: F64 | None = None,
        on_record: Callable[[Record], None] | None = None,
    ) -> None:
        """Start at `start_ns` rounded down to a block; `start_log` is S float64, log prices to start from."""
        self.universe = universe
        self.now_ns = start_ns // BLOCK_NS * BLOCK_NS
        self._start_ns = self.now_ns
        self._rate = rate
        self._random = np.random.default_rng([seed, 1])
        traits = [TRAITS[name] for name in universe.venues]
        skews = [(skew_ms or {}).get(name, TRAITS[name].skew_ms) for name in universe.venues]
        self.skew_ns: I64 = np.array([round(skew * MS) for skew in skews], np.int64)
        self._delay_ns = np.array([trait.delay_ms for trait in traits]) * MS
        self._jitter_ns = np.array([trait.jitter_ms for trait in traits]) * MS
        self._joins = np.array([trait.joins_fills for trait in traits])
        self._id_step = np.array([trait.id_step for trait in traits], np.int64)
        symbols, listings = len(universe.symbols), len(universe.symbol)
        self._cumulative = np.cumsum(universe.weight)
        rank = np.arange(symbols) / max(symbols, 60)
        self._volatility = (0.9 + 2.6 * rank) * 1e-4  # log, per square root of a second
        self._noise_scale = (0.6 + 3.4 * rank[universe.symbol]) * 1e-4
        self._premium_scale = (1.0 + 7.0 * rank[universe.symbol]) * 1e-4
        self._half_spread = (0.15 + 3.5 * rank[universe.symbol]) * 1e-4
        self._tick = 10.0**-universe.decimals
        self._base = np.log(universe.prices) if start_log is None else start_log
        self._efficient = self._base.copy()
        self._burst = np.zeros(symbols)
        self._premium = self._random.standard_normal(listings) * self._premium_scale
        self._noise = self._random.standard_normal(listings) * self._noise_scale
        digits = np.array([trait.id_digits for trait in traits], np.int64)[universe.venue]
        self.first_id: I64 = (10.0 ** (digits - 1) * self._random.uniform(1.2, 6.0, listings)).astype(np.int64)
        self._last_id = self.first_id.copy()
        self._sequence = self._random.integers(2_000_000_000, 6_000_000_000, listings)
        self._sent_ns = np.zeros(len(traits), np.int64)
        self._owed = 0.0
        joined = float(universe.weight[self._joins[universe.venue]].sum())
        fills = 1.0 + 3.0 * SWEEP_SHARE * (1.0 - joined)  # rows a taker order makes on average
        self._order_share = TRADE_SHARE / (fills - TRADE_SHARE * fills + TRADE_SHARE)
        self._rows_per_order = 1.0 + self._order_share * (fills - 1.0)
        mid = self.mid_prices() / self._tick
        self._books = deque([np.stack((mid.astype(np.int64), mid.astype(np.int64) + 1, self._sequence))], BOOKS_KEPT)
        self.events = Events(
            universe,
            self.dispersion(),
            seed=seed,
            start_ns=self.now_ns,
            wicks_per_minute=wicks_per_minute,
            on_record=on_record,
        )
        self.halted = self.events.halted

    def dispersion(self) -> F64:
        """Return S float64: how far venues normally are apart in each symbol (log), the tick included."""
        scale = np.hypot(self._noise_scale, self._premium_scale) + self._half_spread
        tick = self._tick / self.universe.prices[self.universe.symbol]
        worst = np.zeros(len(self.universe.symbols))
        np.maximum.at(worst, self.universe.symbol, np.hypot(scale, tick))
        dispersion: F64 = np.hypot(worst, self._volatility * np.sqrt(0.2))
        return dispersion

    def mid_prices(self) -> F64:
        """Return L float64: the present mid price of each listing."""
        return np.exp(self._efficient[self.universe.symbol] + self._premium + self._noise)

    def present_quote(self, listing: int, now_ns: int) -> Quotes:
        """Return the quote a new subscriber of a listing gets, one row; every later quote has a higher sequence."""
        bid, ask, sequence = self._books[0][:, listing].tolist()
        stamp = now_ns + int(self.skew_ns[self.universe.venue[listing]])
        return Quotes([now_ns], [stamp], [int(self.universe.symbol[listing])], [bid], [0], [ask], [1], [sequence])

    def old_trades(self, listing: int, rows: int) -> Trades:
        """Return the last trades of a listing from before the model's start, oldest first."""
        rng = np.random.default_rng([int(self.first_id[listing]) % 2**32, rows])
        venue = int(self.universe.venue[listing])
        ages = np.sort(rng.integers(MS, 60_000 * MS, rows))[::-1]
        step = rng.integers(1, int(self._id_step[venue]) + 1, rows)
        trade_id = int(self.first_id[listing]) - np.append(np.cumsum(step[:0:-1])[::-1], 0)
        bid = int(np.exp(self._base[self.universe.symbol[listing]]) / self._tick[listing])
        stamp = (self._start_ns - ages + int(self.skew_ns[venue])).tolist()
        return Trades(
            send_ns=stamp,
            stamp_ns=stamp,
            symbol=[int(self.universe.symbol[listing])] * rows,
            price=(bid + rng.integers(0, 2, rows)).tolist(),
            size=rng.integers(0, SIZE_CHOICES, rows).tolist(),
            side=rng.choice([-1, 1], rows).tolist(),
            trade_id=trade_id.tolist(),
            fills=[1] * rows,
            sequence=list(range(rows)),
        )

    def skip(self, to_ns: int) -> None:
        """Move on to `to_ns` without rows: the process stood still and cannot catch up."""
        self.now_ns = to_ns // BLOCK_NS * BLOCK_NS

    def block(self) -> Block:
        """Make the next block of rows and move on."""
        start = self.now_ns
        self.now_ns = start + BLOCK_NS
        for crash in self.events.settled(start):
            self._efficient[crash.symbol] += crash.size
            self._base[crash.symbol] += 0.5 * crash.size
        ns, listing, trade, offset, label = self._times(start)
        venue, symbol = self.universe.venue[listing], self.universe.symbol[listing]
        mid = np.exp(self._log_mid(ns - start, listing, symbol) + offset + self.events.offsets(ns, venue, symbol))
        tick, half = self._tick[listing], self._half_spread[listing]
        bid = np.maximum(np.floor(mid * (1.0 - half) / tick), 1.0).astype(np.int64)
        ask = np.maximum(np.ceil(mid * (1.0 + half) / tick).astype(np.int64), bid + 1)
        side = np.where(self._random.random(len(ns)) < 0.5, 1, -1)
        fills = self._fills(trade, label)
        rows, step = self._spread_fills(venue, fills)
        fills = np.where(self._joins[venue], fills, 1)[rows]
        price = (np.where(side > 0, ask, bid)[rows]) + np.where(label[rows] < 0, step // 2 * side[rows], 0)
        ns, listing, trade, label = ns[rows], listing[rows], trade[rows], label[rows]
        trade_id, sequence = self._number(listing, venue[rows], trade, fills, step)
        self._report(trade, label, trade_id, rows)
        self._keep_books(listing, bid[rows], ask[rows], sequence)
        sizes = self._random.integers(0, SIZE_CHOICES, (2, len(rows)))
        send = self._send_times(ns, venue[rows])
        return self._pack(
            start, send, ns, listing, trade, np.maximum(price, 1), sizes, side[rows], trade_id, fills, sequence,
            bid[rows], ask[rows],
        )  # fmt: skip

    def _times(self, start: int) -> tuple[I64, I64, Bool, F64, I64]:
        """Return time, listing, is-a-trade, log offset and wick label of each row of a block, in order of time."""
        self._owed += self._rate * BLOCK_NS / 1e9
        count = int(self._owed / self._rows_per_order)
        self._owed -= count * self._rows_per_order
        rng = self._random
        listing = np.searchsorted(self._cumulative, rng.random(count) * self._cumulative[-1], side="right")
        listing = np.minimum(listing, len(self._cumulative) - 1)
        ns = start + rng.integers(0, BLOCK_NS, count)
        trade = rng.random(count) < self._order_share
        extra = self.events.inject(start, self.now_ns)
        keep = ~self.events.muted(ns, listing, trade)
        if self.halted:
            halted = list(self.halted)
            keep &= ~np.isin(listing, halted)
            extra = extra[~np.isin(extra["listing"], halted)]
        ns = np.concatenate((ns[keep], np.maximum(extra["ns"], start)))
        order = np.argsort(ns, kind="stable")
        naught = int(keep.sum())
        return (
            ns[order],
            np.concatenate((listing[keep], extra["listing"].astype(np.int64)))[order],
            np.concatenate((trade[keep], extra["trade"]))[order],
            np.concatenate((np.zeros(naught), extra["offset"]))[order],
            np.concatenate((np.full(naught, -1), extra["label"]))[order],
        )

    def _log_mid(self, since: I64, listing: I64, symbol: I64) -> F64:
        """Move price, noise and premium on by a block; return each row's log mid, `since` ns into it."""
        rng, block_s = self._random, BLOCK_NS / 1e9
        self._burst *= np.exp(-block_s / 3.0)
        starting = rng.random(len(self._burst)) < block_s / 120.0
        self._burst[starting] = rng.uniform(1.0, 4.0, int(starting.sum()))
        step = self._volatility * (1.0 + self._burst) * np.sqrt(block_s / GRID)
        walk = np.cumsum(rng.standard_normal((GRID, len(step))) * step, axis=0)
        path = self._efficient + walk + (self._base - self._efficient) * (block_s / REVERSION_S)
        noise = 0.8 * self._noise + 0.6 * self._noise_scale * rng.standard_normal(len(self._noise))
        share = since / BLOCK_NS
        point = np.minimum((share * GRID).astype(np.int64), GRID - 1)
        log_mid: F64 = path[point, symbol] + self._premium[listing]
        log_mid += self._noise[listing] * (1.0 - share) + noise[listing] * share
        self._efficient, self._noise = path[-1], noise
        pull = block_s / 600.0
        drift = self._premium_scale * np.sqrt(2.0 * pull) * rng.standard_normal(len(self._premium))
        self._premium += drift - pull * self._premium
        return log_mid

    def _fills(self, trade: Bool, label: I64) -> I64:
        """Return how many fills each row's taker order has; wicks print single fills."""
        many = trade & (label < 0) & (self._random.random(len(trade)) < SWEEP_SHARE)
        return np.where(many, self._random.integers(2, 7, len(trade)), 1)

    def _spread_fills(self, venue: I64, fills: I64) -> tuple[I64, I64]:
        """Return, for every row to send, its order's place and its rank among that order's rows."""
        copies = np.where(self._joins[venue], 1, fills)
        rows = np.repeat(np.arange(len(fills)), copies)
        first = np.cumsum(copies) - copies
        return rows, np.arange(len(rows)) - first[rows]

    def _number(self, listing: I64, venue: I64, trade: Bool, fills: I64, step: I64) -> tuple[I64, I64]:
        """Return each row's trade id (of quotes: the last one) and book counter, counted on per listing."""
        hop = self._random.integers(1, self._id_step[venue] + 1)
        ids = running_totals(self._last_id, listing, np.where(trade, np.where(self._id_step[venue] > 1, hop, fills), 0))
        ticks = np.where(step > 0, 0, self._random.integers(1, 9, len(listing)))
        return ids, running_totals(self._sequence, listing, ticks)

    def _report(self, trade: Bool, label: I64, trade_id: I64, rows: I64) -> None:
        last = np.diff(rows, append=-1) != 0
        for row in np.flatnonzero(trade & (label >= 0)).tolist():
            self.events.printed(int(label[row]), int(trade_id[row]), bool(last[row]))

    def _keep_books(self, listing: I64, bid: I64, ask: I64, sequence: I64) -> None:
        """Keep each listing's last quote of this block, see `present_quote`."""
        book = self._books[-1].copy()
        book[:, listing] = bid, ask, sequence
        self._books.append(book)

    def _send_times(self, ns: I64, venue: I64) -> I64:
        """Return when each row leaves its venue: delay and jitter after it happened, never before an earlier one."""
        jitter = self._random.exponential(1.0, len(ns)) * self._jitter_ns[venue]
        send: I64 = ns + (self._delay_ns[venue] + jitter).astype(np.int64)
        for place in range(len(self._sent_ns)):
            mine = np.flatnonzero(venue == place)
            if len(mine):
                send[mine] = np.maximum.accumulate(np.maximum(send[mine], self._sent_ns[place]))
                self._sent_ns[place] = send[mine[-1]]
        return send

    def _pack(
        self, start: int, send: I64, ns: I64, listing: I64, trade: Bool, price: I64, sizes: I64, side: I64,
        trade_id: I64, fills: I64, sequence: I64, bid: I64, ask: I64,
    ) -> Block:  # fmt: skip
        universe = self.universe
        venue, symbol = universe.venue[listing], universe.symbol[listing]
        stamp = ns + self.skew_ns[venue]
        of_trades = [send, stamp, symbol, price, sizes[0], side, trade_id, fills, sequence]
        of_quotes = [send, stamp, symbol, bid, sizes[0], ask, sizes[1], sequence]
        trades = self._by_venue(Trades, np.flatnonzero(trade), venue, of_trades)
        quotes = self._by_venue(Quotes, np.flatnonzero(~trade), venue, of_quotes)
        pick = np.flatnonzero(trade)
        prints = np.empty(len(pick), PRINT)
        for part, column in zip(fields(Trades), of_trades, strict=True):
            prints[part.name] = column[pick]
        by_venue = {name: prints[venue[pick] == place] for place, name in enumerate(universe.venues)}
        pick = pick[np.argsort(listing[pick], kind="stable")]
        of, sized = listing[pick], sizes[0][pick]
        amount = universe.sizes[universe.symbol[of], sized] * 10.0 ** -universe.size_decimals[universe.symbol[of]]
        return Block(start, trades, quotes, by_venue, of, price[pick] * self._tick[of], amount)

    def _by_venue(self, make: type[RowsT], pick: I64, venue: I64, columns: list[I64]) -> dict[str, RowsT]:
        """Return the picked rows of some columns as lists, split by venue in their order."""
        of = venue[pick].astype(np.int8)
        pick = pick[np.argsort(of, kind="stable")]
        lists = [column[pick].tolist() for column in columns]
        ends: list[int] = np.cumsum(np.bincount(of, minlength=len(self._sent_ns))).tolist()
        spans = zip(self.universe.venues, [0, *ends], ends, strict=False)
        return {name: make(*(column[begin:end] for column in lists)) for name, begin, end in spans}


def columns_of(rows: Trades | Quotes) -> list[list[int]]:
    """Return the columns of some rows in their order, the lists themselves."""
    return [getattr(rows, part.name) for part in fields(rows)]


def running_totals(last: I64, key: I64, step: I64) -> I64:
    """Return n running totals of `step` per key on top of `last[key]`, which moves on in place."""
    order = np.argsort(key, kind="stable")
    ordered = key[order]
    total = np.cumsum(step[order])
    first = np.flatnonzero(np.diff(ordered, prepend=-1))
    sizes = np.diff(first, append=len(ordered))
    running = last[ordered] + total - np.repeat(total[first] - step[order][first], sizes)
    counted = np.empty_like(running)
    counted[order] = running
    ends = first + sizes - 1
    last[ordered[ends]] = running[ends]
    return counted
