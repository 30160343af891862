import io
import json
import subprocess
import sys

import pytest

from connectors import decode_command
from connectors.__main__ import main
from connectors.venues import VENUES
from tests.connectors.venues import wire

OKX_TRADE = (
    b'{"arg":{"channel":"trades","instId":"BTC-USDT"},"data":[{"instId":"BTC-USDT","tradeId":"9","px":"77708.5",'
    b'"sz":"0.1","side":"buy","ts":"1788416106000"}]}'
)
OKX_QUOTE = (
    b'{"arg":{"channel":"bbo-tbt","instId":"BTC-USDT"},"data":[{"asks":[],"bids":[["1.5","2","0","1"]],'
    b'"ts":"1788416106010","seqId":1}]}'
)


def printed(name, lines):
    out = io.BytesIO()
    decode_command.write_lines(VENUES[name], lines, out)
    return [json.loads(line) for line in out.getvalue().splitlines()]


def run(*arguments, stdin=b""):
    command = [sys.executable, "-m", "connectors", *arguments]
    return subprocess.run(command, input=stdin, capture_output=True, timeout=60, check=False)


def test_lines_are_as_documented():
    found = run("decode", "okx", stdin=b"\n".join([OKX_TRADE, b"pong", b"nonsense", b"", OKX_QUOTE]))
    assert (found.returncode, found.stderr) == (0, b"")
    assert found.stdout.splitlines() == [
        b'{"line":1,"kind":"trade","venue":"okx","symbol":"BTC-USDT","price":77708.5,"size":0.1,"side":"buy",'
        b'"trade_id":"9","exchange_ns":1788416106000000000}',
        b'{"line":3,"kind":"reject","reason":"malformed"}',
        b'{"line":5,"kind":"quote","venue":"okx","symbol":"BTC-USDT","bid":1.5,"bid_size":2.0,"ask":null,'
        b'"ask_size":null,"exchange_ns":1788416106010000000}',
    ]


def test_lines_of_a_raw_recording():
    recorded = json.dumps({"receive_ns": 5, "frame": OKX_TRADE.decode()}).encode()
    (row,) = printed("okx", [recorded])
    assert (row["line"], row["trade_id"]) == (1, "9")


@pytest.mark.parametrize(
    "line", [b'{"receive_ns":1}', b'{"receive_ns":"x","frame":"pong"}', b'{"receive_ns":' + b"[" * 9999]
)
def test_lines_that_only_look_recorded_are_frames(line):
    assert [row["kind"] for row in printed("okx", [line])] == ["reject"]


@pytest.mark.parametrize("name", list(VENUES))
def test_every_capture_prints_its_expected_rows(name):
    for capture in wire.captures(name, "ticks"):
        rows = printed(name, capture.frames)
        expected = capture.expected
        assert [(row["line"], row["kind"], row["symbol"]) for row in rows] == [
            (row["line"], row["kind"], row["symbol"]) for row in expected
        ]
        for row, meant in zip(rows, expected, strict=True):
            numbers = wire.ASKED[row["kind"]]
            assert [row[n] for n in numbers] == [None if meant[n] is None else float(meant[n]) for n in numbers]
            assert row["venue"] == name
            assert (row["exchange_ns"] is None) == (meant["ts_us"] is None)
            assert row["exchange_ns"] is None or row["exchange_ns"] // 1000 == meant["ts_us"]
            if row["kind"] == "trade":
                assert (row["side"], row["trade_id"]) == (meant["side"], meant["trade_id"])


def test_control_frames_print_nothing():
    assert printed("kraken", wire.all_frames("kraken", "control")) == []


def test_lines_are_numbered_over_batches_and_input_is_streamed():
    taken = []

    def endless():
        while True:
            taken.append(1)
            yield OKX_TRADE + b"\n" if len(taken) % 3 else b"junk\n"

    batches = decode_command.decode_lines(VENUES["okx"], endless())
    rows = next(batches) + next(batches)
    assert [row.line for row in rows] == list(range(1, 2 * decode_command.BATCH_LINES + 1))
    assert len(taken) == 2 * decode_command.BATCH_LINES


def test_an_unknown_venue_is_one_line():
    found = run("decode", "mtgox")
    assert (found.returncode, found.stdout) == (2, b"")
    assert found.stderr.decode().splitlines() == [
        "unknown venue 'mtgox': allowed is one of binance, okx, bybit, kraken, gateio, bitget, kucoin"
    ]


@pytest.mark.parametrize("arguments", [[], ["decode"], ["encode", "okx"], ["decode", "okx", "more"]])
def test_another_command_line_is_refused(arguments, capsys):
    assert main(arguments) == 2
    out, err = capsys.readouterr()
    assert out == ""
    assert err.startswith("usage: ")
    assert err.count("\n") == 1


def test_a_reader_that_leaves_early_is_no_error():
    command = f"{sys.executable} -m connectors decode okx | head -n 1"
    found = subprocess.run(
        command, shell=True, input=b"\n".join([OKX_TRADE] * 5000), capture_output=True, timeout=60, check=False
    )
    assert found.stdout.count(b"\n") == 1
    assert found.stderr == b""
