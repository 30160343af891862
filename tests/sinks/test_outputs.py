import socket
import time

import numpy as np
import pytest
from bytewax import operators as op
from bytewax.dataflow import Dataflow
from bytewax.testing import TestingSource, run_main

from market.records import LetGo, ReleasedTrades, WickBatch
from sinks.encode import HOT_ROWS, encode, unpack
from sinks.outputs import CLOSE_S, OFFER_S, HotSink, SpoolSink
from sinks.paths import hot_socket, spool_root
from sinks.spool import Reader, has_ended, spools
from tests.sinks.made import NAMES, correlation, hot, status, studies, wick

WALL_NS = 1_790_000_000_000_000_000
MANY = [f"C{code:04}-USDT" for code in range(2 * HOT_ROWS)]


class Clock:
    def __init__(self):
        self.now_s = 100.0

    def __call__(self):
        return self.now_s


@pytest.fixture
def clock():
    return Clock()


@pytest.fixture
def make(store_dir, clock):
    """Return a function that opens a HotSink's partition; all are closed without waiting."""
    made = []

    def build(names=NAMES):
        made.append(HotSink(store_dir / "outputs", names, clock, lambda: WALL_NS).build("hot", 0, 1))
        return made[-1]

    yield build
    for partition in made:
        partition._socket.close()


@pytest.fixture
def writer(store_dir):
    """The writer's end of the socket."""
    path = hot_socket(store_dir / "outputs")
    path.unlink(missing_ok=True)
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as end:
        end.bind(str(path))
        end.setblocking(False)
        yield end
    path.unlink()


def received(writer):
    """Return symbol -> price of all that has come, and the venues."""
    prices, venues = {}, []
    while True:
        try:
            message = unpack(writer.recv(1 << 18))
        except BlockingIOError:
            return prices, venues
        for row in message.rows():
            if message.kind == "hot":
                prices[row["symbol"]] = row["price"]
            elif message.kind == "let_go":
                prices[row["symbol"]] = None
            else:
                venues.append((row["venue"], row["messages"]))


def test_a_flow_appends_every_record_to_its_spool(tmp_path):
    items = [studies(5), WickBatch([wick()]), correlation()]
    flow = Dataflow("test")
    op.output("spool", op.input("items", flow, TestingSource(items)), SpoolSink(tmp_path, NAMES, 64))
    run_main(flow)
    (path,) = spools(spool_root(tmp_path))
    assert path.name.startswith("worker-0-")
    assert has_ended(path)
    reader = Reader(path, 0)
    assert reader.read(1 << 20) == [encode(item, NAMES) for item in items]
    reader.close()


def test_the_first_row_goes_out_at_once_then_the_newest_every_so_often(make, writer, clock):
    partition = make()
    partition.write_batch([hot([1.0, 2.0])])
    assert received(writer) == ({"BTC-USDT": 1.0, "ETH-USDT": 2.0}, [])
    clock.now_s += OFFER_S * 0.6
    partition.write_batch([hot([3.0]), hot([4.0])])
    assert received(writer) == ({}, [])
    clock.now_s += OFFER_S * 0.6
    partition.write_batch([hot([5.0]), status(0), status(1), status(0, messages=9)])
    assert received(writer) == ({"BTC-USDT": 5.0}, [("binance", 9), ("okx", 1)])


def test_of_repeated_rows_in_one_array_the_last_stays(make, writer):
    rows = hot(np.arange(4.0))
    rows["symbol"] = 1
    make().write_batch([rows])
    assert received(writer) == ({"ETH-USDT": 3.0}, [])


def test_without_a_writer_it_conflates_and_catches_up(make, store_dir, clock, request):
    partition = make()
    for price in range(50):
        clock.now_s += 1
        partition.write_batch([hot([price]), status(0, messages=price)])
    writer = request.getfixturevalue("writer")
    clock.now_s += 1
    partition.write_batch([])
    assert received(writer) == ({"BTC-USDT": 49.0}, [("binance", 49)])


def test_a_full_socket_loses_nothing_newest(make, writer, clock):
    partition = make(MANY)
    for price in range(600):
        clock.now_s += 1
        partition.write_batch([hot(np.full(len(MANY), float(price)))])
    received(writer)
    clock.now_s += 1
    partition.write_batch([])
    prices, _ = received(writer)
    assert set(prices.values()) <= {599.0}
    assert partition._changed.sum() == 0


def test_the_forges_counters_go_out_once_a_second_and_at_the_end(make, writer, clock):
    partition = make()
    for second in (0.0, 0.5, 0.9, 1.1):
        clock.now_s = 100.0 + second
        partition.write_batch([ReleasedTrades(np.array([WALL_NS - 4_000_000]), np.array([1, 0, 0]), 0)])
    assert counted(writer) == [(1, 1), (4, 4)]
    clock.now_s = 101.2
    partition.write_batch([ReleasedTrades(np.array([WALL_NS - 6_000_000]), np.array([0, 1, 0]), 0)])
    partition.close()
    assert counted(writer) == [(5, 4)]


def counted(writer):
    """Return the counters that have come: trades, and those at most 5 ms late."""
    found = []
    while True:
        try:
            message = unpack(writer.recv(1 << 18))
        except BlockingIOError:
            return found
        found += [(row["confirmed"] + row["wick"], row["le_0.005"]) for row in message.rows()]


def test_close_sends_the_rest(make, writer, clock):
    partition = make()
    partition.write_batch([hot([1.0])])
    partition.write_batch([hot([2.0])])
    partition.close()
    assert received(writer) == ({"BTC-USDT": 2.0}, [])


def test_close_does_not_wait_for_long(make, clock):
    partition = make()
    partition.write_batch([hot([1.0])])
    before = time.monotonic()
    partition.close()
    assert CLOSE_S <= time.monotonic() - before < CLOSE_S + 1


def test_a_symbol_that_is_let_go_is_told_before_whoever_is_listed_again(make, writer, clock):
    names = list(NAMES)
    partition = make(names)
    partition.write_batch([hot([1.0, 2.0])])
    partition.write_batch([hot([3.0, 4.0]), LetGo([1], "tk")])
    names[1:3] = "", "ETH-USDT"  # listed again, under another code
    clock.now_s += 1
    partition.write_batch([hot([5.0, 0.0, 7.0])[::2]])
    assert received(writer) == ({"BTC-USDT": 5.0, "ETH-USDT": 7.0}, [])
    partition.write_batch([LetGo([2], "tk")])
    clock.now_s += 1
    partition.write_batch([])
    assert received(writer) == ({"ETH-USDT": None}, [])


def test_letting_go_waits_for_the_writer(make, clock, request):
    partition = make()
    partition.write_batch([hot([1.0, 2.0]), LetGo([0], "tk")])
    writer = request.getfixturevalue("writer")
    clock.now_s += 1
    partition.write_batch([])
    assert received(writer) == ({"BTC-USDT": None, "ETH-USDT": 2.0}, [])
