"""Every route and every refusal, over a real process and real stores."""

import asyncio
from datetime import timedelta

import httpx
import pytest
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import PlainTextResponse, Response
from starlette.routing import Route

from api.app import Bound, build_app
from api.reads import Reads, iso
from tests.api.conftest import CANDLE_ROWS, EVIDENCE, MINUTE, OPEN, WICK_TIME, Api

CANDLES = "/v1/candles/BTC-USDT"


def opens(body: dict) -> list[str]:
    return [candle["open_time"] for candle in body["candles"]]


def test_tickers_lists_all_symbols_sorted(api: Api) -> None:
    tickers = api.get("/v1/tickers")["tickers"]
    assert [ticker["symbol"] for ticker in tickers] == ["BTC-USDT", "ETH-USDT", "NEW-USDT"]
    assert tickers[1]["side"] is None


def test_a_ticker_has_numbers_and_both_times(api: Api) -> None:
    ticker = api.get("/v1/tickers/btc-usdt")
    assert ticker["price"] == 60000.1
    assert ticker["event_ns"] == 1769860800123456789
    assert ticker["event_time"] == "2026-01-31T12:00:00.123456Z"
    assert (ticker["venue"], ticker["bid_venue"], ticker["ask_venue"]) == ("binance", "okx", "kraken")
    assert (ticker["side"], ticker["verdict"], ticker["venues"], ticker["seq"]) == ("buy", "confirmed", 6, 42)


def test_what_a_ticker_does_not_know_is_null(api: Api) -> None:
    ticker = api.get("/v1/tickers/NEW-USDT")
    known = {name: value for name, value in ticker.items() if value is not None}
    assert known == {"symbol": "NEW-USDT", "bid": 1.25, "bid_venue": "okx"}


def test_candles_are_the_newest_500_ascending(api: Api) -> None:
    body = api.get(CANDLES)
    assert opens(body) == [iso(OPEN + row * MINUTE) for row in range(CANDLE_ROWS - 500, CANDLE_ROWS)]
    assert (body["symbol"], body["interval"]) == ("BTC-USDT", "1m")
    last = body["candles"][-1]
    assert last["open_ns"] == 1769860800_000000000 + 599 * 60_000_000_000
    del last["open_time"], last["open_ns"]
    assert last == {
        "open": 60599.0, "high": 60601.0, "low": 60597.0, "close": 60600.0, "volume": 3.0, "quote_volume": 181797.0,
        "buy_volume": 1.0, "trades": 7, "vwap": 60599.5, "venues": 5, "wicks": 1, "revision": 0,
    }  # fmt: skip


@pytest.mark.parametrize(
    ("start", "end"),
    [
        ("2026-01-31T12:01:00Z", "2026-01-31T12:03:00Z"),
        ("2026-01-31T17:31:00+05:30", "2026-01-31T07:03:00-05:00"),
        (1769860860, 1769860980),
        (1769860860000, 1769860980000),
        (1769860860000000000, 1769860980000000000),
        (1769860859999999001, 1769860979999999001),
    ],
)
def test_a_range_includes_its_start_and_not_its_end(api: Api, start: object, end: object) -> None:
    assert opens(api.get(CANDLES, start=start, end=end)) == [iso(OPEN + MINUTE), iso(OPEN + 2 * MINUTE)]


def test_a_limit_takes_the_newest_in_the_range(api: Api) -> None:
    body = api.get(CANDLES, end="2026-01-31T12:10:00Z", limit=2)
    assert opens(body) == [iso(OPEN + 8 * MINUTE), iso(OPEN + 9 * MINUTE)]
    assert len(api.get(CANDLES, limit=5000)["candles"]) == CANDLE_ROWS


def test_a_range_without_candles_is_empty_not_an_error(api: Api) -> None:
    assert api.get(CANDLES, start="2030-01-01")["candles"] == []
    assert api.get(CANDLES, start=1, end=1)["candles"] == []
    assert api.get(CANDLES, interval="1d")["candles"] == []


def test_indicators_are_null_while_warming_up(api: Api) -> None:
    rows = api.get("/v1/indicators/BTC-USDT")["indicators"]
    assert [row["rsi_14"] for row in rows] == [None, 51.5, 52.5]
    assert rows[0]["open_time"] == iso(OPEN)
    assert rows[0]["macd_histogram"] is None
    assert api.get("/v1/indicators/ETH-USDT")["indicators"] == []


