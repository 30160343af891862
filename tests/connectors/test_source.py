import csv
import os
import signal
import ssl
import subprocess
import sys
import threading
import time
from collections import defaultdict
from itertools import pairwise
from pathlib import Path

import msgspec
import numpy as np
import pytest
from bytewax import operators as op
from bytewax.dataflow import Dataflow
from bytewax.testing import TestingSink, cluster_main

from connectors import source as module
from connectors.pipe import FLUSH_NS, CollectorConfig
from connectors.roster import Roster
from connectors.source import CollectorProcess, VenuePartition, VenueSource
from market.schema import END_OF_INPUT, TICK, TRADE, Gap, TickBatch, VenueCounters
from market.symbols import SymbolTable
from market.venues import VENUES
from tests.connectors.feeds import Heard, check_promises, config_of, drive, poll
from tests.connectors.peers import TLS, until
from tests.connectors.ticks import batches_of

ROOT = Path(__file__).parents[2]


def build(source, names):
    return {name: source.build_part("venues", name, None) for name in names}, {name: Heard() for name in names}


def ledger_of(simulator):
    """Return venue -> symbol -> trade ids in the order sent."""
    sent = defaultdict(lambda: defaultdict(list))
    with (simulator.folder / "trades.csv").open() as lines:
        for row in csv.DictReader(lines):
            sent[row["venue"]][row["symbol"]].append(row["trade_id"])
    return sent


def test_all_venues_tick_keep_their_promises_and_lose_nothing(start_simulator, tmp_path):
    """Half way the worker does not read for a while; the end is a drain."""
    simulator = start_simulator("--rate", "3000", "--symbols", "12", "--ledger", "--wicks-per-minute", "60")
    config = config_of(simulator, tmp_path, wanted="top:12")
    source = VenueSource(VENUES, config)
    assert source.list_parts() == list(VENUES)
    parts, heard = build(source, VENUES)
    drive(parts, heard, lambda: all(len(h.trade_ids(config.symbols)) > 50 for h in heard.values()))
    waited_s = time.monotonic() + 0.7
    until(lambda: time.monotonic() > waited_s)
    poll(parts, heard)
    source.stop()
    drive(parts, heard, lambda: all(h.over for h in heard.values()))
    simulator.end()
    sent = ledger_of(simulator)
    for name in VENUES:
        batches = heard[name].batches
        check_promises(name, batches)
        assert batches[-1].watermark_ns == END_OF_INPUT
        assert heard[name].states[-1] == "ended"
        assert batches[-1].status.reconnects == 0
        received = defaultdict(list)
        for symbol, trade_id in heard[name].trade_ids(config.symbols):
            received[symbol].append(trade_id)
        for symbol, ids in received.items():  # some venues list the newest trade of a frame first
            assert sorted(ids) == sorted(sent[name][symbol][: len(ids)]), (name, symbol)


def test_one_collector_serves_all_venues_of_a_worker_and_ends_with_the_last(quiet_simulator, tmp_path):
    names = ("binance", "okx", "kraken")
    source = VenueSource(names, config_of(quiet_simulator, tmp_path, names))
    parts, heard = build(source, names)
    drive(parts, heard, lambda: all(h.rows for h in heard.values()))
    source.stop()
    drive(parts, heard, lambda: heard["binance"].over)
    drive(parts, heard, lambda: all(h.over for h in heard.values()))
    assert len({id(collector) for collector in source._collectors.values()}) == 1
    (collector,) = source._collectors.values()
    assert collector.is_closed
    with pytest.raises(ProcessLookupError):
        os.kill(collector.pid, 0)


def test_each_worker_thread_has_its_own_collector(quiet_simulator, tmp_path):
    source = VenueSource(("binance", "okx"), config_of(quiet_simulator, tmp_path, ("binance", "okx")))
    collectors = []

    def work(name):
        part = source.build_part("venues", name, None)
        started.wait()  # thread idents of ended threads are given again
        collectors.append(part._collector)
        heard = {name: Heard()}
        drive({name: part}, heard, lambda: heard[name].rows)
        part.close()

    started = threading.Barrier(2)
    threads = [threading.Thread(target=work, args=(name,)) for name in ("binance", "okx")]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert collectors[0] is not collectors[1]


