"""The warm-up of a run's indicators: from the history where it reaches up to now, else from the venues' REST."""

from __future__ import annotations

import logging
import sys
import time
from collections.abc import Iterable, Mapping
from typing import Final, TextIO

import psycopg

from connectors import warmup
from connectors.pipe import Endpoint
from connectors.universe import Universe
from market.schema import Rows, join
from market.symbols import SymbolTable
from sinks.candle_history import last_candles

BAR: Final = 30
"""Width of the progress bar."""

log = logging.getLogger("mie.warmup")


def candles_by_group(
    table: SymbolTable,
    universe: Universe,
    intervals_s: Iterable[int],
    count: int,
    *,
    database_url: str,
    endpoints: Mapping[str, Endpoint],
    output: TextIO = sys.stderr,
) -> dict[int, Rows]:
    """Return closed candles of the past by key group, CANDLE rows: `count` of each symbol and interval, up to now.

    The universe's symbols are those of the table, by code.
    """
    began_s = time.monotonic()
    long = [interval_s for interval_s in intervals_s if interval_s >= warmup.LEAST_S]
    wanted = {(symbol, interval_s) for symbol in table.codes.values() for interval_s in long}
    kept = _of_history(database_url, table, long, count)
    bar = Bar(output)
    fetched = warmup.fetch(
        wanted - kept.keys(), universe, count=count, now_s=time.time, endpoints=endpoints, progress=bar.show
    )
    bar.end()
    log.info(
        "warm-up in %.1f s: %d series of the history, %d of the venues, %d stay cold",
        time.monotonic() - began_s, len(kept), len(fetched), len(wanted) - len(kept) - len(fetched),
    )  # fmt: skip
    return by_group({**kept, **fetched}, table)


def by_group(series: Mapping[warmup.Series, Rows], table: SymbolTable) -> dict[int, Rows]:
    """Return the candles of all series by key group."""
    parts: dict[int, list[Rows]] = {}
    for (symbol, _), candles in sorted(series.items()):
        parts.setdefault(int(table.groups[symbol]), []).append(candles)
    return {group: join(found) for group, found in parts.items()}


def _of_history(url: str, table: SymbolTable, intervals_s: list[int], count: int) -> dict[warmup.Series, Rows]:
    try:
        return last_candles(url, table.names, intervals_s, count, time.time())
    except psycopg.Error as error:
        log.warning("warm-up: the history is not read: %s", " ".join(str(error).split()))
        return {}


class Bar:
    """A progress bar on a terminal; nothing anywhere else."""

    def __init__(self, output: TextIO) -> None:
        self._output = output if output.isatty() else None

    def show(self, done: int, of: int) -> None:
        """Redraw it."""
        if self._output is not None:
            filled = BAR * done // of
            self._output.write(f"\rwarm-up [{'#' * filled}{'.' * (BAR - filled)}] {done}/{of}")
            self._output.flush()

    def end(self) -> None:
        """Wipe it away."""
        if self._output is not None:
            self._output.write("\r\x1b[K")
            self._output.flush()
