"""`python -m flows.judge RECORDING`: how other settings of the forge would have judged it. See docs/tuning.md."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import polars as pl
from rich.console import Console
from rich.progress import Progress

from connectors.recording import RecordingError
from flows import verdicts
from flows.policies import checked, choices, labels, policy_of, products
from flows.recorded import Recorded, open_recording
from flows.rejudge import Judging, rejudge
from market.settings import SettingError, Settings
from operators.forge import ForgePolicy

MOST_SETTINGS = 16
SHOWN = 20
WIDTH = 140
"""Columns of text where the output is no terminal."""


def main(arguments: Sequence[str] | None = None) -> int:
    """Judge a recording with several settings and print how they differ.

    Returns:
        Exit status: 0, or 2 if a setting, an option or the recording cannot be used.
    """
    options = _options().parse_args(arguments)
    try:
        settings = Settings.from_env()
        recorded = open_recording(options.recording, settings)
    except (SettingError, RecordingError) as error:
        sys.stderr.write(f"flows.judge: {error}\n")
        return 2
    values = {choice.name: getattr(options, choice.name) for choice in choices()}
    policies = products(policy_of(settings, recorded.venues), values)
    if len(policies) > MOST_SETTINGS:
        sys.stderr.write(f"flows.judge: {len(policies)} settings at once; at most {MOST_SETTINGS}\n")
        return 2
    judgings = _judge(recorded, policies)
    names = labels(policies)
    found = verdicts.side_by_side(judgings, names)
    _print(recorded, judgings, names, found, options.top)
    if options.csv:
        found.write_csv(options.csv)
    if options.parquet:
        found.write_parquet(options.parquet)
    return 0


def _options() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m flows.judge",
        description="Judge a recording with several settings of the forge, side by side. What the settings of the "
        "environment say (MIE_FORGE_*) comes first; the others are every combination of the values given, and are "
        "compared with it. MIE_SYMBOLS and MIE_VENUES narrow the recording.",
    )
    parser.add_argument(
        "recording", type=Path, help="a tick recording (.parquet), a folder of raw frames, or an archive"
    )
    for choice in choices():
        parser.add_argument(
            f"--{choice.name.replace('_', '-')}",
            nargs="+",
            default=[],
            metavar="N",
            type=_value_of(choice.name),
            help=f"{choice.about} Default: {choice.default}.",
        )
    parser.add_argument("--top", type=int, default=SHOWN, metavar="N", help=f"trades shown; default {SHOWN}")
    parser.add_argument(
        "--csv", type=_new_file, metavar="OUT", help="write all trades that any setting does not confirm"
    )
    parser.add_argument("--parquet", type=_new_file, metavar="OUT", help="the same as Parquet")
    return parser


def _value_of(name: str) -> Any:
    def value(text: str) -> Any:
        try:
            return checked(name, text)
        except ValueError as error:
            message = f"{text}: allowed is {error}"
            raise argparse.ArgumentTypeError(message) from None

    return value


def _new_file(text: str) -> Path:
    path = Path(text)
    if path.is_dir() or not path.parent.is_dir():
        message = f"{text}: a file in a folder that is there"
        raise argparse.ArgumentTypeError(message)
    return path


def _judge(recorded: Recorded, policies: Sequence[ForgePolicy]) -> list[Judging]:
    console = Console(stderr=True)
    with Progress(console=console, transient=True, disable=not console.is_terminal) as progress:
        task = progress.add_task(f"judging with {len(policies)} settings", total=recorded.rows)
        return rejudge(recorded, policies, lambda rows: progress.advance(task, rows))


def _print(
    recorded: Recorded, judgings: Sequence[Judging], names: Sequence[str], found: pl.DataFrame, top: int
) -> None:
    console = Console() if sys.stdout.isatty() else Console(width=WIDTH)
    symbols = recorded.table.names
    console.print(f"{recorded.rows:,} ticks of {len(symbols)} symbols on {', '.join(recorded.venues)}")
    console.print(verdicts.settings_table(judgings, names, found))
    console.print(verdicts.venues_table(judgings), verdicts.symbols_table(judgings, symbols))
    if found["differs"].any():
        console.print(
            verdicts.trades_table(found, names, top), *verdicts.reasons(found, top), sep="\n", highlight=False
        )
    elif len(judgings) > 1:
        console.print("No trade is judged differently.")


if __name__ == "__main__":
    sys.exit(main())