def test_a_killed_collector_gets_a_successor(quiet_simulator, tmp_path, caplog):
    collector = CollectorProcess(config_of(quiet_simulator, tmp_path, ("binance", "okx")))
    stopping = threading.Event()
    parts = {}
    for name in ("binance", "okx"):
        collector.serve(name)
        parts[name] = VenuePartition(name, collector, stopping)
    heard = {name: Heard() for name in parts}
    drive(parts, heard, lambda: all(h.rows > 20 for h in heard.values()))
    first = collector.pid
    os.kill(first, signal.SIGKILL)
    rows = {name: h.rows for name, h in heard.items()}
    drive(parts, heard, lambda: collector.pid != first)
    drive(parts, heard, lambda: all(h.rows > rows[name] + 20 for name, h in heard.items()))
    for name, h in heard.items():
        check_promises(name, h.batches)
        parts[name].close()
    assert "collector of binance,okx ended with -9: starting another" in caplog.text


def ids_of(batches, symbols):
    """Return symbol -> trade ids as numbers, those twice too, and the symbols with a gap that was not filled."""
    ids, given_up = defaultdict(list), set()
    for batch in batches:
        trades = batch.ticks[batch.ticks["kind"] == TRADE]
        for symbol, trade_id in zip(trades["symbol"].tolist(), trades["trade_id"].tolist(), strict=True):
            ids[symbols[symbol]].append(int(trade_id))
        given_up |= {symbols[gap.symbol] for gap in batch.gaps if not gap.filled}
    return ids, given_up


def lost(sent, got, given_up):
    """Return what the simulator sent and nobody got, of symbols that have traded since."""
    return [
        (symbol, int(trade_id))
        for symbol, trade_ids in sent.items()
        if symbol in got and symbol not in given_up
        for trade_id in trade_ids
        if min(got[symbol]) <= int(trade_id) <= max(got[symbol]) and int(trade_id) not in got[symbol]
    ]


NUMBERED = ("binance", "okx", "kraken", "gateio")


def test_a_killed_collector_s_successor_asks_for_what_was_missed(start_simulator, tmp_path):
    simulator = start_simulator("--rate", "1500", "--symbols", "6", "--ledger", "--seed", "4")
    config = config_of(simulator, tmp_path, wanted="top:6")
    source = VenueSource(VENUES, config)
    parts, heard = build(source, VENUES)
    drive(parts, heard, lambda: all(len(h.trade_ids(config.symbols)) > 50 for h in heard.values()))
    (collector,) = source._collectors.values()
    first = collector.pid
    os.kill(first, signal.SIGKILL)
    drive(parts, heard, lambda: collector.pid != first)
    ask_s = time.monotonic() + 2.0  # a jump is a hole after a second
    drive(parts, heard, lambda: time.monotonic() > ask_s and all(gaps_of(h) for h in heard.values()))
    source.stop()
    drive(parts, heard, lambda: all(h.over for h in heard.values()))
    simulator.end()
    sent = ledger_of(simulator)
    for name in VENUES:
        check_promises(name, heard[name].batches)
        got, given_up = ids_of(heard[name].batches, config.symbols)
        assert lost(sent[name], got, given_up) == [], name
        assert len(given_up) < len(got), name
        if name in NUMBERED:  # elsewhere the trade that ends a hole of time comes twice, and the sequencer drops it
            assert all(len(set(ids)) == len(ids) for ids in got.values()), name


def gaps_of(heard):
    return [gap for batch in heard.batches for gap in batch.gaps]


