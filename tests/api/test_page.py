import re
from html.parser import HTMLParser

import pytest

from tests.api.conftest import Api

PAGES = ("/", "/docs")


@pytest.mark.parametrize("path", PAGES)
def test_a_page_needs_nothing_from_elsewhere(api: Api, path: str) -> None:
    reply = api.client.get(path)
    assert reply.status_code == 200
    assert reply.headers["content-type"].startswith("text/html")
    outside = re.findall(r"(?:https?:)?//[a-z0-9.-]+\.[a-z]{2,}", reply.text.replace("http://www.w3.org/2000/svg", ""))
    assert outside == []
    assert not re.findall(r"<(?:script|img|iframe)[^>]*\bsrc=|<link[^>]*stylesheet|@import|innerHTML", reply.text)
    assert "connect-src 'self'" in reply.headers["content-security-policy"]


@pytest.mark.parametrize("path", PAGES)
def test_every_path_a_page_names_is_served(api: Api, path: str) -> None:
    text = api.client.get(path).text
    named = set(re.findall(r'"(/[a-z0-9./]*)(?:\?[^"]*)?"', text)) - {"/v1/wicks/"}
    assert "/openapi.json" in named
    for each in named:
        assert api.client.get(each).status_code == 200, each


def test_the_live_view_has_its_parts(api: Api) -> None:
    ids: set[str] = set()

    class Ids(HTMLParser):
        def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
            ids.update(value for name, value in attrs if name == "id" and value)

    text = api.client.get("/").text
    Ids().feed(text)
    assert set(re.findall(r'\bat\("(\w+)"\)', text)) <= ids
    assert {"tickers", "venues", "wicks", "chart"} <= ids


def test_the_live_view_reads_fields_that_exist(api: Api) -> None:
    text = api.client.get("/").text
    schemas = api.get("/openapi.json")["components"]["schemas"]
    for letter, shape in (("t", "Ticker"), ("v", "Venue"), ("w", "Wick"), ("c", "Candle")):
        used = set(re.findall(rf"\b{letter}\.([a-z_]+)\b", text))
        assert used
        assert used <= set(schemas[shape]["properties"]), shape
