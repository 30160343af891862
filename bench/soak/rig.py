"""What a soak runs: the simulator, the embedded stores and the flow, each of which outlives the others' restarts."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections import Counter
from contextlib import ExitStack
from pathlib import Path
from types import TracebackType
from typing import Any, Final, Self

import polars as pl
import psutil
import psycopg
import redis

from bench.whole import STOP_S, Processes
from flows.services import Child
from market.venues import VENUES
from simulator.faults.order import Order
from sinks.embedded import embedded_stores
from sinks.paths import lock, run_dir

START_S: Final = 180.0
"""What all of it may take to come up, on a machine that is busy with other things."""
ORDER_S: Final = 5.0
RECOVERY: Final = ("-s", "1", "-b", "60")
"""A state each second, and a minute of older ones, as README says."""
SYMBOLS: Final = 50
REFRESH_S: Final = 20
"""How often venue lists are read: a symbol that comes and goes within seconds here would take minutes elsewhere."""
COUNTED: Final = ("messages", "rejects", "unknown_symbols", "refused", "duplicates", "reconnects", "gaps")


class Rig:
    """A run on `data_dir`, as a context manager; the directory is emptied before."""

    def __init__(self, data_dir: Path, *, rate: int, seed: int) -> None:
        self.data_dir = data_dir
        self.archive_dir = data_dir / "archive"
        self._rate = rate
        self._seed = seed
        self._stack = ExitStack()
        self._last: dict[str, Counter[str]] = {name: Counter() for name in VENUES}
        self.counts: dict[str, Counter[str]] = {name: Counter() for name in VENUES}
        """Venue -> COUNTED, over all collectors so far."""
        self.states: dict[str, str] = {}
        self.killed: list[tuple[str, int]] = []
        """What was killed, and when, UTC epoch nanoseconds."""
        self.down: list[tuple[int, int]] = []
        """When the flow was down, from its kill until all venues were live again."""
        self._is_down = False
        self.processes = Processes(0, data_dir)

    def __enter__(self) -> Self:
        """Start all of it; return once every venue is live.

        Raises:
            RuntimeError: It does not come up.
        """
        shutil.rmtree(self.data_dir, ignore_errors=True)
        try:
            self._simulator()
            self._stores = self._stack.enter_context(embedded_stores(self.data_dir))
            self._hot = redis.Redis.from_url(self._stores.redis, decode_responses=True)
            self._stack.callback(self._hot.close)
            self._log = self._stack.enter_context((self.data_dir / "flow.log").open("w+"))
            self._recovery = self.data_dir / "recovery"
            self._recovery.mkdir()
            subprocess.run([sys.executable, "-m", "bytewax.recovery", str(self._recovery), "1"], check=True)
            self._start()
            self._stack.callback(self.stop)
            self._await_live()
        except BaseException:
            self._stack.close()
            raise
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """End what still runs."""
        self._stack.close()

    def _simulator(self) -> None:
        """Run the simulator ourselves: holding its lock makes the flow use it and not one of its own."""
        where = self.data_dir / "sim"
        where.mkdir(parents=True)
        descriptor = lock(run_dir(self.data_dir) / "simulator.lock")
        assert descriptor is not None
        self._stack.callback(os.close, descriptor)
        options = [
            "--symbols",
            str(SYMBOLS),
            "--rate",
            str(self._rate),
            "--seed",
            str(self._seed),
            "--ledger-all",
            "--data-dir",
            str(where),
        ]
        self._sim = Child("simulator", "--follow-parent", *options)
        self._stack.callback(self._sim.end)
        deadline = time.monotonic() + START_S
        while not (where / "endpoints.json").exists():
            if self._sim.has_ended or time.monotonic() > deadline:
                text = "the simulator did not start"
                raise RuntimeError(text)
            time.sleep(0.05)
        found = json.loads((where / "endpoints.json").read_text())
        self._rest = {name: found[name]["rest"] for name in VENUES}

    # the flow

    def _start(self) -> None:
        """Start the flow, from the state of the one before if there is one."""
        ours = {
            "MIE_FEED": "sim",
            "MIE_SYMBOLS": f"top:{SYMBOLS}",
            "MIE_DATA_DIR": str(self.data_dir),
            "MIE_ARCHIVE_DIR": str(self.archive_dir),
            "MIE_UNIVERSE_REFRESH_S": str(REFRESH_S),
            "BYTEWAX_SNAPSHOT_INTERVAL": "1",
        }
        clean = {name: value for name, value in os.environ.items() if not name.startswith(("MIE_", "BYTEWAX_"))}
        command = [sys.executable, "-m", "bytewax.run", "flows.mie", "-r", str(self._recovery), *RECOVERY]
        self._flow = subprocess.Popen(command, env={**clean, **ours}, stdout=self._log, stderr=self._log)
        self.processes.flow = self._flow.pid

    def _await_live(self) -> None:
        deadline = time.monotonic() + START_S
        while not self.is_live():
            if self._flow.poll() is not None or time.monotonic() > deadline:
                self._log.seek(0)
                text = f"the flow did not come up:\n{self._log.read()[-2000:]}"
                raise RuntimeError(text)
            time.sleep(0.1)

    def kill(self, name: str) -> None:
        """Kill with SIGKILL the collector, which the flow replaces, or the flow itself, and resume it."""
        self.killed.append((name, time.time_ns()))
        if name == "kill_flow":
            self._flow.kill()
            self._flow.wait()
            self._hot.delete(*(f"venue:{venue}" for venue in VENUES))  # what it said last does not hold
            self.down.append((self.killed[-1][1], time.time_ns()))
            self._is_down = True
            self._start()
            return
        for process in psutil.Process(self._flow.pid).children():
            if "connectors.collector" in process.cmdline():
                process.kill()

    @property
    def has_ended(self) -> bool:
        """Whether the flow is gone."""
        return self._flow.poll() is not None

    def stop(self) -> int:
        """Drain the flow; return its exit code."""
        if not self.has_ended:
            self._flow.send_signal(signal.SIGTERM)
            try:
                self._flow.wait(STOP_S)
            except subprocess.TimeoutExpired:
                self._flow.kill()
        code = self._flow.wait()
        self.look()
        return code

    def look(self) -> None:
        """Take the venues' states and counters; a collector that was started anew counts from 0."""
        for venue in VENUES:
            seen: dict[str, str] = self._hot.hgetall(f"venue:{venue}")  # type: ignore[assignment]
            self.states[venue] = seen.get("state", "")
            if not seen:
                continue
            now = Counter({name: int(seen.get(name, 0)) for name in COUNTED})
            last = self._last[venue]
            for name in COUNTED:
                anew = now[name] < last[name] and name != "duplicates"  # which the sequencer counts, and remembers
                self.counts[venue][name] += max(0, now[name] - (0 if anew else last[name]))
            self._last[venue] = now
        if self._is_down:
            self.down[-1] = (self.down[-1][0], time.time_ns())
            self._is_down = not self._all_live

    def is_live(self) -> bool:
        """Look; return whether every venue is live."""
        self.look()
        return self._all_live

    @property
    def _all_live(self) -> bool:
        return all(state == "live" for state in self.states.values())

    # the simulator

    def order(self, order: Order) -> bool:
        """Order a fault; return whether it was taken."""
        fields = {"fault": order.fault, "venue": order.venue, **order.params}
        if order.symbol:
            fields["symbol"] = order.symbol
        if order.for_s is not None:
            fields["for_s"] = order.for_s
        return self._post(fields)

    def clear(self) -> None:
        """End all faults."""
        self._post({"fault": "clear", "venue": "all"})

    def _post(self, fields: dict[str, Any]) -> bool:
        """Post to the first port that answers: a fault may have closed any of them."""
        for base in self._rest.values():
            try:
                urllib.request.urlopen(f"{base}/sim/fault", json.dumps(fields).encode(), ORDER_S).close()
            except urllib.error.HTTPError:
                return False
            except OSError:
                continue
            return True
        return False

    # what is left

    def end_simulator(self) -> None:
        """End the simulator: its files are complete."""
        self._sim.end()

    def gaps(self) -> tuple[pl.DataFrame, int]:
        """Return the unfilled gaps, `venue symbol from_ns to_ns`, and how many were filled."""
        with psycopg.connect(self._stores.database) as history:
            rows = history.execute("SELECT venue, symbol, from_time, to_time FROM gaps WHERE NOT filled").fetchall()
            (filled,) = history.execute("SELECT count(*) FROM gaps WHERE filled").fetchone() or (0,)
        time = pl.Datetime("ns", "UTC")
        schema: dict[str, pl.DataType | type[pl.DataType]] = {
            "venue": pl.String,
            "symbol": pl.String,
            "from": time,
            "to": time,
        }
        frame = pl.DataFrame(rows, schema, orient="row")
        ends = (pl.col(name).dt.epoch("ns").alias(f"{name}_ns") for name in ("from", "to"))
        return frame.select("venue", "symbol", *ends), filled
