"""What can go wrong for a client, and the JSON it is told: `{"error": ..., "detail": ...}`, never a trace."""

from __future__ import annotations

import logging

import msgspec
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import Response

from api.models import Problem
from api.stores import StoreAway, StoreSlow

log = logging.getLogger(__name__)

_WORDS = {404: "not found", 405: "method not allowed"}


class Refusal(Exception):
    """The request cannot be answered.

    Attributes:
        status: HTTP status.
        error: A fixed phrase per cause.
        detail: One line for the reader: what was asked, what is allowed.
    """

    def __init__(self, status: int, error: str, detail: str) -> None:
        super().__init__(detail)
        self.status = status
        self.error = error
        self.detail = detail


def bad_parameter(name: str, value: str, allowed: str) -> Refusal:
    """Return the refusal of one parameter, with its value cut to a readable length."""
    shown = value if len(value) <= 60 else value[:57] + "..."
    return Refusal(400, "bad parameter", f"{name}={shown!r}: allowed is {allowed}")


def unknown_symbol(symbol: str, where: str) -> Refusal:
    """Return the refusal of a symbol that a store does not hold."""
    return Refusal(404, "unknown symbol", f"{symbol} has no {where}; /v1/tickers lists the symbols there are")


def problem(status: int, error: str, detail: str, headers: dict[str, str] | None = None) -> Response:
    """Return a problem as a response that no cache keeps."""
    return Response(
        msgspec.json.encode(Problem(error, detail)),
        status,
        {"Cache-Control": "no-store", **(headers or {})},
        media_type="application/json",
    )


async def on_refusal(_: Request, error: Exception) -> Response:
    """Answer a `Refusal`."""
    assert isinstance(error, Refusal)
    return problem(error.status, error.error, error.detail)


async def on_http(request: Request, error: Exception) -> Response:
    """Answer what routing itself refuses: an unknown path, a wrong method."""
    assert isinstance(error, HTTPException)
    words = _WORDS.get(error.status_code, "bad request")
    detail = f"{request.method} {request.url.path}: {words}; /docs lists the routes"
    return problem(error.status_code, words, detail, dict(error.headers or {}))


async def on_store_away(_: Request, error: Exception) -> Response:
    """Answer that a store cannot be reached."""
    return problem(503, "store away", str(error), {"Retry-After": "1"})


async def on_timeout(_: Request, error: Exception) -> Response:
    """Answer that a store, or the whole request, took too long."""
    return problem(504, "timeout", str(error) or "the request took too long")


async def on_bug(request: Request, error: Exception) -> Response:
    """Answer a fault of ours in one line; the trace goes to the log."""
    log.error("%s failed", request.url.path, exc_info=error)
    return problem(500, "internal error", "the server failed to answer; its log says why")


HANDLERS = {
    Refusal: on_refusal,
    HTTPException: on_http,
    StoreAway: on_store_away,
    StoreSlow: on_timeout,
    TimeoutError: on_timeout,
    Exception: on_bug,
}
