"""`python -m bench.soak`: a day's faults in an hour, the whole flow, and at the end every trade accounted for.

Status 1 if a trade is missing or doubled, a venue does not come back, or the flow ends on its own.
"""

from __future__ import annotations

import argparse
import json
import sys
import time
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import polars as pl
from rich.console import Console
from rich.progress import Progress

from bench.soak import report
from bench.soak.account import account, read_archive, read_ledger, suspects
from bench.soak.orders import draw, kills
from bench.soak.rig import SYMBOLS, Rig
from market.venues import VENUES
from simulator.faults.schedule import Entry
from simulator.universe import build_universe

TICK_S = 0.2
SAMPLE_S = 5.0
LIVE_S = 300.0
"""How long after the last fault the venues may take to be live again: a ban is sat out for two minutes."""
SETTLE_S = 60.0
"""How long the last holes get to show, by their symbols' next trades, and to be refilled."""


def main() -> None:
    """Run it and print the report."""
    args = _arguments()
    universe = build_universe(SYMBOLS, VENUES)
    symbols = {name: [universe.symbols[int(universe.symbol[at])] for at in universe.of_venue(name)] for name in VENUES}
    entries = draw(args.seed, args.faults, symbols)
    with Rig(args.data_dir, rate=args.rate, seed=args.seed) as rig:
        course, ordered = drive(rig, entries, kills(args.seed, args.seconds), args.seconds)
        ended, states = rig.has_ended, dict(rig.states)
        code = rig.stop()
        rig.end_simulator()
        gaps, filled = rig.gaps()
    books = account(read_ledger(args.data_dir / "sim" / "trades.csv", rig.down), read_archive(rig.archive_dir), gaps)
    print(f"seed {args.seed}, {args.rate}/s, {args.faults:g} random faults a minute and the forced ones")
    print(report.of_run(course, rig.counts, ordered, filled, gaps.height))
    print(report.of_account(books, suspects(books.missing, _faults(args.data_dir / "sim", rig.killed))))
    if down := [f"{name} {state}" for name, state in states.items() if state != "live"]:
        print(f"not live a minute after the last fault: {', '.join(down)}")
    if ended or code:
        print(f"the flow {'ended on its own' if ended else 'did not drain'}, status {code}: {args.data_dir}/flow.log")
    sys.exit(0 if books.is_balanced and not (down or ended or code) else 1)


def drive(
    rig: Rig, entries: Iterator[Entry], kills: list[tuple[float, str]], seconds: float
) -> tuple[report.Course, Counter[str]]:
    """Order faults for some seconds, then let all come to rest; return samples, and faults ordered by kind."""
    course, ordered = report.Course(), Counter[str]()
    with Progress(console=Console(stderr=True)) as progress:
        task = progress.add_task("", total=seconds)
        began_s = time.monotonic()

        def passing(until_s: float) -> Iterator[float]:
            """Yield the seconds passed, some times a second and with a sample now and then, unless the flow ends."""
            while (now_s := time.monotonic() - began_s) < until_s and not rig.has_ended:
                if not course.at_s or now_s - course.at_s[-1] >= SAMPLE_S:
                    rig.look()
                    course.add(now_s, *rig.processes.usage(), sum(seen["messages"] for seen in rig.counts.values()))
                    down = [f"{name} {state}" for name, state in rig.states.items() if state != "live"]
                    progress.update(task, completed=min(now_s, seconds), description=", ".join(down) or "all live")
                yield now_s
                time.sleep(TICK_S)

        at_s, order = next(entries)
        for now_s in passing(seconds):
            while at_s <= now_s:
                ordered[order.fault] += rig.order(order)
                at_s, order = next(entries)
            if kills and kills[0][0] <= now_s:
                ordered[kills[0][1]] += 1
                rig.kill(kills.pop(0)[1])
        for _ in passing(seconds + LIVE_S):
            rig.clear()
            if rig.is_live():
                break
        for _ in passing(time.monotonic() - began_s + SETTLE_S):
            pass
    return course, ordered


def _faults(directory: Path, killed: list[tuple[str, int]]) -> pl.DataFrame:
    lines = [json.loads(line) for line in (directory / "faults.jsonl").read_text().splitlines()]
    begun = [(line["venue"], line["fault"], line["at_ns"]) for line in lines if line["event"] == "begin"]
    begun += [(venue, name, at_ns) for name, at_ns in killed for venue in VENUES]
    return pl.DataFrame(begun, {"venue": pl.String, "fault": pl.String, "at_ns": pl.Int64}, orient="row")


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m bench.soak", description=__doc__)
    parser.add_argument("--seconds", type=float, default=3600.0, help="of faults; a minute or more of quiet follows")
    parser.add_argument("--seed", type=int, default=1, help="of the market and of the faults")
    parser.add_argument("--rate", type=int, default=2000, help="messages a second in all")
    parser.add_argument("--faults", type=float, default=12.0, help="random faults a minute")
    parser.add_argument(
        "--data-dir", type=Path, default=Path(".mie/soak"), help="emptied at the start, kept at the end"
    )
    return parser.parse_args()


if __name__ == "__main__":
    main()