def test_a_resumed_run_asks_for_all_that_came_after_the_state(start_simulator, tmp_path):
    """Also for what was handed out between the state and the kill, and on other codes."""
    simulator = start_simulator("--rate", "1500", "--symbols", "6", "--ledger", "--seed", "6")
    config = config_of(simulator, tmp_path, wanted="top:6")
    source = VenueSource(VENUES, config)
    parts, heard = build(source, VENUES)
    drive(parts, heard, lambda: all(len(h.trade_ids(config.symbols)) > 50 for h in heard.values()))
    states = {name: part.snapshot() for name, part in parts.items()}
    kept = {name: list(h.batches) for name, h in heard.items()}
    more = {name: h.rows + 50 for name, h in heard.items()}
    drive(parts, heard, lambda: all(h.rows > more[name] for name, h in heard.items()))
    (collector,) = source._collectors.values()
    os.kill(collector.pid, signal.SIGKILL)
    for part in parts.values():
        part.close()
    away_s = time.monotonic() + 1.0
    until(lambda: time.monotonic() > away_s)
    turned = CollectorConfig(config.symbols[::-1], config.natives, config.endpoints, seed=2)
    source = VenueSource(VENUES, turned)
    parts = {name: source.build_part("venues", name, states[name]) for name in VENUES}
    heard = {name: Heard() for name in VENUES}
    ask_s = time.monotonic() + 3.0
    drive(parts, heard, lambda: time.monotonic() > ask_s and all(gaps_of(h) for h in heard.values()))
    source.stop()
    drive(parts, heard, lambda: all(h.over for h in heard.values()))
    simulator.end()
    sent = ledger_of(simulator)
    for name in VENUES:
        check_promises(name, heard[name].batches)
        before, given_up = ids_of(kept[name], config.symbols)
        after, unfilled = ids_of(heard[name].batches, turned.symbols)
        got = {symbol: before[symbol] + after[symbol] for symbol in after}
        given_up |= unfilled
        assert lost(sent[name], got, given_up) == [], name
        assert len(given_up) < len(got), name
        if name in NUMBERED:
            assert all(len(set(ids)) == len(ids) for ids in got.values()), name


def test_a_simulated_kucoin_with_other_ping_times_is_kept(start_simulator, tmp_path):
    """It closes a socket after 1.5 s without a word; the usual ping would come after 18 s."""
    simulator = start_simulator("--rate", "300", "--symbols", "2")
    simulator.order("kucoin", "ping_times", interval_ms=1000, timeout_ms=500)
    source = VenueSource(("kucoin",), config_of(simulator, tmp_path, ("kucoin",)))
    parts, heard = build(source, ("kucoin",))
    enough_s = time.monotonic() + 6.0
    drive(parts, heard, lambda: time.monotonic() > enough_s and heard["kucoin"].rows > 20)
    source.stop()
    drive(parts, heard, lambda: heard["kucoin"].over)
    assert heard["kucoin"].batches[-1].status.reconnects == 0


def test_a_collector_killed_while_it_drains_ends_the_input(quiet_simulator, tmp_path):
    collector = CollectorProcess(config_of(quiet_simulator, tmp_path, ("binance",)))
    collector.serve("binance")
    stopping = threading.Event()
    parts, heard = {"binance": VenuePartition("binance", collector, stopping)}, {"binance": Heard()}
    drive(parts, heard, lambda: heard["binance"].rows)
    os.kill(collector.pid, signal.SIGSTOP)
    stopping.set()
    poll(parts, heard)
    os.kill(collector.pid, signal.SIGKILL)
    drive(parts, heard, lambda: heard["binance"].over)
    assert heard["binance"].batches[-1].watermark_ns == END_OF_INPUT
    check_promises("binance", heard["binance"].batches)


def test_a_collector_that_hangs_while_it_drains_is_killed(quiet_simulator, tmp_path, monkeypatch):
    monkeypatch.setattr(module, "END_TIMEOUT_S", 0.2)
    collector = CollectorProcess(config_of(quiet_simulator, tmp_path, ("binance",)))
    collector.serve("binance")
    stopping = threading.Event()
    parts, heard = {"binance": VenuePartition("binance", collector, stopping)}, {"binance": Heard()}
    drive(parts, heard, lambda: heard["binance"].rows)
    os.kill(collector.pid, signal.SIGSTOP)
    stopping.set()
    drive(parts, heard, lambda: heard["binance"].over)


def test_collectors_that_die_at_once_are_not_started_in_a_loop(tmp_path):
    """A CA file that is not there is a mistake of the configuration: no successor can do better."""
    collector = CollectorProcess(CollectorConfig(["BTC-USDT"], {}, {}, seed=1, ca_file=str(tmp_path / "missing.pem")))
    collector.serve("binance")
    part = VenuePartition("binance", collector, threading.Event())
    pids, began_s = {collector.pid}, time.monotonic()
    while len(pids) < 3:
        assert part.next_batch() == []
        pids.add(collector.pid)
        assert time.monotonic() < began_s + 20
        time.sleep(0.003)
    assert time.monotonic() - began_s > 2 * module.RESTART_S
    part.close()


