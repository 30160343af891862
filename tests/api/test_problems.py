import asyncio

import msgspec
from starlette.requests import Request

from api import problems
from api.stores import StoreAway, StoreSlow

REQUEST = Request({"type": "http", "method": "GET", "path": "/x", "headers": [], "query_string": b""})


def test_a_problem_is_never_kept_by_a_cache() -> None:
    reply = problems.problem(404, "not found", "no such thing")
    assert reply.headers["cache-control"] == "no-store"
    assert msgspec.json.decode(reply.body) == {"error": "not found", "detail": "no such thing"}


def test_a_store_away_is_one_line() -> None:
    reply = asyncio.run(problems.on_store_away(REQUEST, StoreAway("database", "first line\nsecond line\n")))
    assert reply.status_code == 503
    assert msgspec.json.decode(reply.body)["detail"] == "database: first line"


def test_a_timeout_always_has_words() -> None:
    for error in (StoreSlow("redis", 2), TimeoutError()):
        reply = asyncio.run(problems.on_timeout(REQUEST, error))
        assert reply.status_code == 504
        assert msgspec.json.decode(reply.body)["detail"]
