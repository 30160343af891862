"""The few REST calls a collector makes: lists at the start, a token before connecting. Blocking; call from a thread."""

from __future__ import annotations

import http.client
import ssl as tls
import time
import urllib.error
import urllib.request
from typing import Final
from urllib.parse import urlsplit

from connectors.proxy import is_loopback

TIMEOUT_S: Final = 10.0
MAX_BYTES: Final = 64 * 1024 * 1024
_AGENT: Final = "mie/0.1"
_READ_BYTES: Final = 1 << 16


class RestError(Exception):
    """A REST call failed.

    Attributes:
        status: HTTP status; 0 if there was no answer.
        retry_after_s: How long the venue asks us to stay away; 0 if it does not say.
    """

    def __init__(self, text: str, status: int = 0, retry_after_s: float = 0.0) -> None:
        super().__init__(text)
        self.status = status
        self.retry_after_s = retry_after_s


def call(url: str, *, post: bool = False, context: tls.SSLContext | None = None) -> bytes:
    """Return the body of a GET, or of a POST with an empty body.

    Raises:
        RestError: No answer within TIMEOUT_S, a status other than 200, or more than MAX_BYTES.
    """
    try:
        request = urllib.request.Request(url, data=b"" if post else None, headers={"User-Agent": _AGENT})
        with _opener(request, context).open(request, timeout=TIMEOUT_S) as response:
            return _body(response)
    except urllib.error.HTTPError as error:
        error.close()
        text = f"HTTP {error.code}"
        raise RestError(text, error.code, _retry_after_s(error.headers.get("Retry-After"))) from None
    except http.client.HTTPException as error:
        text = f"no HTTP answer: {type(error).__name__}"
        raise RestError(text) from None
    except (OSError, ValueError) as error:
        raise RestError(str(getattr(error, "reason", error))) from None


def _retry_after_s(text: str | None) -> float:
    """Return the seconds of a Retry-After header; 0 if there is none, or a date, which venues do not send."""
    return float(text) if text is not None and text.isascii() and text.isdigit() else 0.0


def _opener(request: urllib.request.Request, context: tls.SSLContext | None) -> urllib.request.OpenerDirector:
    """Return what honours the environment's proxy, except on loopback."""
    proxies: dict[str, str] | None = {} if is_loopback(urlsplit(request.full_url).hostname or "") else None
    return urllib.request.build_opener(
        urllib.request.ProxyHandler(proxies), urllib.request.HTTPSHandler(context=context)
    )


def _body(response: http.client.HTTPResponse) -> bytes:
    deadline_s = time.monotonic() + TIMEOUT_S  # the socket's own timeout is that of a single read
    body = bytearray()
    while piece := response.read1(_READ_BYTES):
        body += piece
        if len(body) > MAX_BYTES:
            text = f"answer longer than {MAX_BYTES} bytes"
            raise RestError(text)
        if time.monotonic() > deadline_s:
            text = f"answer not complete within {TIMEOUT_S:.0f} s"
            raise RestError(text)
    return bytes(body)
