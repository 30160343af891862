"""What the running market looks like, read from the hot store as any consumer would, and how it is shown.

Pure steps: `read` takes a Redis connection and gives a `Snapshot`, `rates` compares two of them, `table` and `line`
turn them into text for a terminal or for a log. It refuses to know the flow: only the keys of `docs/redis.md`.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final

import msgspec
from redis import Redis
from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text

from market.venues import VENUES
from sinks import keys

WICKS_SHOWN: Final = 5
SCAN_ROWS: Final = 1000
"""Keys a SCAN step looks at: large enough for one or two steps, small enough not to hold the server up."""
STATE_STYLES: Final = {"live": "green", "connecting": "yellow", "stale": "yellow", "down": "red", "ended": "dim"}


@dataclass(frozen=True, slots=True)
class VenueRow:
    """One venue's counters since its session's start, and its clock."""

    name: str
    state: str
    messages: int
    rejects: int
    reconnects: int
    lag_ns: int
    clock_offset_ns: int
    last_receive_ns: int


@dataclass(frozen=True, slots=True)
class WickRow:
    """A flagged trade, as much of it as a line holds."""

    symbol: str = "?"
    venue: str = "?"
    price: float = float("nan")
    reference: float = float("nan")
    deviation_bps: float = float("nan")


@dataclass(frozen=True, slots=True)
class Snapshot:
    """The hot store at one moment.

    Attributes:
        at_s: When it was read, seconds of the caller's monotonic clock.
        venues: The venues that have a hash, in code order.
        symbols: How many symbols have a newest state.
        candles: Candle rows the writer has put into the stores.
        wicks: Trades flagged so far.
        last_wicks: The newest flagged trades, newest first, at most WICKS_SHOWN.
    """

    at_s: float
    venues: tuple[VenueRow, ...] = ()
    symbols: int = 0
    candles: int = 0
    wicks: int = 0
    last_wicks: tuple[WickRow, ...] = ()

    @property
    def live(self) -> int:
        """How many venues are live."""
        return sum(row.state == "live" for row in self.venues)


def read(connection: Redis, at_s: float) -> Snapshot:
    """Read a snapshot. The connection answers with text (`decode_responses=True`) and has its own timeout.

    Raises:
        redis.RedisError: The store does not answer.
    """
    pipeline = connection.pipeline(transaction=False)
    for name in VENUES:
        pipeline.hgetall(keys.venue(name))
    pipeline.hgetall(keys.WRITER)
    pipeline.xrevrange(keys.WICK_STREAM, count=WICKS_SHOWN)
    *venues, writer, wicks = pipeline.execute()
    return Snapshot(
        at_s=at_s,
        venues=tuple(_venue(name, fields) for name, fields in zip(VENUES, venues, strict=True) if fields),
        symbols=sum(1 for _ in connection.scan_iter(match=keys.ticker("*"), count=SCAN_ROWS)),
        candles=_whole(writer, "candles"),
        wicks=_whole(writer, "wicks"),
        last_wicks=tuple(_wick(fields) for _, fields in wicks),
    )


def rates(before: Snapshot | None, now: Snapshot) -> dict[str, float]:
    """Return messages a second of each venue between two snapshots; venues without an earlier count are left out.

    A counter that fell belongs to a new session: its venue counts from zero.
    """
    if before is None or now.at_s <= before.at_s:
        return {}
    earlier = {row.name: row.messages for row in before.venues}
    return {
        row.name: (row.messages - (earlier[row.name] if row.messages >= earlier[row.name] else 0))
        / (now.at_s - before.at_s)
        for row in now.venues
        if row.name in earlier
    }


def table(snapshot: Snapshot, rate: Mapping[str, float]) -> RenderableType:
    """Render a snapshot for a terminal: a row a venue, the totals, the newest wicks."""
    grid = Table(box=None, padding=(0, 2, 0, 0), header_style="bold")
    grid.add_column("venue")
    grid.add_column("state")
    for heading in ("messages/s", "lag ms", "clock offset ms", "rejects", "reconnects"):
        grid.add_column(heading, justify="right")
    for row in snapshot.venues:
        grid.add_row(
            row.name,
            Text(row.state, STATE_STYLES.get(row.state, "")),
            f"{rate[row.name]:,.0f}" if row.name in rate else "-",
            f"{row.lag_ns / 1e6:,.1f}",
            f"{row.clock_offset_ns / 1e6:+,.1f}",
            f"{row.rejects:,}",
            f"{row.reconnects:,}",
        )
    totals = Text(
        f"{snapshot.symbols:,} symbols   {sum(rate.values()):,.0f} messages/s   "
        f"{snapshot.candles:,} candles written   {snapshot.wicks:,} wicks flagged"
    )
    wicks = [Text(wick_line(row), "red") for row in snapshot.last_wicks]
    return Group(grid, Text(), totals, *wicks)


def line(snapshot: Snapshot, rate: Mapping[str, float]) -> str:
    """Render a snapshot as one line for a log."""
    lag_ms = max((row.lag_ns for row in snapshot.venues), default=0) / 1e6
    rejects = sum(row.rejects for row in snapshot.venues)
    return (
        f"{snapshot.live}/{len(snapshot.venues)} venues live, {sum(rate.values()):,.0f} messages/s, "
        f"lag {lag_ms:,.1f} ms at most, {rejects:,} rejects, {snapshot.symbols:,} symbols, "
        f"{snapshot.candles:,} candles, {snapshot.wicks:,} wicks"
    )


def wick_line(row: WickRow) -> str:
    """Render a flagged trade as one line."""
    return f"wick {row.symbol} {row.venue} {row.price:g}, others {row.reference:g} ({row.deviation_bps:+,.0f} bps)"


def _venue(name: str, fields: Mapping[str, str]) -> VenueRow:
    return VenueRow(
        name=name,
        state=fields.get("state", "unknown"),
        messages=_whole(fields, "messages"),
        rejects=_whole(fields, "rejects"),
        reconnects=_whole(fields, "reconnects"),
        lag_ns=_whole(fields, "lag_ns"),
        clock_offset_ns=_whole(fields, "clock_offset_ns"),
        last_receive_ns=_whole(fields, "last_receive_ns"),
    )


def _wick(fields: Mapping[str, str]) -> WickRow:
    try:
        return msgspec.json.decode(fields.get("wick", "{}"), type=WickRow)
    except msgspec.DecodeError:
        return WickRow()


def _whole(fields: Mapping[str, str], name: str) -> int:
    # A field that is not there yet, or that another version writes otherwise, must not end the display.
    try:
        return int(fields.get(name, 0))
    except ValueError:
        return 0
