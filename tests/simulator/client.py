"""A simulator in its own process, and a plain client of it."""

import contextlib
import json
import re
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Callable

from websockets.sync.client import connect

WAIT_S = 15
FEEDS = {
    "binance": (
        "/stream",
        "{}USDT",
        lambda name: {"method": "SUBSCRIBE", "params": [f"{name.lower()}@trade"], "id": 1},
    ),
    "okx": (
        "/ws/v5/public",
        "{}-USDT",
        lambda name: {"op": "subscribe", "args": [{"channel": "trades", "instId": name}]},
    ),
    "bybit": ("/v5/public/spot", "{}USDT", lambda name: {"op": "subscribe", "args": [f"publicTrade.{name}"]}),
    "kraken": (
        "/v2",
        "{}/USDT",
        lambda name: {"method": "subscribe", "params": {"channel": "trade", "symbol": [name], "snapshot": False}},
    ),
    "gateio": (
        "/ws/v4/",
        "{}_USDT",
        lambda name: {"time": 1, "channel": "spot.trades", "event": "subscribe", "payload": [name]},
    ),
    "bitget": (
        "/v2/ws/public",
        "{}USDT",
        lambda name: {"op": "subscribe", "args": [{"instType": "SPOT", "channel": "trade", "instId": name}]},
    ),
    "kucoin": (
        "/",
        "{}-USDT",
        lambda name: {"id": "1", "type": "subscribe", "topic": f"/market/match:{name}", "response": True},
    ),
}
"""Venue -> path, its name of a coin, and the request for a coin's trades."""
PINGS = {
    "okx": "ping",
    "bybit": {"op": "ping"},
    "kraken": {"method": "ping"},
    "gateio": {"time": 1, "channel": "spot.ping"},
    "bitget": "ping",
    "kucoin": {"id": "7", "type": "ping"},
}
_DECIMAL = re.compile(r"^-?\d+(\.\d+)?$")


class Running:
    """A started simulator: its directory, process and endpoints."""

    def __init__(self, folder, *options):
        self.folder = folder
        command = [sys.executable, "-m", "simulator", "--data-dir", str(folder), "--follow-parent", *options]
        self.process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
        self.ready = self.process.stdout.readline()
        assert self.ready.startswith("simulator ready: ")
        self.endpoints = json.loads((folder / "endpoints.json").read_text())

    def ws(self, venue, path, **options):
        """Connect to a venue's socket."""
        return connect(self.endpoints[venue]["ws"] + path, compression=None, open_timeout=WAIT_S, **options)

    def rest(self, venue, path, *, post=False):
        """Return a REST answer, parsed, whatever its status."""
        request = urllib.request.Request(self.endpoints[venue]["rest"] + path, data=b"" if post else None)
        try:
            with urllib.request.urlopen(request, timeout=WAIT_S) as reply:
                return json.load(reply)
        except urllib.error.HTTPError as error:
            with error:
                return json.load(error)

    def order(self, port, fault, /, **fields):
        """Order a fault on a venue's port; return its line of the log, the first with several."""
        posted = json.dumps({"fault": fault, **fields}).encode()
        request = urllib.request.Request(self.endpoints[port]["rest"] + "/sim/fault", data=posted)
        with urllib.request.urlopen(request, timeout=WAIT_S) as reply:
            answer = json.load(reply)
        return answer if fault == "clear" else answer["faults"][0]

    def log(self):
        """Return the faults so far, as logged."""
        return [json.loads(line) for line in (self.folder / "faults.jsonl").read_text().splitlines()]

    @contextlib.contextmanager
    def feed(self, venue, *bases, **options):
        """Connect to a venue and subscribe to the trades of some coins, BTC without any; acks are left to read."""
        path, native, request = FEEDS[venue]
        if venue == "kucoin":
            path += "?token=" + self.rest("kucoin", "/api/v1/bullet-public", post=True)["data"]["token"]
        with self.ws(venue, path, **{"close_timeout": 0.3, **options}) as socket:
            for base in bases or ("BTC",):
                send(socket, request(native.format(base)))
            yield socket

    def stats(self):
        """Return the simulator's counts."""
        venue = next(iter(self.endpoints))
        return self.rest(venue, "/sim/stats")

    def end(self):
        """Close its standard input, as its parent's end would; return its exit code."""
        if not self.process.stdin.closed:
            self.process.stdin.close()
        code = self.process.wait(WAIT_S)
        self.process.stdout.close()
        return code


def send(socket, message):
    """Send a value as JSON, or a text as it is."""
    socket.send(message if isinstance(message, str) else json.dumps(message))


def receive_until(socket, wanted: Callable):
    """Return the first frame that satisfies `wanted`, parsed if it is JSON, and those before it."""
    before = []
    deadline = time.monotonic() + WAIT_S
    while True:
        text = socket.recv(timeout=max(0.01, deadline - time.monotonic()))
        frame = json.loads(text) if text[:1] in "{[" else text
        if wanted(frame):
            return frame, before
        before.append(frame)


def trade_ids(venue, frame):
    """Return the trade ids in a parsed frame as ints, in its order; empty if it is no trade of the present."""
    if not isinstance(frame, dict):
        return []
    if venue == "binance":
        return [frame["data"]["t"]] if frame.get("stream", "").endswith("@trade") else []
    if venue == "gateio":
        return [frame["result"]["id"]] if frame.get("event") == "update" else []
    if venue == "kucoin":
        return [int(frame["data"]["tradeId"])] if frame.get("type") == "message" else []
    key = {"okx": "tradeId", "bybit": "i", "kraken": "trade_id", "bitget": "tradeId"}[venue]
    old = frame.get("action") == "snapshot" or (venue == "kraken" and frame.get("type") == "snapshot")
    rows = frame.get("data") or []
    return (
        [] if old else [int(row[key]) for row in rows if isinstance(row, dict) and isinstance(row.get(key), str | int)]
    )


def wait_for(condition: Callable):
    """Return the first true value of `condition`, asked until the deadline."""
    deadline = time.monotonic() + WAIT_S
    while not (value := condition()):
        assert time.monotonic() < deadline
        time.sleep(0.02)
    return value


def shape(value):
    """Return a JSON value's keys in order and types; texts of digits are `decimal`, lists show their first item."""
    if isinstance(value, dict):
        return [(key, shape(item)) for key, item in value.items()]
    if isinstance(value, list):
        return [shape(value[0])] if value else []
    if isinstance(value, str):
        return "decimal" if _DECIMAL.match(value) else "text"
    return type(value).__name__


def same_shape(frame, real):
    """Return whether a frame has the keys, their order and the types of a real one, given as text."""
    return shape(frame) == shape(json.loads(real))
