"""The OpenAPI document, derived from the route table and the response shapes: it cannot fall behind them."""

from __future__ import annotations

from collections.abc import Iterable
from importlib.metadata import PackageNotFoundError, version
from typing import TYPE_CHECKING, Any, Final

import msgspec

from api import models
from api.parameters import Parameter

if TYPE_CHECKING:
    from api.app import Operation

ABOUT: Final = (
    "The validated market that MIE writes, read-only. Times are UTC: `*_time` ISO 8601 with microseconds, `*_ns` epoch "
    "nanoseconds (beyond 2**53: read them as 64-bit integers). A number that is not known is null. Whatever is not a "
    "success is a Problem."
)
_PROBLEMS: Final = {
    400: "A parameter is not allowed; `detail` names it, its value and what is",
    404: "Unknown symbol or id",
    503: "A store is away, or the API is busy",
    504: "A store took too long",
}


def document(operations: Iterable[Operation]) -> dict[str, Any]:
    """Return the OpenAPI 3.1 document of these routes."""
    operations = list(operations)
    shapes = [operation.answer for operation in operations]
    references, components = msgspec.json.schema_components(
        [*shapes, models.Problem], ref_template="#/components/schemas/{name}"
    )
    return {
        "openapi": "3.1.0",
        "info": {"title": "MIE read API", "version": _version(), "description": ABOUT},
        "paths": {
            operation.path.replace(":path}", "}"): {"get": _operation(operation, reference, references[-1])}
            for operation, reference in zip(operations, references, strict=False)
        },
        "components": {"schemas": components},
    }


def _operation(operation: Operation, answer: Any, problem: Any) -> dict[str, Any]:
    responses = {"200": {"description": "Success", "content": {"application/json": {"schema": answer}}}}
    for status in operation.problems:
        responses[str(status)] = {
            "description": _PROBLEMS[status],
            "content": {"application/json": {"schema": problem}},
        }
    return {
        "operationId": operation.read.__name__,
        "summary": operation.summary,
        "parameters": [_parameter(parameter) for parameter in operation.parameters],
        "responses": responses,
    }


def _parameter(parameter: Parameter) -> dict[str, Any]:
    return {
        "name": parameter.name,
        "in": parameter.where,
        "required": parameter.where == "path",
        "description": parameter.about,
        "schema": parameter.schema,
    }


def _version() -> str:
    try:
        return version("mie")
    except PackageNotFoundError:  # run from a source tree
        return "0.1.0"