def test_closing_our_end_ends_the_process_by_itself(quiet_simulator, tmp_path):
    collector = CollectorProcess(config_of(quiet_simulator, tmp_path, ("binance",)))
    collector.serve("binance")
    until(lambda: collector.take("binance"))
    process = collector._process
    collector.close("binance")
    assert process.returncode == 0


def test_no_orphan_remains_when_the_worker_is_killed(quiet_simulator, tmp_path):
    """The collector inherits the worker's stdout: its end of file tells that both are gone."""
    program = """if True:
        import msgspec, sys, time
        from connectors.pipe import decode_config
        from connectors.source import CollectorProcess
        collector = CollectorProcess(decode_config(sys.stdin.readline()))
        collector.serve("binance")
        while not collector.take("binance"):
            time.sleep(0.01)
        print("ticking", flush=True)
        time.sleep(60)
    """
    config = module.encode_line(config_of(quiet_simulator, tmp_path, ("binance",)))
    with subprocess.Popen(
        [sys.executable, "-c", program], stdin=subprocess.PIPE, stdout=subprocess.PIPE, cwd=ROOT
    ) as worker:
        worker.stdin.write(config + b"\n")
        worker.stdin.flush()
        assert worker.stdout.readline() == b"ticking\n"
        began_s = time.monotonic()
        worker.kill()
        assert worker.stdout.read() == b""
        assert time.monotonic() - began_s < 10


def test_a_config_larger_than_the_socket_s_buffer_arrives(quiet_simulator, tmp_path):
    """Commands behind it must not be lost: the process is still starting when the buffer is full."""
    config = config_of(quiet_simulator, tmp_path, ("binance",))
    many = {f"COIN{number}-USDT": f"COIN{number}USDT" for number in range(40_000)}
    natives = {**config.natives, "okx": many}
    collector = CollectorProcess(CollectorConfig(config.symbols, natives, config.endpoints, seed=1))
    collector.serve("binance")
    part = {"binance": VenuePartition("binance", collector, threading.Event())}
    heard = {"binance": Heard()}
    drive(part, heard, lambda: heard["binance"].rows)
    part["binance"].close()


def test_a_venue_without_symbols_only_promises(quiet_simulator, tmp_path):
    config = config_of(quiet_simulator, tmp_path, ("binance", "okx"))
    natives = {"binance": config.natives["binance"], "okx": {}}
    source = VenueSource(("binance", "okx"), CollectorConfig(config.symbols, natives, config.endpoints, seed=1))
    parts, heard = build(source, ("binance", "okx"))
    drive(parts, heard, lambda: heard["binance"].rows > 20 and len(heard["okx"].batches) > 5)
    source.stop()
    drive(parts, heard, lambda: all(h.over for h in heard.values()))
    assert heard["okx"].rows == 0
    check_promises("okx", heard["okx"].batches)
    assert heard["okx"].batches[-1].watermark_ns == END_OF_INPUT


def test_over_tls_with_a_private_authority(start_simulator, tmp_path):
    """KuCoin too: its token comes over https."""
    names = ("okx", "kucoin")
    pem, ca = str(TLS / "localhost.pem"), str(TLS / "ca.pem")
    simulator = start_simulator("--rate", "200", "--symbols", "3", "--tls-cert", pem, "--tls-key", pem)
    assert simulator.endpoints["okx"]["ws"].startswith("wss://")
    context = ssl.create_default_context(cafile=ca)
    trusting = config_of(simulator, tmp_path, names, context=context, ca_file=ca)
    source = VenueSource(names, trusting)
    parts, heard = build(source, names)
    drive(parts, heard, lambda: all(h.rows > 20 for h in heard.values()))
    source.stop()
    drive(parts, heard, lambda: all(h.over for h in heard.values()))
    wary = VenueSource(("okx",), CollectorConfig(trusting.symbols, trusting.natives, trusting.endpoints, seed=1))
    parts, heard = build(wary, ("okx",))
    drive(parts, heard, lambda: "down" in heard["okx"].states)
    assert heard["okx"].rows == 0
    parts["okx"].close()


