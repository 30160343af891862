"""A whole run, measured from outside: CPU of every process, messages in and out.

A run is `python -m bytewax.run flows.mie` on the simulator with embedded stores in a fresh directory: what a user
starts. The simulator is part of the load on the machine; its share is shown apart.
"""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import tempfile
import time
from collections import Counter, defaultdict
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Final, Self

import psutil
import redis

from sinks.embedded import embedded_stores

START_S: Final = 60.0
STOP_S: Final = 30.0

PARTS: Final = {
    "connectors.collector": "collector",
    "sinks.writer": "writer",
    "simulator": "simulator",
    "redis-server": "redis",
    "postgres": "postgres",
    "flows.mie": "dataflow",
}
"""Part of a command line -> process of the run."""


@dataclass(frozen=True, slots=True)
class Sample:
    """Where a run stood at one moment.

    Attributes:
        at_s: When, monotonic.
        cpu_s: CPU seconds a process.
        messages: What the dataflow has sequenced.
        rss_mb: Memory a process.
        late: Trades released at most so many seconds late, by bound: what the forge adds to W.
    """

    at_s: float
    cpu_s: dict[str, float]
    messages: int
    rss_mb: dict[str, float]
    late: dict[float, int]


@dataclass(frozen=True, slots=True)
class Measured:
    """What a stretch of a run cost.

    Attributes:
        rate: Messages a second through the dataflow.
        cpu_us: CPU µs a message, by process.
        rss_mb: Memory at the end, by process.
        late: Trades of the stretch, as in `Sample`.
    """

    rate: float
    cpu_us: dict[str, float]
    rss_mb: dict[str, float]
    late: dict[float, int]

    def late_ms(self, share: float) -> float:
        """Return how late a share of the trades was released at most, ms; within a bucket by a straight line."""
        wanted = share * max(self.late.values(), default=0)
        below_s, below = 0.0, 0
        for bound_s, count in sorted(self.late.items()):
            if count >= wanted > 0:
                return 1e3 * (below_s + (bound_s - below_s) * (wanted - below) / (count - below))
            below_s, below = bound_s, count
        return float("nan")


class Processes:
    """What belongs to a run: the flow, its descendants, and what has its data directory on the command line."""

    def __init__(self, flow: int, data_dir: Path) -> None:
        self.flow = flow
        self._data_dir = str(data_dir)
        self._cpu_s: dict[int, tuple[str, float]] = {}  # also of those that have ended

    def usage(self) -> tuple[dict[str, float], dict[str, float]]:
        """Return CPU seconds of all that ever ran and MB of what runs, by name of PARTS."""
        rss: defaultdict[str, float] = defaultdict(float)
        for process in psutil.process_iter():
            name = self._part(process)
            if name is None:
                continue
            try:
                times, size = process.cpu_times(), process.memory_info().rss
            except psutil.Error:  # it has just ended
                continue
            self._cpu_s[process.pid] = name, times.user + times.system
            rss[name] += size / 2**20
        cpu: defaultdict[str, float] = defaultdict(float)
        for name, used_s in self._cpu_s.values():
            cpu[name] += used_s
        return dict(cpu), dict(rss)

    def _part(self, process: psutil.Process) -> str | None:
        try:
            command = " ".join(process.cmdline())
            parents = (parent.pid for parent in process.parents())
            ours = self._data_dir in command or self.flow in (process.pid, *parents)
        except psutil.Error:
            return None
        return next((name for part, name in PARTS.items() if part in command), None) if ours else None


