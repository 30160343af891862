"""WebSocket text frames and number texts, built the cheap way.

A library's frame writer costs more than the message itself; a server's text frame is two to ten bytes and the
payload. Payloads are kept as `str` with the header as Latin-1 characters before them, so a whole step of frames is
encoded once. Holds no socket.
"""

from __future__ import annotations

import struct
from typing import Final

_TEXT_FIN: Final = 0x81


def header(length: int) -> str:
    """Return the header of an unmasked text frame of `length` bytes as Latin-1 characters.

    Source: RFC 6455, section 5.2.
    """
    if length < 126:
        raw = bytes((_TEXT_FIN, length))
    elif length < 65536:
        raw = struct.pack(">BBH", _TEXT_FIN, 126, length)
    else:
        raw = struct.pack(">BBQ", _TEXT_FIN, 127, length)
    return raw.decode("latin-1")


class _Headers(dict[int, str]):
    """Headers by length, made on first use; at most some thousand lengths occur."""

    def __missing__(self, length: int) -> str:
        made = self[length] = header(length)
        return made


HEADERS: Final = _Headers()


def frame(text: str) -> str:
    """Return an ASCII payload as a text frame, still as characters."""
    return HEADERS[len(text)] + text


def payload_of(framed: str) -> str:
    """Return the payload of an unmasked text frame that was made here."""
    length = ord(framed[1])
    return framed[{126: 4, 127: 10}.get(length, 2) :]


def decimal_text(ticks: int, decimals: int) -> str:
    """Return `ticks * 10**-decimals` in plain digits with exactly `decimals` of them after the point."""
    if decimals == 0:
        return str(ticks)
    digits = str(ticks).zfill(decimals + 1)
    return f"{digits[:-decimals]}.{digits[-decimals:]}"


def stripped(text: str) -> str:
    """Return a decimal text without trailing zeros after the point."""
    return text.rstrip("0").rstrip(".") if "." in text else text


def padded(text: str, decimals: int) -> str:
    """Return a decimal text with zeros appended up to `decimals` digits after the point."""
    whole, _, fraction = text.partition(".")
    return f"{whole}.{fraction.ljust(decimals, '0')}"


class PriceTexts(dict[int, str]):
    """Price in ticks -> its text on one venue. Emptied at `BOUND` entries.

    Attributes:
        decimals: Decimals of a tick.
        strip: Whether trailing zeros are dropped.
        pad: Digits after the point to fill up with zeros; 0 = none.
    """

    BOUND: Final = 20_000

    def __init__(self, decimals: int, *, strip: bool = False, pad: int = 0) -> None:
        super().__init__()
        self.decimals = decimals
        self.strip = strip
        self.pad = pad

    def __missing__(self, ticks: int) -> str:
        if len(self) >= self.BOUND:
            self.clear()
        made = self[ticks] = number_text(ticks, self.decimals, strip=self.strip, pad=self.pad)
        return made


def number_text(ticks: int, decimals: int, *, strip: bool = False, pad: int = 0) -> str:
    """Return a decimal in a venue's manner: as it is, stripped of zeros, or padded with them."""
    text = decimal_text(ticks, decimals)
    if strip:
        return stripped(text)
    return padded(text, pad) if pad else text
