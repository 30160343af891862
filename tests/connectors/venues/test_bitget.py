import json
from decimal import Decimal

import pytest

from connectors.venue import Control, Instrument
from connectors.venues import bitget
from tests.connectors.venues import wire

ROW = {"ts": "1730332858796", "price": "72389.99", "size": "0.001373", "side": "buy", "tradeId": "1235671058980749319"}


def frame(*rows, kind="SPOT", channel="trade", native="BTCUSDT", action="update"):
    arg = {"instType": kind, "channel": channel, "instId": native}
    return {"action": action, "arg": arg, "data": list(rows), "ts": 1730332858805}


def test_the_first_push_of_trades_is_history_newest_first():
    rows, _ = wire.one(bitget, frame(ROW | {"tradeId": "2"}, ROW | {"tradeId": "1"}, action="snapshot"))
    assert [(row["trade_id"], row["replayed"]) for row in rows] == [("2", True), ("1", True)]


def test_history_is_flagged_only_where_it_is():
    frames = [json.dumps(frame(ROW, action=action)).encode() for action in ("update", "snapshot", "update")]
    decoded, catalog = wire.decode(bitget, frames)
    assert [row["replayed"] for row in wire.rows_of(decoded, catalog.names)] == [False, True, False]


@pytest.mark.parametrize(
    ("kind", "native", "symbol"),
    [
        ("USDT-FUTURES", "ADAUSDT", "ADA-USDT-PERP"),
        ("COIN-FUTURES", "DOGEUSD", "DOGE-USD-PERP"),
        ("USDC-FUTURES", "BTCPERP", "BTC-USDC-PERP"),
        ("SPOT", "BTCUSDT", "BTC-USDT"),
    ],
)
def test_derivatives_by_kind(kind, native, symbol):
    assert wire.one(bitget, frame(ROW, kind=kind, native=native))[0][0]["symbol"] == symbol


@pytest.mark.parametrize("kind", ["sp", "mc", "spot", "usdt-futures", ""])
def test_kinds_of_other_dialects(kind):
    assert wire.one(bitget, frame(ROW, kind=kind)) == ([], ["unknown channel"])


def test_an_absent_side_of_a_quote_is_null():
    rows, rejected = wire.one(bitget, frame({"asks": [], "bids": [["1.5", "2"]], "ts": "1"}, channel="books1"))
    assert rejected == []
    assert (rows[0]["bid"], rows[0]["ask"], rows[0]["ts_us"]) == (Decimal("1.5"), None, 1000)


def test_subscribe():
    requests = bitget.subscribe(bitget.topics([f"C{i}USDT" for i in range(15)]), first_id=5)
    assert [request.acks for request in requests] == [20, 10]
    assert json.loads(requests[0].frame)["args"][0] == {"instType": "SPOT", "channel": "trade", "instId": "C0USDT"}
    assert all(len(request.frame) < 4096 for request in requests)


def test_control():
    read = [bitget.control(each) for each in wire.all_frames("bitget", "control")]
    assert {control.kind for control in read} == {"ack", "refusal", "pong"}
    refused = [(control.native, control.code) for control in read if control.kind == "refusal"]
    assert sorted(refused) == [("BTCUSDT", "30016"), ("NOPEUSDT", "30001")]
    assert bitget.control(b"pong") == Control("pong")
    assert bitget.control(b'{"event":"error","code":30002,"msg":"Unrecognized request"}').kind == "error"


def test_lists():
    pair = {"symbol": "BTCUSDT", "baseCoin": "BTC", "quoteCoin": "USDT", "status": "online", "minTradeAmount": "0"}
    body = {"code": "00000", "msg": "success", "requestTime": 1, "data": [pair, pair | {"status": "offline"}]}
    assert [each.trading for each in bitget.instruments(json.dumps(body).encode())] == [True, False]
    assert bitget.instruments(json.dumps(body).encode())[0] == Instrument("BTC-USDT", "BTCUSDT", True)
    assert bitget.volumes(b'{"code":"00000","data":[{"symbol":"BTCUSDT","quoteVolume":"2.5"}]}') == {"BTCUSDT": 2.5}
    with pytest.raises(ValueError, match="refused with code '429'"):
        bitget.volumes(b'{"code":"429","msg":"Too Many Requests"}')
