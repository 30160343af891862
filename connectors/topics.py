"""Topics, and how they are cut into subscribe requests.

A topic is one channel of one native symbol. Where a venue has no such word of its own, ours is `channel:native`.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence


def split(topics: Sequence[str], size: int) -> Iterator[Sequence[str]]:
    """Yield the topics in order, `size` at a time."""
    for start in range(0, len(topics), size):
        yield topics[start : start + size]


def by_channel(topics: Sequence[str], size: int) -> Iterator[tuple[str, list[str]]]:
    """Yield (channel, natives) in order of first sight of a channel, at most `size` natives at a time."""
    channels: dict[str, list[str]] = {}
    for topic in topics:
        channel, _, native = topic.partition(":")
        channels.setdefault(channel, []).append(native)
    for channel, natives in channels.items():
        for part in split(natives, size):
            yield channel, list(part)


def bounds(prefix: str) -> tuple[str, str]:
    """Return the texts between which all texts with a prefix lie: half the time of `startswith`."""
    return prefix, prefix[:-1] + chr(ord(prefix[-1]) + 1)
