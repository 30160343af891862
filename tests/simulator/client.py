"""A simulator in its own process, and a plain client of it."""

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
