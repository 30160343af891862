import json
import socket
import ssl
import urllib.error
import urllib.request
from pathlib import Path

import pytest
from websockets.exceptions import ConnectionClosed, InvalidStatus
from websockets.frames import Frame, Opcode
from websockets.sync.client import connect

from simulator.server import MOST_BUFFERED_BYTES
from tests.simulator.client import receive_until, send, wait_for

CERTIFICATE = Path(__file__).parent / "loopback.pem"
"""Self-signed for 127.0.0.1, with its key; good for a hundred years and for nothing else."""


def test_a_wrong_path_is_refused(simulator):
    with pytest.raises(InvalidStatus, match="404"):
        simulator.ws("okx", "/ws/v5/nowhere")
    with pytest.raises(urllib.error.HTTPError, match="404") as refused:
        urllib.request.urlopen(simulator.endpoints["okx"]["rest"] + "/nowhere", timeout=10)
    refused.value.close()


def test_requests_share_a_connection(simulator):
    host, port = simulator.endpoints["binance"]["rest"].removeprefix("http://").split(":")
    with socket.create_connection((host, int(port)), timeout=10) as raw:
        raw.sendall(b"GET /api/v3/time HTTP/1.1\r\nHost: x\r\n\r\nGET /api/v3/ti")
        raw.sendall(b"me HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n")
        answer = b"".join(iter(lambda: raw.recv(65536), b""))
    assert answer.count(b"serverTime") == 2


def test_protocol_ping_is_answered_and_frames_may_come_in_pieces(simulator):
    with simulator.ws("okx", "/ws/v5/public") as client:
        assert client.ping().wait(10)
    host, port = simulator.endpoints["okx"]["rest"].removeprefix("http://").split(":")
    with socket.create_connection((host, int(port)), timeout=10) as raw:
        raw.sendall(
            b"GET /ws/v5/public HTTP/1.1\r\nHost: x\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
            b"Sec-WebSocket-Key: AAAAAAAAAAAAAAAAAAAAAA==\r\nSec-WebSocket-Version: 13\r\n\r\n"
        )
        for byte in Frame(Opcode.TEXT, b"ping").serialize(mask=True):
            raw.sendall(bytes([byte]))
        seen = b""
        while b"pong" not in seen:
            seen += raw.recv(4096)
        assert seen.startswith(b"HTTP/1.1 101 ")


def test_what_is_counted_is_what_arrives(simulator):
    with simulator.ws("gateio", "/ws/v4/") as client:
        request = {"time": 1, "id": 1, "channel": "spot.trades", "event": "subscribe", "payload": ["BTC_USDT"]}
        before = wait_for(lambda: _idle(simulator))["gateio"]
        send(client, request)
        send(client, {**request, "event": "unsubscribe", "id": 2})
        _, between = receive_until(client, lambda frame: frame.get("id") == 2)
        data = [frame for frame in between if frame["event"] == "update"]
        assert simulator.stats()["sent"]["gateio"] - before == len(data)


def _idle(simulator):
    stats = simulator.stats()
    return stats["sent"] if stats["clients"]["gateio"] == 1 else None


def test_tls(start_simulator):
    running = start_simulator("--tls-cert", str(CERTIFICATE), "--tls-key", str(CERTIFICATE), "--venues", "binance")
    trust = ssl.create_default_context(cafile=CERTIFICATE)
    base = running.endpoints["binance"]
    assert base["ws"].startswith("wss://")
    with connect(base["ws"] + "/stream?streams=btcusdt@bookTicker", ssl=trust) as client:
        assert json.loads(client.recv(timeout=10))["stream"] == "btcusdt@bookTicker"
    with urllib.request.urlopen(base["rest"] + "/api/v3/time", timeout=10, context=trust) as reply:
        assert "serverTime" in json.load(reply)


def test_a_slow_client_is_dropped_and_memory_stays_bounded(start_simulator):
    running = start_simulator("--rate", "60000", "--burst", "--venues", "binance", "--symbols", "5")
    host, port = running.endpoints["binance"]["rest"].removeprefix("http://").split(":")
    with socket.socket() as slow:
        slow.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        slow.settimeout(10)
        slow.connect((host, int(port)))
        streams = "btcusdt@trade/btcusdt@bookTicker/ethusdt@bookTicker"
        slow.sendall(
            f"GET /stream?streams={streams} HTTP/1.1\r\nHost: x\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
            "Sec-WebSocket-Key: AAAAAAAAAAAAAAAAAAAAAA==\r\nSec-WebSocket-Version: 13\r\n\r\n".encode()
        )
        wait_for(lambda: running.stats()["dropped"]["binance"] == 1)
        wait_for(lambda: running.stats()["clients"]["binance"] == 0)
    status = Path(f"/proc/{running.process.pid}/status").read_text()
    peak_bytes = int(status.partition("VmHWM:")[2].split()[0]) * 1024
    assert peak_bytes < 100 * 2**20 + 4 * MOST_BUFFERED_BYTES


def test_a_client_that_reads_after_all_is_told_why(start_simulator):
    running = start_simulator("--rate", "120000", "--burst", "--venues", "binance", "--symbols", "5")
    with running.ws("binance", "/stream", max_queue=4) as client:
        send(client, {"method": "SUBSCRIBE", "params": ["btcusdt@trade", "btcusdt@bookTicker"], "id": 1})
        wait_for(lambda: running.stats()["dropped"]["binance"] == 1)
        with pytest.raises(ConnectionClosed, match="1013"):
            receive_until(client, lambda frame: False)
