"""Faults of frames: extra ones that no decoder can like. The real frames all go out too, so nothing is lost."""

from __future__ import annotations

from typing import Any, ClassVar

import msgspec

from simulator.faults.order import Fault, Number

_COUNT = Number(1, 1, 1000)


class Garbage(Fault):
    """Text that is not JSON."""

    SAYS = "send frames of garbage"
    PARAMS = {"count": _COUNT}  # noqa: RUF012
    SYMBOL = "may"

    def begin(self) -> int:
        """Send."""
        clients = self.clients()
        for client in clients:
            for number in range(int(self.params["count"])):
                client.send(self.text(number))
        return len(clients)

    def text(self, number: int) -> str:
        """Return the payload of one such frame."""
        return ("\x00\x1b]{:,}}\u00e9", "NaN", '{"', "[[[[", "<html>502</html>", "")[number % 6]


class HugeFrame(Garbage):
    """Valid JSON of no meaning, larger than any message of the venue."""

    SAYS = "send a frame of more than 4 MiB"
    PARAMS = {"bytes": Number(5 * 2**20, 2**22, 7 * 2**20), "count": Number(1, 1, 1)}  # noqa: RUF012

    def text(self, number: int) -> str:
        """Return that many bytes, or a few more."""
        return '{"padding":"' + "x" * int(self.params["bytes"]) + '"}'


class Spoiled(Fault):
    """Extra frames made of the next real ones; each precedes the one it was made of."""

    PACED = True
    PARAMS = {"count": _COUNT}  # noqa: RUF012
    SYMBOL = "may"

    def begin(self) -> int:
        """Have the next frames preceded."""
        clients = self.clients()
        for client in clients:
            for _ in range(int(self.params["count"])):
                client.spoil(self.make)
        return len(clients)

    def make(self, payload: str) -> str:
        """Return the payload of the extra frame."""
        raise NotImplementedError


class Truncated(Spoiled):
    """JSON that ends too soon."""

    SAYS = "send a real frame's first two thirds, then the frame"

    def make(self, payload: str) -> str:
        """Cut."""
        return payload[: len(payload) * 2 // 3]


class UnknownChannel(Spoiled):
    """A push that was never subscribed to."""

    SAYS = "send a copy of a real frame under a channel that does not exist, then the frame"

    def make(self, payload: str) -> str:
        """Rename the channel."""
        named = [name for name in self.venue.CHANNELS if name in payload]
        channel = min(named, key=payload.index, default="")  # a later one may be part of a field's name
        return payload.replace(channel, "nosuchchannel", 1) if channel else '{"channel":"nosuchchannel","data":[]}'


class WrongTypes(Spoiled):
    """The right keys, each value of another type."""

    SAYS = "send a copy of a real frame with every number and text of its data of a wrong type, then the frame"
    _HEAD: ClassVar[frozenset[str]] = frozenset(
        {"stream", "arg", "topic", "channel", "type", "subject", "event", "action"}
    )

    def make(self, payload: str) -> str:
        """Change the types, except of what says which channel it is."""
        message = msgspec.json.decode(payload)
        wrong: dict[str, Any] = {key: value if key in self._HEAD else _wrong(value) for key, value in message.items()}
        return msgspec.json.encode(wrong).decode()


def _wrong(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _wrong(item) for key, item in value.items()}
    if isinstance(value, list):
        return [_wrong(item) for item in value]
    return {"text": value} if isinstance(value, str) else [str(value)]