def test_correlations_put_the_strongest_first(api: Api) -> None:
    body = api.get("/v1/correlations/BTC-USDT")
    assert [(peer["symbol"], peer["pearson"]) for peer in body["peers"]] == [
        ("XRP-USDT", -0.93),
        ("ETH-USDT", 0.8),
        ("SOL-USDT", 0.1),
    ]
    assert len(api.get("/v1/correlations/BTC-USDT", limit=1)["peers"]) == 1
    assert api.get("/v1/correlations/ETH-USDT", interval="5m")["peers"] == []


def test_wicks_are_newest_first(api: Api) -> None:
    found = api.get("/v1/wicks")["wicks"]
    assert [wick["trade_id"] for wick in found] == ["8", "7", "a/b 1"]
    assert found[1]["readmitted_time"] == iso(WICK_TIME + 2 * MINUTE)
    assert found[0]["event_time"] == iso(WICK_TIME + MINUTE)


def test_wicks_are_filtered(api: Api) -> None:
    def trade_ids(**query: object) -> list[str]:
        return [wick["trade_id"] for wick in api.get("/v1/wicks", **query)["wicks"]]

    assert trade_ids(venue="binance") == ["a/b 1"]
    assert trade_ids(symbol="BTC-USDT", limit=1) == ["8"]
    assert trade_ids(symbol="ETH-USDT") == []
    assert trade_ids(start=iso(WICK_TIME + timedelta(microseconds=1))) == ["8", "7"]
    assert trade_ids(end=iso(WICK_TIME)) == []


def test_a_wick_is_explained(api: Api) -> None:
    for listed in api.get("/v1/wicks")["wicks"]:
        reply = api.client.get(
            f"/v1/wicks/{httpx.URL('http://x').copy_with(path='/' + listed['id']).raw_path[1:].decode()}"
        )
        told = reply.json()
        assert {name: told[name] for name in listed} == listed
        assert told["evidence"] == EVIDENCE
        assert told["why"].startswith(f"{listed['venue']} alone traded BTC-USDT at ")


def test_venues_are_in_code_order(api: Api) -> None:
    found = api.get("/v1/venues")["venues"]
    assert {venue["silent_symbols"] for venue in found} == {3}
    assert [(venue["venue"], venue["state"], venue["messages"]) for venue in found] == [
        ("binance", "live", 12),
        ("okx", "live", 12),
    ]
    assert found[0]["last_receive_time"] == "2026-01-31T12:00:00.123456Z"


def test_health_and_readiness(api: Api) -> None:
    assert api.get("/healthz") == {"status": "alive"}
    assert api.get("/readyz") == {"redis": "ok", "database": "ok"}


@pytest.mark.parametrize(
    ("path", "query", "status", "error", "detail"),
    [
        ("/v1/tickers/NOPE-USDT", {}, 404, "unknown symbol", "NOPE-USDT has no ticker"),
        ("/v1/candles/NOPE-USDT", {}, 404, "unknown symbol", "NOPE-USDT has no candles"),
        ("/v1/indicators/NOPE-USDT", {}, 404, "unknown symbol", "NOPE-USDT has no indicators"),
        ("/v1/correlations/NOPE-USDT", {}, 404, "unknown symbol", "NOPE-USDT has no correlations"),
        ("/v1/wicks", {"symbol": "NOPE-USDT"}, 404, "unknown symbol", "NOPE-USDT has no wicks"),
        ("/v1/wicks/1~okx~BTC-USDT~9", {}, 404, "unknown wick", "no wick of BTC-USDT on okx at 1970-01-01"),
        ("/v1/wicks/nonsense", {}, 400, "bad parameter", "id='nonsense': allowed is the id of a wick"),
        ("/v1/tickers/BTCUSDT", {}, 400, "bad parameter", "symbol='BTCUSDT': allowed is a symbol of the form"),
        ("/v1/candles/A%00-B", {}, 400, "bad parameter", "allowed is a symbol of the form"),
        (CANDLES, {"interval": "7m"}, 400, "bad parameter", "interval='7m': allowed is one of 1s,"),
        (CANDLES, {"limit": 0}, 400, "bad parameter", "limit='0': allowed is a whole number from 1 to 5000"),
        (CANDLES, {"limit": 5001}, 400, "bad parameter", "limit='5001': allowed is a whole number from 1 to 5000"),
        (CANDLES, {"limit": "ten"}, 400, "bad parameter", "limit='ten': allowed is"),
        (CANDLES, {"start": "yesterday"}, 400, "bad parameter", "start='yesterday': allowed is ISO 8601"),
        (CANDLES, {"start": 2, "end": 1}, 400, "bad parameter", "allowed is start <= end"),
        (CANDLES, {"symbols": 1}, 400, "unknown parameter", "'symbols' is not one"),
        ("/v1/wicks", {"venue": "mtgox"}, 400, "bad parameter", "venue='mtgox': allowed is one of binance,"),
        ("/v1/tickers", {"limit": 5}, 400, "unknown parameter", "this route takes none"),
        ("/v2/tickers", {}, 404, "not found", "GET /v2/tickers: not found"),
    ],
)
def test_refusals_say_what_is_wrong(
    api: Api, path: str, query: dict[str, object], status: int, error: str, detail: str
) -> None:
    got_status, got_error, got_detail = api.problem(path, **query)
    assert (got_status, got_error) == (status, error)
    assert detail in got_detail


