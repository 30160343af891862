"""What a soak says at its end: figures over time, and the account."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime

import numpy as np
import polars as pl

from bench.soak.account import Account
from bench.soak.rig import COUNTED

WARM_PART = 0.2
"""Memory is judged after this part of the run: caches fill first."""
NAMED = 10
"""Most trades that a line names."""


@dataclass(slots=True)
class Course:
    """Samples of a run, a value a sample.

    Attributes:
        at_s: Seconds from the start.
        rss_mb: By process, MiB.
        cpu_s: By process, CPU seconds so far.
        messages: Messages received so far.
    """

    at_s: list[float] = field(default_factory=list)
    rss_mb: list[Mapping[str, float]] = field(default_factory=list)
    cpu_s: list[Mapping[str, float]] = field(default_factory=list)
    messages: list[int] = field(default_factory=list)

    def add(self, at_s: float, cpu_s: Mapping[str, float], rss_mb: Mapping[str, float], messages: int) -> None:
        """Add a sample."""
        self.at_s.append(at_s)
        self.cpu_s.append(cpu_s)
        self.rss_mb.append(rss_mb)
        self.messages.append(messages)

    def memory(self, process: str) -> tuple[float, float, float, float]:
        """Return MiB of a process at the start, after WARM_PART of the time, at the end, and the slope an hour."""
        samples = zip(self.at_s, self.rss_mb, strict=True)
        seen = [(at_s, rss[process]) for at_s, rss in samples if process in rss]
        at_s, rss = np.array(seen).T
        warm = at_s >= at_s[0] + WARM_PART * (at_s[-1] - at_s[0])
        slope = np.polyfit(at_s[warm] / 3600, rss[warm], 1)[0] if warm.sum() > 1 else 0.0
        return float(rss[0]), float(rss[warm][0]), float(rss[-1]), float(slope)

    def cpu_us(self, process: str) -> float:
        """Return CPU µs a message."""
        used_s = self.cpu_s[-1].get(process, 0.0) - self.cpu_s[0].get(process, 0.0)
        return used_s / max(1, self.messages[-1] - self.messages[0]) * 1e6


def of_run(course: Course, counts: Mapping[str, Counter[str]], ordered: Counter[str], filled: int, open_: int) -> str:
    """Return the figures of a run as text."""
    total: Counter[str] = sum(counts.values(), Counter())
    minutes = (course.at_s[-1] - course.at_s[0]) / 60
    rate = (course.messages[-1] - course.messages[0]) / max(60 * minutes, 1e-9)
    lines = [f"{minutes:.1f} minutes, {total['messages']:,} messages, {rate:,.0f} a second"]
    lines.append(f"faults: {sum(ordered.values())}: " + ", ".join(f"{n} {kind}" for kind, n in sorted(ordered.items())))
    lines.append(f"holes: {total['gaps']} found; rows in gaps: {filled} filled, {open_} not")
    lines.append(f"{'':10}" + "".join(f"{name:>16}" for name in COUNTED))
    lines += [f"{venue:10}" + "".join(f"{seen[name]:>16,}" for name in COUNTED) for venue, seen in counts.items()]
    lines.append("RSS MiB: start, warm, end, slope a hour; CPU µs a message")
    for process in sorted(course.rss_mb[0]):
        start, warm, end, slope = course.memory(process)
        lines.append(f"{process:10}{start:8.0f}{warm:8.0f}{end:8.0f}{slope:+8.1f}{course.cpu_us(process):10.2f}")
    return "\n".join(lines)


def of_account(books: Account, suspects: pl.DataFrame) -> str:
    """Return what became of the trades as text; of what is wrong, which, and around which fault."""
    lines = [
        f"trades made: {books.made:,}; in the archive {books.whole:,}, in gaps {books.in_gaps:,}, "
        f"missing {books.missing.height:,}, doubled {books.doubled.height:,}; "
        f"repeated history beside them {books.unasked:,}"
    ]
    for row in suspects.iter_rows(named=True):
        when = _time(row["at_ns"]) if row["at_ns"] is not None else "no time"
        ids = _some(row["trade_id"])
        count = f"{row['trades']} trades ({row['sent']} sent)"
        lines.append(f"MISSING {row['venue']}: {count} after {row['fault']} at {when}: {_some(row['symbol'])}: {ids}")
    lines += [f"DOUBLED {venue} {symbol} {number}" for venue, symbol, number in books.doubled.head(NAMED).iter_rows()]
    return "\n".join(lines)


def _some(names: Sequence[object]) -> str:
    return " ".join(str(name) for name in names[:NAMED]) + (" ..." if len(names) > NAMED else "")


def _time(at_ns: int) -> str:
    return datetime.fromtimestamp(at_ns / 1e9, UTC).strftime("%H:%M:%S")
