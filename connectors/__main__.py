"""`python -m connectors decode VENUE < frames.jsonl`."""

from __future__ import annotations

import os
import sys

from connectors.decode_command import write_lines
from connectors.venues import VENUES

USAGE = "usage: python -m connectors decode VENUE < frames.jsonl"


def main(arguments: list[str]) -> int:
    """Run the command; return its exit code: 0, or 2 for a command line that cannot be used."""
    if len(arguments) != 2 or arguments[0] != "decode":
        print(f"{USAGE}; VENUE is one of {', '.join(VENUES)}", file=sys.stderr)
        return 2
    venue = VENUES.get(arguments[1])
    if venue is None:
        print(f"unknown venue {arguments[1]!r}: allowed is one of {', '.join(VENUES)}", file=sys.stderr)
        return 2
    try:
        write_lines(venue, sys.stdin.buffer, sys.stdout.buffer)
    except BrokenPipeError:  # the reader has seen enough
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
    except KeyboardInterrupt:
        return 130
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
