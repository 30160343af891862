"""`python -m bench`: what a message costs and how many there can be. See `--help`; it takes some three minutes.

Figures are CPU time, user and system, where they can be: on a shared machine that is the steady one.
"""

from __future__ import annotations

import argparse
import os

from rich.console import Console
from rich.table import Table

from bench import decode, stages
from bench.whole import Run

RATES = (10_000, 40_000)
WARM_S = 6.0
LENGTH_S = 15.0

console = Console(width=120)


def main() -> None:
    """Run the parts asked for, all by default."""
    parser = argparse.ArgumentParser(prog="python -m bench", description=__doc__)
    parser.add_argument("parts", nargs="*", choices=["decode", "stages", "whole", "capacity", []], help="default: all")
    parts = parser.parse_args().parts or ["decode", "stages", "whole", "capacity"]
    if "decode" in parts:
        decode.main()
    if "stages" in parts:
        show_stages()
    if "whole" in parts:
        show_whole()
    if "capacity" in parts:
        show_capacity()


def show_stages() -> None:
    """Print the cost of each stage at each rate."""
    found = {rate: stages.measure(rate).us() for rate in RATES}
    table = Table("stage, CPU µs a message", *(f"{rate:,}/s" for rate in RATES), title="Stages")
    for name in next(iter(found.values())):
        table.add_row(name, *(f"{found[rate][name]:.2f}" for rate in RATES))
    table.add_row("sum", *(f"{sum(found[rate].values()):.2f}" for rate in RATES))
    console.print(table)


def show_whole() -> None:
    """Print what whole runs cost a process, and whether anything was lost."""
    table = Table("process, CPU µs a message", *(f"{rate:,}/s" for rate in RATES), title="Whole runs, -w 1")
    columns = [whole_run(rate) for rate in RATES]
    for name in columns[0]:
        table.add_row(name, *(column[name] for column in columns))
    console.print(table)


def whole_run(rate: int) -> dict[str, str]:
    """Measure one whole run; return its column of the table."""
    with Run(rate, workers=1) as run:
        measured = run.measure(WARM_S, LENGTH_S)
        sent, got = run.balance()
    rows = {name: f"{measured.cpu_us.get(name, 0):.2f}" for name in sorted(measured.cpu_us)}
    rows["messages/s through the flow"] = f"{measured.rate:,.0f}"
    rows["ms beyond W, p50 p99"] = f"{measured.late_ms(0.5):.1f} {measured.late_ms(0.99):.1f}"
    rows["sent, received"] = f"{sent:,} {got['messages']:,}"
    rows["rejects, duplicates"] = f"{got['rejects'] + got['unknown_symbols']} {got['duplicates']}"
    rows["MB of dataflow, collector"] = f"{measured.rss_mb['dataflow']:.0f} {measured.rss_mb['collector']:.0f}"
    return rows


def show_capacity() -> None:
    """Print the sustained rate with the simulator flat out, on one worker and on two."""
    table = Table(
        "-w", "messages/s", "CPU µs dataflow", "collectors", "writer", "simulator", "cores used", title="Capacity"
    )
    rates = []
    for workers in (1, 2):
        with Run(0, workers) as run:
            measured = run.measure(WARM_S, LENGTH_S)
        rates.append(measured.rate)
        cpu = measured.cpu_us
        cores = sum(cpu.values()) * measured.rate / 1e6
        parts = (f"{cpu.get(name, 0):.2f}" for name in ("dataflow", "collector", "writer", "simulator"))
        table.add_row(str(workers), f"{measured.rate:,.0f}", *parts, f"{cores:.2f} of {os.cpu_count()}")
    console.print(
        table, f"-w 2 over -w 1: {rates[1] / rates[0]:.2f}x", f"load average before: {os.getloadavg()[0]:.1f}"
    )


if __name__ == "__main__":
    main()
