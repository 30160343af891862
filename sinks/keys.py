"""Names of the Redis keys and channels: the public contract of the hot store, described in `docs/redis.md`."""

from __future__ import annotations

TICKER_PREFIX = "tk:"
VENUE_PREFIX = "venue:"
CANDLE_CHANNEL_PREFIX = "NEW_CANDLE:"
WICK_CHANNEL_PREFIX = "WICK:"
WICK_STREAM = "wicks"
FORGE_METRICS_PREFIX = "metrics:forge:"
SPOOL_POSITION_PREFIX = "mie:spool:"
WRITER = "mie:writer"
"""Hash with the state of the writer process."""

CANDLE_STREAM_LENGTH = 100_000
"""Approximate bound of each `candles:*` stream, entries."""
WICK_STREAM_LENGTH = 10_000
"""Approximate bound of the `wicks` stream, entries."""


def ticker(symbol: str) -> str:
    """Hash of a symbol's newest state."""
    return f"{TICKER_PREFIX}{symbol}"


def candle_channel(symbol: str, interval: str) -> str:
    """Pub/Sub channel of a symbol's closed and amended candles."""
    return f"{CANDLE_CHANNEL_PREFIX}{symbol}:{interval}"


def candle_stream(interval: str) -> str:
    """Stream of all symbols' closed and amended candles."""
    return f"candles:{interval}"


def indicators(symbol: str, interval: str) -> str:
    """Hash of the newest indicators."""
    return f"ind:{symbol}:{interval}"


def correlations(symbol: str, interval: str) -> str:
    """Sorted set peer -> Pearson."""
    return f"corr:{symbol}:{interval}"


def wick_channel(symbol: str) -> str:
    """Pub/Sub channel of a symbol's wicks."""
    return f"{WICK_CHANNEL_PREFIX}{symbol}"


def venue(name: str) -> str:
    """Hash of a venue's state."""
    return f"{VENUE_PREFIX}{name}"


def forge_metrics(worker: int) -> str:
    """Hash of what a dataflow worker's forges have counted."""
    return f"{FORGE_METRICS_PREFIX}{worker}"
