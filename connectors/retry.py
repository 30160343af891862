"""When to try again: capped full-jitter back-off, and what is worth a retry."""

from __future__ import annotations

import random
from collections.abc import Iterator
from typing import Final

FIRST_S: Final = 0.5
CAP_S: Final = 60.0
BANNED_S: Final = 120.0
"""HTTP 403 (refused at the door), 418 (banned), 429 (too many): the least wait, since knocking lengthens a ban."""
HEALTHY_S: Final = 60.0
"""A link that lived this long starts the back-off anew."""

_BANS: Final = frozenset({418, 429, 403})


def backoff(rng: random.Random, first_s: float = FIRST_S, cap_s: float = CAP_S) -> Iterator[float]:
    """Yield waits in seconds: uniform in [0, first * 2**n], capped.

    Source: "full jitter" of the AWS Architecture Blog, "Exponential Backoff And Jitter", 2015.
    """
    ceiling = first_s
    while True:
        yield rng.uniform(0.0, ceiling)
        ceiling = min(cap_s, 2.0 * ceiling)


def least_wait_s(code: int) -> float:
    """Return the least wait after a failure with this HTTP status or close code; 0 for all but bans."""
    return BANNED_S if code in _BANS else 0.0
