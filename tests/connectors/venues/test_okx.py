import json
from decimal import Decimal

import pytest

from connectors.venue import Control, Instrument
from connectors.venues import okx
from tests.connectors.venues import wire

ROW = {"instId": "BTC-USDT", "tradeId": "9", "px": "77708", "sz": "0.1", "side": "buy", "ts": "1788416106000"}
LEVEL = ["100.5", "2", "0", "1"]


def trades(*rows, native="BTC-USDT", channel="trades"):
    return {"arg": {"channel": channel, "instId": native}, "data": list(rows)}


def quote(bids, asks):
    return trades({"asks": asks, "bids": bids, "ts": "1790439594900", "seqId": 1}, channel="bbo-tbt")


def test_a_frame_may_hold_several_trades():
    rows, _ = wire.one(okx, trades(ROW, ROW | {"tradeId": "10", "side": "sell"}))
    assert [(row["trade_id"], row["side"]) for row in rows] == [("9", "buy"), ("10", "sell")]


def test_one_bad_row_does_not_take_its_frame_along():
    rows, rejected = wire.one(okx, trades(ROW, ROW | {"sz": "0"}, ROW | {"side": "none"}))
    assert len(rows) == 1
    assert rejected == ["bad size", "bad side"]


@pytest.mark.parametrize("side", [[], [[]], [["0", "0", "0", "0"]], [["", "", "0", "0"]], None])
def test_an_absent_side_of_a_quote_is_null(side):
    rows, rejected = wire.one(okx, quote([LEVEL], side))
    assert rejected == []
    assert (rows[0]["bid"], rows[0]["bid_size"]) == (Decimal("100.5"), 2)
    assert (rows[0]["ask"], rows[0]["ask_size"]) == (None, None)


def test_a_quote_without_sides_is_rejected():
    assert wire.one(okx, quote([], [])) == ([], ["empty quote"])


@pytest.mark.parametrize(
    ("native", "symbol"),
    [
        ("BTC-USDT-SWAP", "BTC-USDT-PERP"),
        ("BTC-USD-SWAP", "BTC-USD-PERP"),
        ("BTC-USDT-260925", None),
        ("BTC-USD-260925-50000-C", None),
        ("BTC-USD_UM_XPERP-310404", None),
    ],
)
def test_derivatives_by_name(native, symbol):
    assert okx.symbol_of_native(native) == symbol
    rows, rejected = wire.one(okx, trades(ROW, native=native))
    assert [row["symbol"] for row in rows] == ([symbol] if symbol else [])
    assert rejected == ([] if symbol else ["unknown symbol"])


@pytest.mark.parametrize("trade_id", ["", "é", "x" * 41])
def test_bad_trade_ids(trade_id):
    assert wire.one(okx, trades(ROW | {"tradeId": trade_id})) == ([], ["bad trade id"])
    assert wire.one(okx, trades(ROW, ROW | {"tradeId": trade_id}))[1] == ["bad trade id"]


def test_longest_trade_id():
    assert wire.one(okx, trades(ROW | {"tradeId": "x" * 40}))[0][0]["trade_id"] == "x" * 40


def test_subscribe():
    (request,) = okx.subscribe(okx.topics(["BTC-USDT"]), first_id=3)
    assert json.loads(request.frame) == {
        "id": "3",
        "op": "subscribe",
        "args": [{"channel": "trades", "instId": "BTC-USDT"}, {"channel": "bbo-tbt", "instId": "BTC-USDT"}],
    }
    assert (request.acks, request.key) == (2, "3")


def test_control():
    read = [okx.control(frame) for frame in wire.all_frames("okx", "control")]
    assert [control.kind for control in read] == ["ack"] * 6 + ["pong"] + ["ack"] * 3 + ["refusal"]
    assert (read[0].native, read[-1].native, read[-1].code) == ("BTC-USDT-SWAP", "BTC-USDT", "60018")
    assert okx.control(b"pong") == Control("pong")
    assert okx.control(b'{"id":"3","event":"subscribe","arg":{"channel":"trades","instId":"A-B"}}').key == "3"
    notice = okx.control(b'{"event":"notice","code":"64008","msg":"upgrade","connId":"a"}')
    assert (notice.kind, notice.code, notice.text) == ("notice", "64008", "upgrade")
    assert okx.control(b'{"event":"error","code":"60012","msg":"Illegal request"}').kind == "error"


def test_lists():
    pair = {"instId": "BTC-USDT", "baseCcy": "BTC", "quoteCcy": "USDT", "state": "live", "tickSz": "0.1"}
    body = json.dumps(
        {"code": "0", "msg": "", "data": [pair, pair | {"instId": "X-USD", "baseCcy": "X", "state": "suspend"}]}
    )
    assert okx.instruments(body.encode()) == [
        Instrument("BTC-USDT", "BTC-USDT", True),
        Instrument("X-USDT", "X-USD", False),
    ]
    body = b'{"code":"0","msg":"","data":[{"instId":"BTC-USDT","volCcy24h":"5.5"},{"instId":"A-B","volCcy24h":""}]}'
    assert okx.volumes(body) == {"BTC-USDT": 5.5, "A-B": 0.0}
    with pytest.raises(ValueError, match="refused with code '50011': 'Too Many Requests'"):
        okx.volumes(b'{"code":"50011","msg":"Too Many Requests","data":[]}')


def test_a_trade_stands_for_its_last_fill_and_those_before_it():
    """A push joins `count` fills; frames before 2023 join none and do not say."""
    rows = [ROW, ROW | {"tradeId": "14", "count": "5"}, ROW | {"tradeId": "x"}, ROW | {"tradeId": "9" * 30}]
    decoded, _ = wire.decode(okx, [json.dumps(trades(*rows)).encode()])
    assert decoded.spans.tolist() == [[9, 9], [10, 14], [0, 0], [0, 0]]


def test_spans_stay_beside_their_ticks_where_rows_are_rejected_or_quotes():
    frames = [trades(ROW, ROW | {"sz": "0"}), quote([LEVEL], [LEVEL]), trades(ROW | {"tradeId": "20", "count": "2"})]
    decoded, _ = wire.decode(okx, [json.dumps(frame).encode() for frame in frames])
    assert decoded.ticks["trade_id"].tolist() == [b"9", b"", b"20"]
    assert decoded.spans.tolist() == [[9, 9], [0, 0], [19, 20]]


def test_a_count_beyond_all_bounds_harms_nothing():
    decoded, _ = wire.decode(okx, [json.dumps(trades(ROW | {"count": 10**40})).encode()])
    assert decoded.spans.tolist() == [[0, 0]]