class Run:
    """A flow on the simulator, as a context manager."""

    def __init__(self, rate: int, workers: int, symbols: int = 50) -> None:
        self._directory = tempfile.TemporaryDirectory(prefix="mie-bench-")
        self.data_dir = Path(self._directory.name) / "mie"
        self._env = {
            **{name: value for name, value in os.environ.items() if not name.startswith("MIE_")},
            "MIE_DATA_DIR": str(self.data_dir),
            "MIE_SIM_RATE": str(rate),
            "MIE_SYMBOLS": f"top:{symbols}",
            "MIE_LOG_LEVEL": "warning",
            "BYTEWAX_SNAPSHOT_INTERVAL": "1",
        }
        self._command = [sys.executable, "-m", "bytewax.run", "flows.mie", "-w", str(workers)]

    def __enter__(self) -> Self:
        """Start the run and wait for its first messages."""
        self._log = (Path(self._directory.name) / "log").open("w+")
        self._flow = subprocess.Popen(self._command, env=self._env, stdout=self._log, stderr=self._log)
        self._processes = Processes(self._flow.pid, self.data_dir)
        deadline = time.monotonic() + START_S
        while time.monotonic() < deadline and self._flow.poll() is None:
            try:
                self._redis = redis.Redis(unix_socket_path=str(self._socket()), decode_responses=True)
                if self._messages() > 0:
                    return self
            except (redis.RedisError, OSError, KeyError):
                pass
            time.sleep(0.1)
        self._log.seek(0)
        text = f"the run did not start:\n{self._log.read()[-2000:]}"
        self.__exit__(None, None, None)
        raise RuntimeError(text)

    def _socket(self) -> Path:
        stores = json.loads((self.data_dir / "run" / "stores.json").read_text())
        return Path(stores["redis"].removeprefix("unix://"))

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Drain and end the run."""
        self.stop()
        self._log.close()
        self._directory.cleanup()

    def stop(self) -> int:
        """Drain; return the exit code."""
        if self._flow.poll() is None:
            self._flow.send_signal(signal.SIGTERM)
            try:
                self._flow.wait(STOP_S)
            except subprocess.TimeoutExpired:
                self._flow.kill()
        return self._flow.wait()

    def _messages(self) -> int:
        return _counts(self._redis)["messages"]

    def balance(self) -> tuple[int, Counter[str]]:
        """End the run; return the messages the simulator sent and the venues' counters, added up."""
        self.stop()
        sent = json.loads((self.data_dir / "sim" / "stats.json").read_text())["sent"]
        with embedded_stores(self.data_dir) as stores, redis.Redis.from_url(stores.redis, decode_responses=True) as hot:
            return sum(sent.values()), _counts(hot)

    def sample(self) -> Sample:
        """Return CPU so far of every process of the run, and messages so far."""
        cpu, rss = self._processes.usage()
        return Sample(time.monotonic(), cpu, self._messages(), rss, self._late())

    def _late(self) -> dict[float, int]:
        counted: Counter[float] = Counter()
        for key in self._redis.scan_iter("metrics:forge:*"):
            fields: dict[str, str] = dict(self._redis.hgetall(key))  # type: ignore[arg-type]
            for name, count in fields.items():
                if name.startswith("le_"):
                    counted[float(name.removeprefix("le_"))] += int(count)
        return counted

    def measure(self, warm_s: float, length_s: float) -> Measured:
        """Measure a stretch after a warm-up."""
        time.sleep(warm_s)
        first = self.sample()
        time.sleep(length_s)
        last = self.sample()
        count = last.messages - first.messages
        cpu = {name: (used - first.cpu_s.get(name, 0.0)) / count * 1e6 for name, used in last.cpu_s.items()}
        late = {bound_s: after - first.late.get(bound_s, 0) for bound_s, after in last.late.items()}
        return Measured(count / (last.at_s - first.at_s), cpu, last.rss_mb, late)


def _counts(hot: redis.Redis) -> Counter[str]:
    """Return the counters of all `venue:*` hashes, added up."""
    total: Counter[str] = Counter()
    for key in hot.scan_iter("venue:*"):
        state: dict[str, str] = dict(hot.hgetall(key))  # type: ignore[arg-type]
        for name in ("messages", "rejects", "unknown_symbols", "duplicates", "reconnects"):
            total[name] += int(state.get(name, 0))
    return total
