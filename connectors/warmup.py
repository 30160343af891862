"""Candles of the past from the venues' REST, so that indicators are valid with the first candle of a run.

A series is a symbol in one interval of at least a minute. Each is asked of the venue with the largest turnover in it,
then of the next; all venues at a time, each within its budget. What cannot be had in time stays cold.
"""

from __future__ import annotations

import asyncio
import logging
import ssl as tls
from collections.abc import Callable, Iterable, Mapping
from typing import Final

import numpy as np

from connectors import rest
from connectors.bucket import Bucket
from connectors.pipe import Endpoint
from connectors.retry import least_wait_s
from connectors.route import rebase
from connectors.universe import Universe
from connectors.venue import Kline
from connectors.venues import VENUES
from market.records import CANDLE
from market.schema import NS_PER_S, Rows

LEAST_S: Final = 60
"""Venues have no candles of shorter intervals that all share."""
AT_ONCE: Final = 12
"""Requests under way at a time."""
DEADLINE_S: Final = 60.0
"""What the whole may take; live with 50 symbols it takes some 20 s."""
VENUES_TRIED: Final = 3

Series = tuple[int, int]
"""Symbol code and interval in seconds."""
Progress = Callable[[int, int], None]
"""Called with how many series are done, and of how many."""

log = logging.getLogger("mie.warmup")


def fetch(
    wanted: Iterable[Series],
    universe: Universe,
    *,
    count: int,
    now_s: Callable[[], float],
    endpoints: Mapping[str, Endpoint],
    progress: Progress = lambda done, of: None,
    context: tls.SSLContext | None = None,
) -> dict[Series, Rows]:
    """Return the last closed candles of series, CANDLE rows by open time without a hole, up to the newest.

    Args:
        wanted: Which.
        universe: The symbols of the run; a code is a place among them.
        count: How many candles each.
        now_s: The wall clock, UTC epoch seconds.
        endpoints: Replacements for the venues' own hosts.
        progress: Told after each series.
        context: TLS settings.
    """
    warmup = _Warmup(universe, count, now_s, endpoints, context)
    return asyncio.run(warmup.run(sorted(wanted, key=lambda series: (-series[1], series[0])), progress))


class _Warmup:
    def __init__(
        self,
        universe: Universe,
        count: int,
        now_s: Callable[[], float],
        endpoints: Mapping[str, Endpoint],
        context: tls.SSLContext | None,
    ) -> None:
        self._universe = universe
        self._count = count
        self._now_s = now_s
        self._endpoints = endpoints
        self._context = context
        self._budgets = {name: Bucket(VENUES[name].KLINES.requests, VENUES[name].KLINES.per_s) for name in VENUES}
        self._found: dict[Series, Rows] = {}
        self._places = asyncio.Semaphore(AT_ONCE)
        self._failed: set[str] = set()

    async def run(self, wanted: list[Series], progress: Progress) -> dict[Series, Rows]:
        """Fetch all, then again those of which a candle closed meanwhile."""
        try:
            async with asyncio.timeout(DEADLINE_S):
                await self._round(wanted, progress)
                await self._round([series for series in self._found if self._is_behind(series)], lambda done, of: None)
        except TimeoutError:
            log.warning("warm-up: %d of %d series within %.0f s", len(self._found), len(wanted), DEADLINE_S)
        return self._found

    async def _round(self, wanted: list[Series], progress: Progress) -> None:
        tasks = [asyncio.create_task(self._series(series)) for series in wanted]
        try:
            for done, task in enumerate(asyncio.as_completed(tasks), 1):
                await task
                progress(done, len(tasks))
        finally:
            for each in tasks:
                each.cancel()

    def _is_behind(self, series: Series) -> bool:
        return int(self._found[series]["open_ns"][-1]) < newest_closed_s(series[1], self._now_s()) * NS_PER_S

    async def _series(self, series: Series) -> None:
        symbol, interval_s = series
        name = self._universe.symbols[symbol]
        async with self._places:
            for venue in self._ranked(name, interval_s):
                candles = await self._ask(venue, self._universe.natives[venue][name], series)
                if candles.size:
                    self._found[series] = candles
                    return

    def _ranked(self, symbol: str, interval_s: int) -> list[str]:
        """Return the venues that may have a series, the largest turnover first."""
        turnover = self._universe.turnover
        able = [name for name, of in self._universe.natives.items() if symbol in of]
        able = [name for name in able if interval_s in VENUES[name].KLINES.names]
        return sorted(able, key=lambda name: -turnover.get(name, {}).get(symbol, 0.0))[:VENUES_TRIED]

    async def _ask(self, name: str, native: str, series: Series) -> Rows:
        venue, endpoint = VENUES[name], self._endpoints.get(name)
        symbol, interval_s = series
        end_s = newest_closed_s(interval_s, self._now_s())
        start_s = end_s - (min(self._count, venue.KLINES.rows - 1) - 1) * interval_s
        await self._budgets[name].take()
        path = venue.klines_path(native, interval_s, start_s, end_s)
        url = rebase(venue.REST_URL, endpoint.rest if endpoint else None, path)
        try:
            klines = venue.klines(await asyncio.to_thread(rest.call, url, context=self._context))
        except (rest.RestError, ValueError) as error:
            if isinstance(error, rest.RestError):
                self._budgets[name].hold(error.retry_after_s or least_wait_s(error.status))
            if name not in self._failed:
                self._failed.add(name)
                log.warning("%s: no candles for the warm-up: %s", name, error)
            return np.zeros(0, CANDLE)
        return candles_of(klines, symbol, interval_s, start_s, end_s)


def newest_closed_s(interval_s: int, now_s: float) -> int:
    """Return when the newest candle that is closed opened, UTC epoch seconds."""
    return int(now_s) // interval_s * interval_s - interval_s


def candles_of(klines: Iterable[Kline], symbol: int, interval_s: int, start_s: int, end_s: int) -> Rows:
    """Return a venue's candles that open in [start_s, end_s] as CANDLE rows by open time.

    Quiet intervals, which some venues leave out, become flat candles, as in our own; not before the first candle.
    """
    known = {
        k.open_s: k for k in klines if start_s <= k.open_s <= end_s and k.open_s % interval_s == 0 and _is_sound(k)
    }
    if not known:
        return np.zeros(0, CANDLE)
    opens = range(min(known), end_s + 1, interval_s)
    rows = np.zeros(len(opens), CANDLE)
    last = known[opens[0]]
    for row, open_s in zip(rows, opens, strict=True):
        flat = Kline(open_s, last.close, last.close, last.close, last.close, 0.0, 0.0)
        last = known.get(open_s, flat)
        for name in ("open", "high", "low", "close", "volume", "quote_volume"):
            row[name] = getattr(last, name)
    rows["symbol"], rows["interval_s"] = symbol, interval_s
    rows["open_ns"] = np.array(opens, np.int64) * NS_PER_S
    rows["vwap"] = np.divide(rows["quote_volume"], rows["volume"], where=rows["volume"] > 0, out=rows["close"].copy())
    return rows


def _is_sound(kline: Kline) -> bool:
    return 0.0 < kline.low <= min(kline.open, kline.close) <= max(kline.open, kline.close) <= kline.high < float("inf")
