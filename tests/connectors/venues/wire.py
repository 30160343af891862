"""The captures of a venue, and what every venue's decoder must make of them.

`tests/captures/<venue>/` holds real frames, one a line; `*.expected.jsonl` is their reviewed meaning, `metadata.json`
their origin.
"""

import json
from collections import namedtuple
from decimal import Decimal
from pathlib import Path

import numpy as np

from connectors.venue import OpenCatalog
from market.schema import KINDS, QUOTE, REPLAYED, SIDES, TRADE, UNSTAMPED

CAPTURES = Path(__file__).parents[2] / "captures"

Capture = namedtuple("Capture", "name holds frames expected")

ASKED = {"trade": ("price", "size"), "quote": ("bid", "bid_size", "ask", "ask_size")}


def captures(venue, holds):
    """Return the captures of a venue that hold `ticks`, `control` or `other`."""
    folder = CAPTURES / venue
    files = json.loads((folder / "metadata.json").read_text())["files"]
    return [_read(folder, entry) for entry in files if entry["holds"] == holds]


def _read(folder, entry):
    path = folder / entry["file"]
    expected = path.with_suffix(".expected.jsonl")
    rows = [json.loads(line) for line in expected.read_text().splitlines()] if expected.exists() else []
    return Capture(path.stem, entry["holds"], path.read_bytes().splitlines(), rows)


def all_frames(venue, holds="ticks"):
    return [frame for capture in captures(venue, holds) for frame in capture.frames]


def decode(module, frames, catalog=None):
    """Decode frames received at 1, 2, 3, ...; return what came out, and the catalog."""
    catalog = catalog or OpenCatalog(module.symbol_of_native)
    return module.decode(frames, np.arange(1, len(frames) + 1), catalog), catalog


def rows_of(decoded, names):
    """Return ticks as dictionaries with the keys of expected rows, decimals exact, `line` from the receive time."""
    return [_row_of(tick, names) for tick in decoded.ticks]


def _row_of(tick, names):
    kind = KINDS[tick["kind"]]
    stamped = not tick["flags"] & UNSTAMPED
    row = {"line": int(tick["receive_ns"]), "kind": kind, "symbol": names[tick["symbol"]]}
    row["ts_us"] = int(tick["exchange_ns"]) // 1000 if stamped else None
    row |= {name: None if np.isnan(tick[name]) else decimal_of(tick[name]) for name in ASKED[kind]}
    if kind == "trade":
        row |= {"side": SIDES[int(tick["side"])], "trade_id": tick["trade_id"].decode()}
        row["replayed"] = bool(tick["flags"] & REPLAYED)
    return row


def decimal_of(number):
    """Return the shortest decimal that reads as this float64."""
    return Decimal(repr(float(number)))


def meaning_of(expected):
    """Return an expected row with exact decimals and only what a tick holds."""
    kind = expected["kind"]
    row = {name: expected[name] for name in ("line", "kind", "symbol", "ts_us")}
    row |= {name: None if expected[name] is None else Decimal(expected[name]) for name in ASKED[kind]}
    if kind == "trade":
        row |= {"side": expected["side"], "trade_id": expected["trade_id"]}
        row["replayed"] = expected.get("replayed", False)
    return row


def reasons(decoded):
    return [reject.reason for reject in decoded.rejects]


def one(module, frame, catalog=None):
    """Decode one frame, given as text or as an object; return (rows, reasons)."""
    frame = frame.encode() if isinstance(frame, str) else frame
    frame = frame if isinstance(frame, bytes) else json.dumps(frame).encode()
    decoded, catalog = decode(module, [frame], catalog)
    return rows_of(decoded, catalog.names), reasons(decoded)


def check_sound(decoded, frames):
    """Assert what holds for any decoded frames: every tick is usable, every frame is accounted for."""
    ticks = decoded.ticks
    trades, quotes = ticks[ticks["kind"] == TRADE], ticks[ticks["kind"] == QUOTE]
    assert ((trades["price"] > 0) & (trades["price"] < np.inf) & (trades["size"] > 0) & (trades["size"] < np.inf)).all()
    assert (trades["side"] != 0).all()
    assert (trades["trade_id"] != b"").all()
    for price, size in (("bid", "bid_size"), ("ask", "ask_size")):
        present = ~np.isnan(quotes[price])
        assert (present == ~np.isnan(quotes[size])).all()
        assert (quotes[price][present] > 0).all()
        assert (quotes[size][present] > 0).all()
        assert np.isfinite(quotes[size][present]).all()
    assert (ticks["symbol"] >= 0).all()
    assert (ticks["exchange_ns"] >= 0).all()
    assert ((ticks["flags"] & UNSTAMPED > 0) == (ticks["exchange_ns"] == 0)).all()
    assert (ticks["event_ns"] == 0).all()
    assert (np.diff(ticks["receive_ns"]) >= 0).all()
    places = set(ticks["receive_ns"].tolist()) | {reject.receive_ns for reject in decoded.rejects}
    assert len(places) + len(decoded.control) == len(frames)
    assert [reject.receive_ns for reject in decoded.rejects] == sorted(reject.receive_ns for reject in decoded.rejects)
    assert all(frames[reject.receive_ns - 1] == reject.frame for reject in decoded.rejects)