def test_in_a_dataflow_of_two_workers(quiet_simulator, tmp_path):
    """Stopped in the middle: every venue's batches end with an end of its own, and nothing is left running."""
    names = ("binance", "okx", "bybit", "bitget")
    source = VenueSource(names, config_of(quiet_simulator, tmp_path, names))
    seen = defaultdict(int)

    def count(item):
        seen[item[0]] += item[1].ticks.size
        if len(seen) == len(names) and all(rows > 10 for rows in seen.values()):
            source.stop()
        return item

    out = []
    flow = Dataflow("source")
    op.output("out", op.map("count", op.input("venues", flow, source), count), TestingSink(out))
    cluster_main(flow, [], 0, worker_count_per_proc=2)
    for name in names:
        batches = [batch for key, batch in out if key == name]
        check_promises(name, batches)
        assert batches[-1].watermark_ns == END_OF_INPUT
    for collector in source._collectors.values():
        assert collector._process.returncode is not None


def test_batches_that_waited_are_handed_out_as_one():
    batches = batches_of(3)
    batches[1].status = VenueCounters(messages=5)
    batches[0].gaps, batches[2].gaps = [Gap(0, 1, 2, 3, 0, filled=True)], [Gap(0, 2, 2, 3, 4, filled=False)]
    merged = module._merge(batches)
    assert merged.ticks.tobytes() == b"".join(batch.ticks.tobytes() for batch in batches)
    assert (merged.watermark_ns, merged.status.messages) == (batches[-1].watermark_ns, 5)
    assert [gap.symbol for gap in merged.gaps] == [1, 2]
    empty = TickBatch(0, np.zeros(0, TICK), 9)
    assert module._merge([empty]) is empty


MS = 1_000_000


@pytest.mark.parametrize(
    ("now_ms", "heard_ms", "look_ms"),
    [
        (100.2, 95.0, 101),  # the flush of 100 is due
        (101.7, 95.0, 102),
        (100.7, 100.6, 103.5),  # it has come: halfway there may be another
        (103.6, 100.6, 106),  # there was none
        (103.6, 103.5, 106),
        (104.9, 100.6, 106),
        (119.0, 50.0, 121),  # a collector that hangs is not asked all the time
    ],
)
def test_the_socket_is_looked_at_when_a_flush_should_have_come(now_ms, heard_ms, look_ms):
    assert module.next_look_ns(round(now_ms * MS), round(heard_ms * MS)) == look_ms * MS


def test_no_partition_sleeps_for_long():
    for now_ns in range(0, 20 * MS, 137_000):
        for heard_ns in range(0, now_ns, 1_370_000):
            assert 0 < module.next_look_ns(now_ns, heard_ns) - now_ns <= FLUSH_NS // 2 + module.TRAVEL_NS


def test_an_idle_partition_asks_to_be_woken_soon(quiet_simulator, tmp_path):
    source = VenueSource(("binance",), config_of(quiet_simulator, tmp_path, ("binance",)))
    part = source.build_part("venues", "binance", None)
    wakes = [part.next_awake() for _ in range(2)]
    assert all(before <= after for before, after in pairwise(wakes))
    part.close()


def test_a_symbol_that_comes_while_it_runs_is_followed_also_by_a_successor(quiet_simulator, tmp_path):
    names = ("okx", "bybit")
    config = config_of(quiet_simulator, tmp_path, names, "top:3", refresh_s=0.3, ranks=True)
    table = SymbolTable(config.symbols, spare=1)
    config = msgspec.structs.replace(config, symbols=list(table.names))
    source = VenueSource(names, config, Roster(table, names, top=4))
    parts, heard = build(source, names)
    ticked = lambda: all(any(new in batch.ticks["symbol"] for batch in h.batches) for h in heard.values())  # noqa: E731
    drive(parts, heard, lambda: len(table.codes) == 4)
    (new,) = set(table.codes.values()) - {0, 1, 2}
    drive(parts, heard, ticked)
    (collector,) = source._collectors.values()
    os.kill(collector.pid, signal.SIGKILL)
    for each in heard.values():
        each.batches.clear()
    drive(parts, heard, ticked)
    source.stop()
    drive(parts, heard, lambda: all(h.over for h in heard.values()))
    for name in names:
        check_promises(name, heard[name].batches)
