"""What `/metrics` answers: the counters in the hot store in Prometheus' text format.

Source: prometheus.io/docs/instrumenting/exposition_formats, text format 0.0.4.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Final

CONTENT_TYPE: Final = "text/plain; version=0.0.4; charset=utf-8"
MOST_WORKERS: Final = 1024
"""Workers read at most, whatever a hash says."""

Fields = Mapping[str, str]


@dataclass(frozen=True, slots=True)
class Metric:
    """One metric and the field of a hash that it shows.

    Attributes:
        name: Without `mie_` and what it is about.
        kind: `counter` or `gauge`.
        about: Its HELP line.
        field: Of the hash.
        unit: What one of the field is in the metric's unit.
    """

    name: str
    kind: str
    about: str
    field: str
    unit: float = 1


_NS: Final = 1e-9
_VENUE: Final = (
    Metric("messages_total", "counter", "Frames read", "messages"),
    Metric("rejects_total", "counter", "Frames and rows that could not be read", "rejects"),
    Metric("unknown_symbols_total", "counter", "Rows of symbols that were not asked for", "unknown_symbols"),
    Metric("refused_total", "counter", "Subscriptions the venue refused", "refused"),
    Metric("reconnects_total", "counter", "Connections made anew", "reconnects"),
    Metric("gaps_total", "counter", "Holes found in its trades", "gaps"),
    Metric("duplicates_total", "counter", "Trades dropped as duplicates", "duplicates"),
    Metric("silent_symbols", "gauge", "Symbols subscribed and not heard", "silent_symbols"),
    Metric("backlog_rows", "gauge", "Ticks read and not yet handed on", "backlog_rows"),
    Metric("last_receive_timestamp_seconds", "gauge", "When its last frame came", "last_receive_ns", _NS),
    Metric("watermark_timestamp_seconds", "gauge", "Everything up to here has been handed on", "watermark_ns", _NS),
    Metric("clock_offset_seconds", "gauge", "What is added to its stamps", "clock_offset_ns", _NS),
    Metric("clock_error_seconds", "gauge", "Uncertainty of that", "clock_error_ns", _NS),
    Metric("lag_seconds", "gauge", "Median of receive - event time over the last second", "lag_ns", _NS),
)
_WRITER: Final = (
    Metric("candles_total", "counter", "Candles written to the database", "candles"),
    Metric("wicks_total", "counter", "Wicks written to the database", "wicks"),
    Metric("hot_rows_total", "counter", "Updates of newest state", "hot_rows"),
    Metric("dropped_segments_total", "counter", "Spool segments dropped for its bound", "dropped_segments"),
    Metric("timestamp_seconds", "gauge", "When the writer last said so", "time_ns", _NS),
)
_STORE: Final = (
    Metric("backlog_bytes", "gauge", "In the spool and not yet in the store", "backlog_bytes"),
    Metric("lost_bytes_total", "counter", "Of the spool, dropped or damaged before the store had them", "lost_bytes"),
    Metric("failed_messages_total", "counter", "Messages the store can never hold", "failed_messages"),
)
_VERDICTS: Final = ("confirmed", "wick", "unverified")
_STORES: Final = ("redis", "database")


def exposition(venues: Mapping[str, Fields], writer: Fields, workers: Sequence[Fields]) -> str:
    """Return the text.

    Args:
        venues: Name -> fields of `venue:*`, of those that have any.
        writer: Fields of `mie:writer`.
        workers: Fields of `metrics:forge:*`, by worker.
    """
    lines = [
        *_states(venues),
        *_table("venue", _VENUE, [(f'venue="{name}"', fields, "") for name, fields in venues.items()]),
        *_table("writer", _WRITER, [("", writer, "")]),
        *_ups(writer),
        *_table("writer", _STORE, [(f'store="{store}"', writer, f"{store}_") for store in _STORES]),
        *_verdicts(workers),
        *_latency(workers),
    ]
    return "".join(f"{line}\n" for line in lines)


def _table(part: str, metrics: Iterable[Metric], hashes: Sequence[tuple[str, Fields, str]]) -> Iterator[str]:
    """Yield the lines of metrics that a hash, given with its label and prefix of fields, has a number for."""
    for metric in metrics:
        samples = [(label, _number(fields.get(prefix + metric.field), metric.unit)) for label, fields, prefix in hashes]
        yield from _metric(f"mie_{part}_{metric.name}", metric.kind, metric.about, samples)


def _metric(name: str, kind: str, about: str, samples: Iterable[tuple[str, str | None]]) -> Iterator[str]:
    known = [(label, value) for label, value in samples if value is not None]
    if known:
        yield f"# HELP {name} {about}."
        yield f"# TYPE {name} {kind}"
        for label, value in known:
            yield f"{name}{{{label}}} {value}" if label else f"{name} {value}"


def _number(text: str | None, unit: float = 1) -> str | None:
    """Return a number of a hash in a metric's unit; None where there is none."""
    try:
        value = int(text or "")
    except ValueError:
        return None
    return str(value) if unit == 1 else repr(value * unit)


def _states(venues: Mapping[str, Fields]) -> Iterator[str]:
    states = [(name, fields.get("state")) for name, fields in venues.items()]
    samples = [(f'venue="{name}"', str(int(state == "live"))) for name, state in states if state]
    yield from _metric("mie_venue_up", "gauge", "Whether its link is live", samples)


def _ups(writer: Fields) -> Iterator[str]:
    states = [(store, writer.get(f"{store}_state")) for store in _STORES]
    samples = [(f'store="{store}"', str(int(state == "up"))) for store, state in states if state]
    yield from _metric("mie_writer_store_up", "gauge", "Whether the writer reaches the store", samples)


def _verdicts(workers: Sequence[Fields]) -> Iterator[str]:
    samples = [
        (f'worker="{worker}",verdict="{verdict}"', _number(fields.get(verdict)))
        for worker, fields in enumerate(workers)
        for verdict in _VERDICTS
    ]
    yield from _metric("mie_forge_trades_total", "counter", "Trades released, by verdict", samples)
    back = [(f'worker="{worker}"', _number(fields.get("readmitted"))) for worker, fields in enumerate(workers)]
    yield from _metric("mie_forge_readmitted_total", "counter", "Wicks that others confirmed later", back)


def _latency(workers: Sequence[Fields]) -> Iterator[str]:
    """Yield the histogram; nothing in a replay, where it is not counted."""
    live = [(worker, fields) for worker, fields in enumerate(workers) if "le_inf" in fields]
    name = "mie_forge_added_latency_seconds"
    if live:
        yield f"# HELP {name} From W after a trade's receipt to its release, wall clock."
        yield f"# TYPE {name} histogram"
    for worker, fields in live:
        buckets = {field.removeprefix("le_"): count for field, count in fields.items() if field.startswith("le_")}
        for bound in sorted(buckets, key=float):
            edge = "+Inf" if bound == "inf" else bound
            yield f'{name}_bucket{{worker="{worker}",le="{edge}"}} {buckets[bound]}'
        yield f'{name}_sum{{worker="{worker}"}} {_number(fields.get("sum_ns"), _NS) or 0}'
        yield f'{name}_count{{worker="{worker}"}} {fields["le_inf"]}'
