"""Seeded records, and a wait that is bounded."""

import time

import numpy as np

from market.records import CANDLE, HOT, STUDIES, Correlation, StudyBatch, VenueStatus, Wick

NAMES = ("BTC-USDT", "ETH-USDT", "SOL-USDT", "XRP-USDT")
OPEN_NS = 1_769_860_800_000_000_000
MINUTE_NS = 60_000_000_000


def studies(rows, seed=1, minute=0, revision=0, names=NAMES):
    """Return a StudyBatch: `rows` 1m candles over all symbols from a minute on, indicators partly warming up."""
    rng = np.random.default_rng(seed)
    candles = np.zeros(rows, CANDLE)
    candles["symbol"] = np.arange(rows) % len(names)
    candles["interval_s"] = 60
    candles["open_ns"] = OPEN_NS + (minute + np.arange(rows) // len(names)) * MINUTE_NS
    for column in ("open", "high", "low", "close", "volume", "quote_volume", "buy_volume", "vwap"):
        candles[column] = rng.uniform(1e-9, 1e6, rows)
    candles["trades"] = rng.integers(1, 1 << 40, rows)
    candles["venues"] = 3
    candles["revision"] = revision
    values = {name: rng.normal(size=rows) for name in STUDIES}
    values["macd"][: rows // 2] = np.nan
    return StudyBatch(candles, values)


def wick(trade=1, readmitted_ns=0, **changes):
    fields = {
        "symbol": 0, "venue": 1, "trade_id": f"t-{trade}", "event_ns": OPEN_NS + trade * 1_000,
        "receive_ns": OPEN_NS + trade * 1_000 + 5_000_000, "price": 61_000.5, "size": 0.25, "side": -1,
        "reference": 60_000.25, "deviation_bps": 166.7, "dispersion_bps": 2.5, "basis_bps": -0.5, "witnesses": 2,
        "evidence": {"okx": {"price": 60_000.0, "vote": "did not follow"}}, "readmitted_ns": readmitted_ns,
    }  # fmt: skip
    return Wick(**(fields | changes))


def correlation(values=((1.0, 0.5, np.nan), (0.5, 1.0, -0.25), (np.nan, -0.25, 1.0)), minute=0):
    matrix = np.array(values)
    return Correlation(60, OPEN_NS + minute * MINUTE_NS, 30, np.arange(len(matrix)), matrix)


def hot(prices, first_seq=1):
    """Return one HOT row a price, for the first symbols."""
    rows = np.zeros(len(prices), HOT)
    rows["symbol"] = np.arange(len(prices))
    rows["price"] = prices
    rows["side"] = 1
    rows["event_ns"] = OPEN_NS
    rows["receive_ns"] = OPEN_NS + 1
    rows["bid_venue"] = -1
    rows["bid"] = np.nan
    rows["seq"] = first_seq
    return rows


def status(venue=0, messages=1):
    return VenueStatus(venue, "live", messages, 0, 0, 0, 0, 0, 0, 0, OPEN_NS, -5, 7, OPEN_NS, 9, "bad price")


def until(condition, seconds=20):
    """Poll until something about another thread or process holds."""
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, "the condition never held"
        time.sleep(0.005)
