"""A small seeded market as a tick recording: several venues, quotes and trades, injected wicks and a crash."""

import numpy as np
import polars as pl

START_NS = 1_790_000_000_000_000_000
VENUES = ("binance", "okx", "bybit", "kraken", "gateio")
LATENCY_NS = {"binance": 8e6, "okx": 25e6, "bybit": 40e6, "kraken": 90e6, "gateio": 60e6}
SKEW_NS = {"binance": -400e6, "okx": 300e6, "bybit": 0, "kraken": 1200e6, "gateio": -50e6}
PRICES = {"BTC-USDT": 80_000.0, "ETH-USDT": 2_400.0, "SOL-USDT": 150.0, "XRP-USDT": 2.2, "PEPE-USDT": 1.1e-5}
WICK = 0.05


def recording(seconds: int, seed: int = 7, ticks_per_s: int = 1_500) -> tuple[pl.DataFrame, set[tuple[str, str, str]]]:
    """Return a recording in receive order, and the (venue, symbol, trade id) of its injected wicks."""
    rng = np.random.default_rng(seed)
    count = seconds * ticks_per_s
    true_ns = np.sort(rng.integers(0, seconds * 10**9, count))
    venue = rng.choice(VENUES, count)
    symbol = rng.choice(list(PRICES), count)
    kind = np.where(rng.random(count) < 0.3, "trade", "quote")
    price = np.array([PRICES[name] for name in symbol])
    for name in PRICES:
        rows = symbol == name
        price[rows] *= np.exp(np.cumsum(rng.normal(0, 2e-5, rows.sum())))
    price *= np.exp(rng.normal(0, 1e-4, count))
    wick = np.zeros(count, bool)
    for at_s in range(6, seconds - 3, 3):
        rows = np.flatnonzero((true_ns > at_s * 10**9) & (kind == "trade"))[:1]
        price[rows] *= 1 + WICK * rng.choice((-1, 1))
        wick[rows] = True
    ids = np.array([str(10**9 + i) for i in range(count)])
    delay_ns = np.array([LATENCY_NS[name] for name in venue]) + rng.exponential(3e6, count)
    receive_ns = START_NS + true_ns + delay_ns.astype(np.int64)
    exchange_ns = START_NS + true_ns + np.array([SKEW_NS[name] for name in venue]).astype(np.int64)
    trade = kind == "trade"
    table = pl.DataFrame(
        {
            "receive_ns": receive_ns,
            "exchange_ns": exchange_ns,
            "venue": venue,
            "symbol": symbol,
            "kind": kind,
            "price": np.where(trade, price, np.nan),
            "size": np.where(trade, rng.exponential(1.0, count) + 1e-3, np.nan),
            "side": np.where(trade, rng.choice((-1, 1), count), 0).astype(np.int8),
            "trade_id": np.where(trade, ids, ""),
            "bid": np.where(trade, np.nan, price * (1 - 5e-5)),
            "bid_size": np.where(trade, np.nan, 1.0),
            "ask": np.where(trade, np.nan, price * (1 + 5e-5)),
            "ask_size": np.where(trade, np.nan, 2.0),
        }
    )
    injected = set(zip(venue[wick].tolist(), symbol[wick].tolist(), ids[wick].tolist(), strict=True))
    return table.fill_nan(None).sort("receive_ns"), injected
