"""`python -m flows.health`: exit 0 if the market is fresh, else 1 and one line that says why. For container checks.

Fresh means: some venue's newest tick in the hot store is at most FRESH_S old. That covers the whole way, from the
sockets through the dataflow and the writer to the store. A replay is not fresh, and needs no health check.
"""

from __future__ import annotations

import sys
import time
from typing import Final

from redis import RedisError

from flows import status
from flows.watch import connect, find
from market.settings import SettingError, Settings

FRESH_S: Final = 30.0
"""Seven venues are never silent together for so long; a restart of the writer takes less."""


def main() -> int:
    """Check once; return the exit status."""
    try:
        trouble = check(Settings.from_env(), time.time_ns())
    except SettingError as error:
        trouble = str(error)
    if trouble:
        sys.stderr.write(f"{trouble}\n")
    return int(bool(trouble))


def check(settings: Settings, now_ns: int) -> str:
    """Return what is wrong, one line, or nothing.

    Args:
        settings: Name the hot store.
        now_ns: UTC epoch nanoseconds.
    """
    stores = find(settings)
    if stores is None:
        return "no stores yet"
    try:
        with connect(stores.redis) as connection:
            snapshot = status.read(connection, 0.0)
    except RedisError as error:
        return f"the hot store does not answer: {type(error).__name__}"
    newest_ns = max((row.last_receive_ns for row in snapshot.venues), default=0)
    if newest_ns == 0:
        return "no venue has sent a tick yet"
    age_s = (now_ns - newest_ns) / 1e9
    return f"the newest tick is {age_s:.0f} s old, {FRESH_S:g} s are allowed" if age_s > FRESH_S else ""


if __name__ == "__main__":
    sys.exit(main())
