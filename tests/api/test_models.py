"""The answers, as sent, against the schemas that the document promises."""

from typing import Any

import pytest

from api import models
from sinks import tables
from tests.api.conftest import Api

PATHS = {
    "/v1/tickers": "Tickers",
    "/v1/tickers/NEW-USDT": "Ticker",
    "/v1/candles/BTC-USDT": "Candles",
    "/v1/indicators/BTC-USDT": "Indicators",
    "/v1/correlations/BTC-USDT": "Correlations",
    "/v1/wicks": "Wicks",
    "/v1/wicks/1769861160123456~okx~BTC-USDT~7": "WickCase",
    "/v1/venues": "Venues",
    "/healthz": "Health",
    "/readyz": "Readiness",
}
TYPES = {
    "string": str, "integer": int, "number": (int, float), "null": type(None), "array": list, "object": dict,
}  # fmt: skip


def check(value: Any, schema: dict[str, Any], schemas: dict[str, Any]) -> None:
    if "$ref" in schema:
        schema = schemas[schema["$ref"].rsplit("/", 1)[1]]
    if "anyOf" in schema:
        schema = next(each for each in schema["anyOf"] if "$ref" in each or isinstance(value, TYPES[each["type"]]))
    if "type" in schema:
        assert isinstance(value, TYPES[schema["type"]]), (value, schema)
    if schema.get("type") == "object":
        assert set(value) == set(schema["properties"]) == set(schema["required"])
        for name, each in schema["properties"].items():
            check(value[name], each, schemas)
    for each in value if schema.get("type") == "array" else ():
        check(each, schema["items"], schemas)


@pytest.mark.parametrize("path", PATHS)
def test_answers_keep_to_their_schema(api: Api, path: str) -> None:
    schemas = api.get("/openapi.json")["components"]["schemas"]
    check(api.get(path), {"$ref": f"#/components/schemas/{PATHS[path]}"}, schemas)


def test_shapes_have_the_columns_of_the_tables() -> None:
    candle = set(models.Candle.__struct_fields__)
    assert candle == set(tables.candles.c.keys()) - {"symbol", "interval"} | {"open_ns"}
    assert set(models.Studies.__struct_fields__) == set(tables.indicators.c.keys()) - {"symbol", "interval"} | {
        "open_ns"
    }
    assert set(models.WickCase.__struct_fields__) == set(tables.wicks.c.keys()) | {"id", "why"}
