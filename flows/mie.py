"""The dataflow, one page: ticks of every venue in, validated market out.

`python -m bytewax.run flows.mie` runs it; the settings say on what (`market/settings.py`).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Final

import bytewax.operators as op
from bytewax.dataflow import Dataflow
from bytewax.inputs import Source
from bytewax.outputs import Sink

from market.schema import Rows, TickBatch
from market.symbols import SymbolTable
from operators import steps
from operators.forge import ForgePolicy

DELAY_SPREAD_NS: Final = 60_000_000
"""What a candle waits for beyond the forge's window: the usual spread of a link's delays, and a quantum of release."""


@dataclass(frozen=True, slots=True)
class Studying:
    """What is computed on the validated trades.

    Attributes:
        intervals_s: Candle intervals in seconds.
        correlation_interval_s: The one whose returns are correlated.
        correlation_window: Over how many returns.
        warm: Closed candles of the past by key group, CANDLE rows, so that indicators are valid at once.
    """

    intervals_s: tuple[int, ...] = (1, 60)
    correlation_interval_s: int = 60
    correlation_window: int = 30
    warm: Mapping[int, Rows] = field(default_factory=dict)


def build(
    source: Source[tuple[str, TickBatch]],
    table: SymbolTable,
    policy: ForgePolicy,
    studying: Studying,
    *,
    hot: Sink[Any],
    history: Sink[Any],
    archive: Sink[Any] | None = None,
) -> Dataflow:
    """Return the dataflow over a source and its sinks; nothing connects before it runs.

    Args:
        source: Batches of each venue, keyed by its name.
        table: The symbols of this run.
        policy: How the forge judges.
        studying: What is computed.
        hot: Takes newest state: HOT rows, venue states and what the forge's metrics count.
        history: Takes what must not be lost: candles with indicators, wicks, correlations, gaps.
        archive: Takes every released tick with its verdict.
    """
    flow = Dataflow("mie")
    batches = op.input("venues", flow, source)
    ticks, venues, gaps = steps.sequence("sequence", batches, table)
    forged = steps.forge("forge", ticks, table, policy)
    # Steps run in the order in which they stand here: newest state waits for no candle.
    counted = steps.trades("trades", forged, policy.window_ms)
    op.output("hot", op.merge("newest_state", steps.newest("newest", forged), venues, counted), hot)
    hold_ns = policy.window_ms * 1_000_000 + DELAY_SPREAD_NS
    closed = steps.candles("candles", forged, table, studying.intervals_s, hold_ns)
    studied = steps.studies("studies", closed, table, studying.intervals_s, studying.warm)
    correlations = steps.correlate(
        "correlate", studied, table, studying.correlation_interval_s, studying.correlation_window
    )
    lasting = op.merge(
        "lasting", steps.with_candles("with_candles", studied), steps.wicks("wicks", forged), correlations, gaps
    )
    op.output("history", lasting, history)
    if archive is not None:
        ticks_out = op.merge("archived", steps.released("released", forged), steps.let_go("let_go", forged))
        op.output("archive", ticks_out, archive)
    return flow


def flow() -> Dataflow:
    """Return the dataflow the settings ask for; `python -m bytewax.run flows.mie` calls this."""
    from flows.wiring import start

    dataflow: Dataflow = start()
    return dataflow
