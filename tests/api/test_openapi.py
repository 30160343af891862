import re

from api.app import OPERATIONS
from tests.api.conftest import Api


def test_the_document_has_every_route(api: Api) -> None:
    document = api.get("/openapi.json")
    assert document["openapi"].startswith("3.1")
    assert set(document["paths"]) == {operation.path.replace(":path", "") for operation in OPERATIONS}


def test_every_reference_leads_somewhere(api: Api) -> None:
    reply = api.client.get("/openapi.json")
    schemas = reply.json()["components"]["schemas"]
    referenced = set(re.findall(r'"#/components/schemas/(\w+)"', reply.text))
    assert referenced == set(schemas)


def test_parameters_say_what_they_allow(api: Api) -> None:
    operation = api.get("/openapi.json")["paths"]["/v1/candles/{symbol}"]["get"]
    parameters = {parameter["name"]: parameter for parameter in operation["parameters"]}
    assert list(parameters) == ["symbol", "interval", "start", "end", "limit"]
    assert parameters["symbol"]["required"]
    assert parameters["limit"]["schema"] == {"type": "integer", "minimum": 1, "maximum": 5000, "default": 500}
    assert set(operation["responses"]) == {"200", "400", "404", "503", "504"}


def test_every_path_parameter_is_declared(api: Api) -> None:
    for path, item in api.get("/openapi.json")["paths"].items():
        declared = [each["name"] for each in item["get"]["parameters"] if each["in"] == "path"]
        assert re.findall(r"{(\w+)}", path) == declared
