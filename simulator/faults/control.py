"""Which faults are in force: begins and ends them, tells of them, notes each in the log with its true time."""

from __future__ import annotations

import asyncio
import itertools
import time
from collections.abc import Callable, Iterable
from dataclasses import asdict, dataclass
from typing import Any, Final

import msgspec

from simulator.faults import CATALOGUE
from simulator.faults.order import ALL, Fault, Order, OrderError
from simulator.faults.schedule import Entry, read_order
from simulator.server import Port
from simulator.venues.base import Reply

MOST_ACTIVE: Final = 256
"""Faults in force at a time."""

Line = dict[str, Any]


@dataclass(slots=True)
class Active:
    """A fault in force."""

    line: Line
    fault: Fault
    timer: asyncio.TimerHandle


class Control:
    """The faults of a run."""

    def __init__(self, ports: Iterable[Port], on_line: Callable[[Line], None], *, paced: bool) -> None:
        """Serve some ports; `on_line` gets a line when a fault begins and one when it ends."""
        self._ports = {port.venue.NAME: port for port in ports}
        self._on_line = on_line
        self._paced = paced
        self._numbers = itertools.count(1)
        self._active: dict[int, Active] = {}
        self.begun = 0
        for port in self._ports.values():
            port.control = self

    def check(self, order: Order) -> list[Port]:
        """Return the ports an order is for.

        Raises:
            OrderError: If it cannot be carried out in this run.
        """
        fault = CATALOGUE[order.fault]
        if fault.PACED and not self._paced:
            message = f"{order.fault}: needs a paced run, not --burst or --rate 0"
            raise OrderError(message)
        wanted = [order.venue] if order.venue != ALL else [name for name in self._ports if name in fault.VENUES]
        ports = [self._ports[name] for name in wanted if name in self._ports]
        if order.symbol:
            ports = [port for port in ports if order.symbol in port.venue.symbols()]
        if not ports:
            message = f"{order.fault}: no venue {order.venue}{f' with {order.symbol}' if order.symbol else ''} here"
            raise OrderError(message)
        return ports

    def begin(self, order: Order) -> list[Line]:
        """Begin an order's faults, one a port; return their lines of the log.

        Raises:
            OrderError: If it cannot be carried out.
        """
        ports = self.check(order)
        if len(self._active) + len(ports) > MOST_ACTIVE:
            message = f"{order.fault}: {MOST_ACTIVE} faults are in force"
            raise OrderError(message)
        return [self._begin(port, order) for port in ports]

    def _begin(self, port: Port, order: Order) -> Line:
        fault, number = CATALOGUE[order.fault](port, order), next(self._numbers)
        about = {**asdict(order), "venue": port.venue.NAME}
        line: Line = {"number": number, "event": "begin", "at_ns": time.time_ns(), **about}
        line["connections"] = fault.begin()
        self.begun += 1
        self._on_line(line)
        if order.for_s is not None:
            timer = asyncio.get_running_loop().call_later(order.for_s, self._end, number)
            self._active[number] = Active(line, fault, timer)
        return line

    def _end(self, number: int) -> None:
        active = self._active.pop(number)
        active.timer.cancel()
        active.fault.end()
        self._on_line({**active.line, "event": "end", "at_ns": time.time_ns()})

    def clear(self, venue: str) -> int:
        """End the faults of a venue, or of all, before their time; return how many."""
        numbers = [number for number, active in self._active.items() if venue in (ALL, active.line["venue"])]
        for number in numbers:
            self._end(number)
        return len(numbers)

    # Requests

    def state(self) -> Reply:
        """Answer `GET /sim/faults`."""
        active = [active.line for active in self._active.values()]
        skews = {name: port.venue.skew_ns / 1e6 for name, port in self._ports.items()}
        return Reply({"now_ns": time.time_ns(), "begun": self.begun, "active": active, "skew_ms": skews})

    def ordered(self, port: Port, posted: bytes) -> Reply:
        """Answer `POST /sim/fault`; without a venue it is about the port it came in on."""
        try:
            fields = msgspec.json.decode(posted)
            if isinstance(fields, dict) and fields.get("fault") == "clear":
                return Reply({"cleared": self.clear(str(fields.get("venue", port.venue.NAME)))})
            return Reply({"faults": self.begin(read_order(fields, port.venue.NAME))})
        except (msgspec.DecodeError, OrderError) as error:
            return Reply({"error": str(error)}, 400)

    # Schedules

    async def follow(self, entries: Iterable[Entry]) -> None:
        """Begin entries at their time from now on. A fault that cannot be is noted and left out."""
        began_s = time.monotonic()
        for at_s, order in entries:
            await asyncio.sleep(max(0.0, began_s + at_s - time.monotonic()))
            try:
                self.begin(order)
            except OrderError as error:
                self._on_line({"event": "skipped", "at_ns": time.time_ns(), **asdict(order), "reason": str(error)})
