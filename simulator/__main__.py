"""`python -m simulator`: the seven venues on loopback ports. See `docs` and `--help`."""

from __future__ import annotations

import argparse
import asyncio
import sys
from pathlib import Path

from market.venues import VENUES
from simulator.app import Options, serve
from simulator.faults import CATALOGUE
from simulator.faults.order import OrderError
from simulator.faults.schedule import Entry, read_timeline


def _venues(text: str) -> tuple[str, ...]:
    names = [name.strip() for name in text.split(",") if name.strip()]
    unknown = [name for name in names if name not in VENUES]
    if unknown or not names:
        message = f"{text!r}: allowed is a comma list of {','.join(VENUES)}"
        raise argparse.ArgumentTypeError(message)
    return tuple(name for name in VENUES if name in names)


def _skews(text: str) -> dict[str, float]:
    skews = {}
    for part in text.split(","):
        name, _, value = part.partition("=")
        try:
            skews[_venues(name)[0]] = float(value)
        except ValueError:
            message = f"{part!r}: allowed is VENUE=MILLISECONDS"
            raise argparse.ArgumentTypeError(message) from None
    return skews


def _within(low: float, high: float) -> type[float]:
    def check(text: str) -> float:
        value = float(text)
        if not low <= value <= high:
            message = f"{text}: allowed is a number from {low:g} to {high:g}"
            raise argparse.ArgumentTypeError(message)
        return value

    return check  # type: ignore[return-value]


def _count(text: str) -> int:
    value = int(text)
    if not 1 <= value <= 2000:
        message = f"{text}: allowed is a whole number from 1 to 2000"
        raise argparse.ArgumentTypeError(message)
    return value


def _timeline(text: str) -> tuple[Entry, ...]:
    try:
        return tuple(read_timeline(Path(text)))
    except (OSError, OrderError) as error:
        raise argparse.ArgumentTypeError(str(error)) from None


def _parser() -> argparse.ArgumentParser:
    lines = [f"  {name:16}{fault.SAYS}" for name, fault in CATALOGUE.items()]
    parser = argparse.ArgumentParser(
        prog="python -m simulator",
        description="Seven crypto venues as local servers.",
        epilog="Faults, by POST /sim/fault on any port, --faults or --fault-rate (docs/simulator.md):\n"
        + "\n".join(lines),
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    add = parser.add_argument
    add(
        "--rate", type=_within(0, 5_000_000), default=2000.0, help="ticks a second in all; 0 = as fast as they are read"
    )
    add("--seed", type=int, default=1, help="of the market")
    add("--venues", type=_venues, default=VENUES, help="comma list; default all seven")
    add("--symbols", type=_count, default=50, help="how many, most active first")
    add(
        "--data-dir",
        type=Path,
        default=Path(".mie/sim"),
        help="for endpoints.json, wicks.jsonl, trades.csv, faults.jsonl",
    )
    add("--duration", type=_within(0, 1e9), default=None, help="seconds; default until a signal")
    add("--wicks-per-minute", type=_within(0, 6000), default=12.0, help="injected scam wicks; 0 also means no crashes")
    add("--skew-ms", type=_skews, default={}, help="VENUE=MS,...: what a venue's clock is ahead")
    add("--tls-cert", type=Path, default=None, help="certificate file: serve wss and https")
    add("--tls-key", type=Path, default=None, help="its key file")
    add("--burst", action="store_true", help="ready-made frames, for capacity runs")
    add("--ledger", action="store_true", help="write every trade made for a subscriber to trades.csv")
    add("--ledger-all", action="store_true", help="the same, and every other trade too")
    add("--follow-parent", action="store_true", help="end with the parent process")
    add("--faults", type=_timeline, default=(), help='JSON lines {"at_s": 12.5, "fault": "drop", "venue": "okx", ...}')
    add("--fault-rate", type=_within(0, 6000), default=0.0, help="random faults a minute; default none")
    add("--fault-seed", type=int, default=1, help="of the random faults")
    return parser


def main() -> None:
    """Parse the options and run."""
    parser = _parser()
    args = parser.parse_args()
    if (args.ledger or args.ledger_all) and (args.burst or args.rate == 0):
        parser.error("--ledger needs a paced run: not with --burst or --rate 0")
    if args.tls_key is not None and args.tls_cert is None:
        parser.error("--tls-key needs --tls-cert")
    options = Options(
        rate=args.rate,
        seed=args.seed,
        venues=args.venues,
        symbols=args.symbols,
        data_dir=args.data_dir,
        duration_s=args.duration,
        wicks_per_minute=args.wicks_per_minute,
        skew_ms=args.skew_ms,
        tls_cert=args.tls_cert,
        tls_key=args.tls_key,
        burst=args.burst,
        ledger=args.ledger or args.ledger_all,
        ledger_all=args.ledger_all,
        follow_parent=args.follow_parent,
        faults=args.faults,
        fault_seed=args.fault_seed,
        fault_rate=args.fault_rate,
    )
    try:
        asyncio.run(serve(options))
    except (OSError, OrderError) as error:
        sys.exit(f"simulator: {error}")


if __name__ == "__main__":
    main()
