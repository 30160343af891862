"""`python -m api`: serve the read API until SIGTERM or SIGINT.

Exit status 0 after a signal, 1 if the address cannot be had, 2 if the settings cannot be used.
"""

from __future__ import annotations

import logging
import os
import signal
import socket
import sys
from functools import partial

import uvicorn
from starlette.applications import Starlette

from api.app import build_app
from api.reads import Reads
from api.stores import Database, HotStore, StoresMissing, check_url, store_url
from market.settings import SettingError, Settings

CONNECTIONS = 512
"""Open client connections; uvicorn refuses the next with a 503."""
SHUTDOWN_S = 5


def main() -> int:
    """Serve; return the exit status."""
    try:
        settings = Settings.from_env()
        redis_url, database_url = partial(store_url, settings, "redis"), partial(store_url, settings, "database")
        check_url("redis", redis_url())
        check_url("database", database_url())
    except (SettingError, StoresMissing) as error:
        print(error, file=sys.stderr)
        return 2
    try:
        listener = _listen(settings.api_host, settings.api_port)
    except OSError as error:
        where = f"MIE_API_HOST={settings.api_host} MIE_API_PORT={settings.api_port}"
        reason = error.strerror if isinstance(error, socket.gaierror) else os.strerror(error.errno or 0)
        print(f"cannot serve on {where}: {reason}", file=sys.stderr)
        return 1
    _log_to_stderr(settings.log_level)
    app = build_app(Reads(HotStore(redis_url), Database(database_url)))
    print(f"serving on http://{_address(listener)}", flush=True)
    _serve(_config(app), listener)
    return 0


def _config(app: Starlette) -> uvicorn.Config:
    return uvicorn.Config(
        app,
        log_config=None,
        access_log=False,
        server_header=False,
        limit_concurrency=CONNECTIONS,
        timeout_graceful_shutdown=SHUTDOWN_S,
        timeout_keep_alive=30,
    )


def _listen(host: str, port: int) -> socket.socket:
    family, *_, address = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)[0]
    return socket.create_server(address[:2], family=socket.AddressFamily(family), backlog=256)


def _address(listener: socket.socket) -> str:
    host, port = listener.getsockname()[:2]
    return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"


def _log_to_stderr(level: str) -> None:
    logging.basicConfig(level=level.upper(), format="%(asctime)s %(levelname)s %(name)s: %(message)s")
    if level != "debug":
        logging.getLogger("uvicorn.error").setLevel(logging.WARNING)  # its start and stop are said here already


def _serve(config: uvicorn.Config, listener: socket.socket) -> None:
    # uvicorn raises the signal that stopped it once more when it is done: here that must not kill us.
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: None)
    uvicorn.Server(config).run(sockets=[listener])


if __name__ == "__main__":
    sys.exit(main())
