"""`python -m flows.run [ARGS]`: run the dataflow as a child and show what it does. Behind `make run`.

ARGS go to `python -m bytewax.run flows.mie` as they are, `-w 2` for instance. What is shown comes from the hot store,
as any consumer would read it. The exit status is the dataflow's.
"""

from __future__ import annotations

import os
import signal
import sys
import time
from collections.abc import Sequence
from types import FrameType
from typing import Final

from rich.console import Console

from flows.child import Child
from flows.display import Display, Lines, Screen
from flows.watch import Watch
from market.settings import SettingError, Settings

FLOW: Final = (sys.executable, "-m", "bytewax.run", "flows.mie")
EPOCH_VARIABLE: Final = "BYTEWAX_SNAPSHOT_INTERVAL"
"""Seconds an epoch lasts. Bytewax would take 10; snapshots and back-pressure go by the epoch, so we ask for 1."""
TICK_S: Final = 0.25
"""How often the child's life is looked at."""
STORES_S: Final = 120.0
"""How long the stores may take to appear; a first start builds the database."""
STOP_S: Final = 12.0
"""How long the dataflow may drain after a signal: it promises 10 s. A second signal ends it at once."""


def main(arguments: Sequence[str], flow: Sequence[str] = FLOW) -> int:
    """Run the dataflow until it ends.

    Args:
        arguments: Passed on to the dataflow's command.
        flow: The command.

    Returns:
        Its exit status; 2 if the settings cannot be used.
    """
    try:
        settings = Settings.from_env()
    except SettingError as error:
        sys.stderr.write(f"{error}\n")
        return 2
    environment = {EPOCH_VARIABLE: "1", "PYTHONUNBUFFERED": "1", **os.environ}
    watch = Watch(settings)
    with Child([*flow, *arguments], settings.data_dir / "run" / "mie.log", environment) as child:
        _pass_signals_on(child)
        code = _follow(child, watch, _display(child, watch))
    watch.close()
    if code != 0:
        tail = "\n".join(child.tail)
        sys.stderr.write(f"{tail}\nthe dataflow ended with status {code}; its log is {child.log}\n")
    return code


def _display(child: Child, watch: Watch) -> Display:
    if sys.stdout.isatty():
        return Screen(watch, lambda: child.tail[-1] if child.tail else "", Console())
    return Lines(watch, sys.stdout)


def _follow(child: Child, watch: Watch, display: Display) -> int:
    due_s = time.monotonic()
    give_up_s = due_s + STORES_S if watch.settings.redis_url is None else float("inf")
    gave_up = False
    with display:
        while (code := child.wait(TICK_S)) is None:
            now_s = time.monotonic()
            if now_s >= due_s and not child.stopping:  # what drains takes its stores with it
                watch.poll()
                display.show()
                due_s = now_s + display.every_s
            if watch.stores is None and not child.stopping and now_s > give_up_s:
                gave_up = True
                child.stop(signal.SIGTERM, STOP_S)
    if gave_up:
        sys.stderr.write(f"the embedded stores did not answer within {STORES_S:g} s\n")
    return code or int(gave_up)


def _pass_signals_on(child: Child) -> None:
    def stop(number: int, frame: FrameType | None) -> None:
        child.stop(signal.SIGTERM if number == signal.SIGHUP else number, STOP_S)

    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, stop)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
