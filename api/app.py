"""The routes: one table that routing, parsing and the OpenAPI document share, and the application around it."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Any, Final

import msgspec
from starlette.applications import Starlette
from starlette.middleware import Middleware
from starlette.middleware.gzip import GZipMiddleware
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route
from starlette.types import ASGIApp, Receive, Scope, Send

from api import metrics, models, openapi, page
from api import parameters as take
from api.problems import HANDLERS, problem
from api.reads import Reads

REQUESTS: Final = 64
"""Requests in work at a time; one more is told to come back in a second."""
REQUEST_S: Final = 10.0
GZIP_BYTES: Final = 2048


@dataclass(frozen=True, slots=True)
class Operation:
    """One route.

    Attributes:
        path: As Starlette writes it.
        read: The `Reads` method that answers, called with every parameter by name.
        answer: Its response shape.
        summary: One line for the documentation.
        parameters: What it takes.
        problems: Statuses it can answer instead of 200.
        cache: Its Cache-Control.
    """

    path: str
    read: Callable[..., Awaitable[msgspec.Struct]]
    answer: type[msgspec.Struct]
    summary: str
    parameters: tuple[take.Parameter, ...] = ()
    problems: tuple[int, ...] = (400, 503, 504)
    cache: str = "no-store"


_RANGE: Final = (take.SYMBOL, take.INTERVAL, take.START, take.END, take.ROWS_LIMIT)
_ASKED: Final = (400, 404, 503, 504)
_A_SECOND: Final = "max-age=1"

OPERATIONS: Final = (
    Operation("/v1/tickers", Reads.tickers, models.Tickers, "Newest validated state of all symbols"),
    Operation("/v1/tickers/{symbol}", Reads.ticker, models.Ticker, "The same for one symbol", (take.SYMBOL,), _ASKED),
    Operation(
        "/v1/candles/{symbol}", Reads.candles, models.Candles, "Candles, oldest first", _RANGE, _ASKED, _A_SECOND
    ),
    Operation(
        "/v1/indicators/{symbol}",
        Reads.indicators,
        models.Indicators,
        "Indicators on closed candles, oldest first",
        _RANGE,
        _ASKED,
        _A_SECOND,
    ),
    Operation(
        "/v1/correlations/{symbol}",
        Reads.correlations,
        models.Correlations,
        "Peers by strength of correlation",
        (take.SYMBOL, take.INTERVAL, take.PEERS_LIMIT),
        _ASKED,
        _A_SECOND,
    ),
    Operation(
        "/v1/wicks",
        Reads.wicks,
        models.Wicks,
        "Filtered trades, newest first",
        (take.SYMBOL_FILTER, take.VENUE_FILTER, take.START, take.END, take.WICKS_LIMIT),
        _ASKED,
        _A_SECOND,
    ),
    Operation(
        "/v1/wicks/{id:path}", Reads.wick, models.WickCase, "One of them, and why", (take.WICK_ID,), _ASKED, _A_SECOND
    ),
    Operation("/v1/venues", Reads.venues, models.Venues, "State of the venues' links and clocks"),
    Operation("/healthz", Reads.health, models.Health, "The process is alive", problems=(400,)),
    Operation("/readyz", Reads.readiness, models.Readiness, "Both stores answer within 1 s", problems=(400, 503)),
)


def build_app(reads: Reads) -> Starlette:
    """Return the application over these stores; it closes them when it stops."""

    @asynccontextmanager
    async def lifespan(_: Starlette) -> AsyncIterator[None]:
        yield
        await reads.hot.close()
        await reads.history.close()

    handlers: dict[Any, Callable[[Request, Exception], Awaitable[Response]]] = dict(HANDLERS)
    return Starlette(
        routes=[
            *(_route(operation, reads) for operation in OPERATIONS),
            _metrics_route(reads),
            _document_route(),
            *page.pages(),
        ],
        middleware=[
            Middleware(Bound, requests=REQUESTS),
            Middleware(GZipMiddleware, minimum_size=GZIP_BYTES, compresslevel=4),
        ],
        exception_handlers=handlers,
        lifespan=lifespan,
    )


def _route(operation: Operation, reads: Reads) -> Route:
    headers = {"Cache-Control": operation.cache, "X-Content-Type-Options": "nosniff"}

    async def serve(request: Request) -> Response:
        asked = take.read_all(operation.parameters, request.path_params, request.query_params.multi_items())
        async with asyncio.timeout(REQUEST_S):
            answer = await operation.read(reads, **asked)
        return Response(msgspec.json.encode(answer), headers=headers, media_type="application/json")

    return Route(operation.path, serve, name=operation.read.__name__)


def _metrics_route(reads: Reads) -> Route:
    headers = {"Cache-Control": "no-store", "X-Content-Type-Options": "nosniff"}

    async def serve(_: Request) -> Response:
        async with asyncio.timeout(REQUEST_S):
            text = await reads.metrics()
        return Response(text, headers={**headers, "Content-Type": metrics.CONTENT_TYPE})

    return Route("/metrics", serve, name="metrics")


def _document_route() -> Route:
    body = msgspec.json.encode(openapi.document(OPERATIONS))

    async def serve(_: Request) -> Response:
        return Response(body, headers={"Cache-Control": "max-age=60"}, media_type="application/json")

    return Route("/openapi.json", serve)


class Bound:
    """Middleware: at most `requests` in work, the health check apart; whoever comes on top gets a 503 at once."""

    def __init__(self, app: ASGIApp, requests: int) -> None:
        self._app = app
        self._free = requests

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one request."""
        if scope["type"] != "http" or scope["path"] == "/healthz":
            await self._app(scope, receive, send)
        elif self._free == 0:
            busy = problem(503, "busy", f"more than {REQUESTS} requests at a time", {"Retry-After": "1"})
            await busy(scope, receive, send)
        else:
            self._free -= 1
            try:
                await self._app(scope, receive, send)
            finally:
                self._free += 1
