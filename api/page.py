"""The two human pages: `/`, a live view, and `/docs`. Each is one file that needs nothing from anywhere else."""

from __future__ import annotations

from importlib.resources import files
from typing import Final

from starlette.requests import Request
from starlette.responses import HTMLResponse, Response
from starlette.routing import Route

HEADERS: Final = {
    "Cache-Control": "max-age=60",
    "X-Content-Type-Options": "nosniff",
    # The pages are one file each and talk to this server alone; the browser holds them to it.
    "Content-Security-Policy": (
        "default-src 'none'; connect-src 'self'; style-src 'unsafe-inline'; script-src 'unsafe-inline'; "
        "img-src data:; base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
    ),
}


def _page(path: str, name: str) -> Route:
    body = (files("api") / "static" / name).read_text(encoding="utf-8")

    async def serve(_: Request) -> Response:
        return HTMLResponse(body, headers=HEADERS)

    return Route(path, serve)


def pages() -> list[Route]:
    """Return the routes of the human pages; their files are read once, here."""
    return [_page("/", "index.html"), _page("/docs", "docs.html")]
