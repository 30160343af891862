import numpy as np

from simulator.market import PRINT, Market
from simulator.trade_log import CHUNK_ROWS, TradeLog, old_prints, single_fills
from simulator.universe import build_universe


def trades(ids, symbol=0):
    rows = np.zeros(len(ids), PRINT)
    rows["trade_id"], rows["symbol"], rows["send_ns"], rows["side"] = ids, symbol, ids, -1
    return rows


def test_trades_come_back_by_symbol_oldest_first_once_they_are_due():
    log = TradeLog(1000)
    log.now_ns = 2
    log.add(trades([1, 2, 3]))
    log.add(trades([2], symbol=3))
    assert log.of(0)["trade_id"].tolist() == [1, 2]
    log.now_ns = 9
    log.add(trades([4, 20]))
    assert log.of(0)["trade_id"].tolist() == [1, 2, 3, 4]
    assert log.of(3)["trade_id"].tolist() == [2]
    assert (len(log.of(7)), log.made) == (0, 6)
    assert len(TradeLog(10).of(0)) == 0


def test_the_oldest_are_forgotten():
    log = TradeLog(2 * CHUNK_ROWS)
    log.now_ns = 10**9
    for begin in range(0, 10 * CHUNK_ROWS, 64):
        log.add(trades(range(begin, begin + 64)))
    kept = log.of(0)["trade_id"]
    assert 2 * CHUNK_ROWS <= len(kept) < 3 * CHUNK_ROWS
    assert kept[-1] == 10 * CHUNK_ROWS - 1
    assert (np.diff(kept) == 1).all()


def test_prints_are_the_trades():
    market = Market(build_universe(3), seed=1, rate=5000, start_ns=10**18, wicks_per_minute=0)
    block = market.block()
    for venue, rows in block.trades.items():
        assert {name: block.prints[venue][name].tolist() for name in PRINT.names} == {
            name: getattr(rows, name) for name in PRINT.names
        }
    old = market.old_trades(0, 5)
    assert old_prints(old)["trade_id"].tolist() == old.trade_id
    assert old_prints(old)["send_ns"].tolist() == [0] * 5


def test_joined_fills_come_apart_and_add_up():
    rows = np.zeros(3, PRINT)
    rows["trade_id"], rows["fills"], rows["size"] = [10, 14, 15], [1, 4, 1], [0, 1, 0]
    fills = single_fills(rows, np.array([7, 30]))
    assert fills["trade_id"].tolist() == [10, 11, 12, 13, 14, 15]
    assert fills["units"].tolist() == [7, 7, 7, 7, 9, 7]
    assert len(single_fills(rows[:0], np.array([7]))) == 0
