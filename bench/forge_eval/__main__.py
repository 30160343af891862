"""`python -m bench.forge_eval`: the forge judged on markets with known truth; status 1 if a target is missed."""

from __future__ import annotations

import argparse
import sys
import time
import zlib
from pathlib import Path

import numpy as np
from rich.console import Console
from rich.progress import Progress
from rich.table import Table

from bench.forge_eval.explain import explain, wrong
from bench.forge_eval.families import FAMILIES
from bench.forge_eval.judge import Judged, admit, chunks, judge
from bench.forge_eval.picture import draw_all
from bench.forge_eval.score import Score, missed, pool, score
from bench.forge_eval.ticks import Market, make
from operators.forge import ForgePolicy

PICTURES = Path("docs/forge")
RECHUNKED = ("sweep", "stall crash")
"""Families that are judged again in random chunks, and must come out the same."""

COLUMNS = (
    "family",
    "trades",
    "wicks",
    "prints",
    "recall",
    "precision",
    "split",
    "suppressed",
    "per million",
    "back again",
    "unverified",
    "excluded",
    "lost",
    "added ms",
    "max",
)
"""`prints`: scored prints of wicks; `split`: wicks caught in part; `back again`: genuine trades re-admitted."""

console = Console(width=160)


def main() -> None:
    """Judge the families asked for, print the table, write the pictures."""
    asked = _arguments()
    names = [name.strip() for name in asked.families.split(",")] if asked.families else list(FAMILIES)
    if unknown := [name for name in names if name not in FAMILIES]:
        sys.exit(f"no family {unknown[0]!r}; there are: {', '.join(FAMILIES)}")
    policy = ForgePolicy(window_ms=asked.window_ms)
    scores, differing, began = {}, [], time.process_time()
    with Progress(console=Console(stderr=True), transient=True) as progress:
        task = progress.add_task("judging", total=len(names))
        for name in names:
            progress.update(task, description=name)
            market, judged = run(name, asked.seed, asked.scale, policy)
            scores[name] = score(market, judged, asked.window_ms)
            for trade in wrong(market, judged)[: asked.explain].tolist():
                console.print(f"[bold]{name}[/bold]", *explain(market, judged, trade), sep="\n", highlight=False)
            if name in RECHUNKED and not same_in_chunks(market, judged, policy, asked.seed):
                differing.append(f"{name}: verdicts depend on how the input was cut")
            progress.advance(task)
    show(scores)
    if asked.pictures:
        for path in draw_all(Path(asked.pictures), policy):
            console.print(f"wrote {path}")
    console.print(f"seed {asked.seed}, scale {asked.scale}, CPU {time.process_time() - began:.0f} s")
    failures = missed(FAMILIES, scores) + differing
    for failure in failures:
        console.print(f"[red]missed[/red]  {failure}", highlight=False)
    sys.exit(1 if failures else 0)


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m bench.forge_eval", description=__doc__)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--scale", type=float, default=1.0, help="symbols a family, as a factor")
    parser.add_argument("--families", default="", help="comma list; default: all")
    parser.add_argument("--window-ms", type=int, default=150)
    parser.add_argument("--explain", type=int, default=0, metavar="N", help="print N wrong verdicts a family")
    parser.add_argument("--pictures", default=str(PICTURES), metavar="DIR", help="where SVGs go; empty: none")
    return parser.parse_args()


def run(name: str, seed: int, scale: float, policy: ForgePolicy) -> tuple[Market, Judged]:
    """Draw a family's market and judge it."""
    rng = np.random.default_rng([seed, zlib.crc32(name.encode())])
    family = FAMILIES[name]
    market = make(family.build(rng, max(2, round(family.symbols * scale))), rng)
    return market, judge(market, policy)


def same_in_chunks(market: Market, judged: Judged, policy: ForgePolicy, seed: int) -> bool:
    """Judge a market again, cut at random, and say whether every verdict, release and reference is the same."""
    again = judge(market, policy, chunks(admit(market)[0], np.random.default_rng(seed)))
    return all(
        np.array_equal(getattr(again, column), getattr(judged, column), equal_nan=True)
        for column in ("first", "final", "held_ms", "readmitted_ms", "reference")
    )


def show(scores: dict[str, Score]) -> None:
    """Print a line a family, and the pooled ones."""
    table = Table(*COLUMNS, title="The forge on markets with known truth", padding=(0, 0, 0, 1))
    for column in table.columns[1:]:
        column.justify = "right"
    for name, one in scores.items():
        table.add_row(*_row(name, one))
    table.add_section()
    with_wicks = [one for name, one in scores.items() if FAMILIES[name].wicks]
    pooled = [one for name, one in scores.items() if FAMILIES[name].pooled]
    for name, part in (("with wicks", with_wicks), ("all pooled", pooled)):
        if part:
            table.add_row(*_row(name, pool(part)))
    console.print(table)
    if pooled:
        for reason, count in pool(pooled).excluded.most_common():
            console.print(f"excluded: {count:,} {reason}", highlight=False)
    console.print(
        "heavy tails is for information, in no pool; added ms: median of release - receipt - W in market time,"
    )
    console.print(
        "the wait for the quantum's end; the live figure, with batching and scheduling, is measured elsewhere"
    )


def _row(name: str, one: Score) -> list[str]:
    counted = one.scored > 0
    return [
        name,
        f"{one.trades:,}",
        f"{one.events:,}" if counted else "",
        f"{one.scored:,}" if counted else "",
        f"{one.recall:.4f}" if counted else "",
        f"{one.precision:.4f}" if counted else "",
        str(one.events_split) if counted else "",
        str(one.suppressed),
        f"{one.suppressed_per_million:.1f}",
        str(one.for_a_moment),
        f"{one.unverified_share:.2%}",
        str(sum(one.excluded.values())),
        str(one.lost),
        f"{np.median(one.added_ms):.1f}",
        f"{np.max(one.added_ms):.1f}",
    ]


if __name__ == "__main__":
    main()
