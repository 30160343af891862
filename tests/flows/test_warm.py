import io
import signal

import numpy as np

from flows.warm import Bar, by_group
from market.records import CANDLE
from market.symbols import SymbolTable
from tests.flows.whole import rows, running, stores, until

TABLE = SymbolTable(["BTC-USDT", "ETH-USDT", "SOL-USDT", "XRP-USDT"])


class Terminal(io.StringIO):
    def isatty(self):
        return True


def test_series_are_gathered_by_key_group():
    series = {}
    for symbol in range(len(TABLE)):
        for interval_s in (60, 900):
            series[symbol, interval_s] = np.zeros(3, CANDLE)
            series[symbol, interval_s]["symbol"] = symbol
    grouped = by_group(series, TABLE)
    assert sum(candles.size for candles in grouped.values()) == 24
    for group, candles in grouped.items():
        assert {int(TABLE.groups[symbol]) for symbol in candles["symbol"].tolist()} == {group}


def test_the_bar_is_drawn_on_terminals_only():
    screen, log = Terminal(), io.StringIO()
    for output in (screen, log):
        bar = Bar(output)
        bar.show(1, 3)
        bar.show(3, 3)
        bar.end()
    assert screen.getvalue().split("\r")[1:3] == [f"warm-up [{'#' * 10}{'.' * 20}] 1/3", f"warm-up [{'#' * 30}] 3/3"]
    assert log.getvalue() == ""


def test_indicators_are_valid_with_the_first_candle_of_a_run(data_dir):
    with running(data_dir, intervals="1m,1h", symbols="top:3", log_level="info") as flow:
        until(lambda: (data_dir / "run" / "stores.json").exists())
        with stores(data_dir) as (hot, _):
            until(lambda: len(hot.keys("tk:*")) == 3)
        flow.send_signal(signal.SIGTERM)  # the forming candles are written as they are
        assert flow.wait(30) == 0
    first, cold = rows(
        data_dir,
        "SELECT DISTINCT ON (symbol, interval) symbol, interval, macd_histogram FROM indicators"
        " ORDER BY symbol, interval, open_time",
        "SELECT count(*) FROM indicators WHERE rsi_14 IS NULL",
    )
    assert len(first) == 6
    assert all(histogram is not None for _, _, histogram in first)
    assert cold == [(0,)]
    assert "warm-up in" in data_dir.with_suffix(".log").read_text()