@pytest.mark.parametrize("method", ["POST", "PUT", "DELETE", "PATCH"])
def test_nothing_can_be_written(api: Api, method: str) -> None:
    reply = api.client.request(method, "/v1/tickers")
    assert reply.status_code == 405
    assert reply.json()["error"] == "method not allowed"
    assert "GET" in reply.headers["allow"]


def test_large_answers_are_compressed_and_small_ones_are_not(api: Api) -> None:
    large = api.client.get(CANDLES)
    assert large.headers["content-encoding"] == "gzip"
    assert int(large.headers["content-length"]) < len(large.content) / 5
    assert "content-encoding" not in api.client.get("/healthz").headers


def test_caches_are_told_what_to_keep(api: Api) -> None:
    assert api.client.get("/v1/tickers").headers["cache-control"] == "no-store"
    assert api.client.get(CANDLES).headers["cache-control"] == "max-age=1"
    assert api.client.get("/v1/candles/NOPE-USDT").headers["cache-control"] == "no-store"


def test_other_origins_are_not_let_in(api: Api) -> None:
    reply = api.client.get("/v1/tickers", headers={"Origin": "https://example.org"})
    assert not [name for name in reply.headers if name.startswith("access-control")]


def test_more_than_the_bound_is_told_to_come_back() -> None:
    async def crowd() -> list[int]:
        gate = asyncio.Event()

        async def wait(_: Request) -> Response:
            await gate.wait()
            return PlainTextResponse("done")

        app = Bound(Starlette(routes=[Route("/slow", wait), Route("/healthz", wait)]), requests=2)
        transport = httpx.ASGITransport(app)
        async with httpx.AsyncClient(transport=transport, base_url="http://api") as client:
            held = [asyncio.ensure_future(client.get("/slow")) for _ in range(2)]
            while app._free:
                await asyncio.sleep(0)
            refused = await client.get("/slow")
            assert refused.json()["error"] == "busy"
            assert refused.headers["retry-after"] == "1"
            health = asyncio.ensure_future(client.get("/healthz"))
            gate.set()
            replies = [*await asyncio.gather(*held, health), await client.get("/slow")]
        return [reply.status_code for reply in replies]

    assert asyncio.run(crowd()) == [200, 200, 200, 200]


def test_a_fault_of_ours_is_one_line_for_the_client() -> None:
    class Broken:
        def __getattr__(self, name: str) -> object:
            message = "secret inside"
            raise RuntimeError(message)

    async def ask() -> httpx.Response:
        transport = httpx.ASGITransport(build_app(Reads(Broken(), Broken())), raise_app_exceptions=False)
        async with httpx.AsyncClient(transport=transport, base_url="http://api") as client:
            return await client.get(CANDLES)

    reply = asyncio.run(ask())
    assert reply.status_code == 500
    assert reply.json() == {"error": "internal error", "detail": "the server failed to answer; its log says why"}
