"""From settings to a source: what a recording offers and what is wanted of it. Whole starts are in test_mie."""

from collections import Counter

import numpy as np
import pytest

from connectors.recording import Imported, RecordingError
from flows import wiring
from market.schema import TICK
from market.settings import Settings
from tests.flows.markets import recording


@pytest.fixture
def settings(tmp_path):
    table, _ = recording(2)
    table.write_parquet(tmp_path / "market.parquet")

    def of(**changes):
        return Settings(data_dir=tmp_path / "mie", feed=f"replay:{tmp_path / 'market.parquet'}", **changes)

    return of


def test_a_replay_takes_all_that_is_recorded(settings):
    _, table, venues = wiring._recording(settings())
    assert table.names == ("BTC-USDT", "ETH-USDT", "PEPE-USDT", "SOL-USDT", "XRP-USDT")
    assert venues == ("binance", "okx", "bybit", "kraken", "gateio")


def test_a_replay_can_be_narrowed(settings):
    _, table, venues = wiring._recording(settings(symbols="ETH-USDT,BTC-USDT", venues="okx,binance,kucoin"))
    assert table.names == ("BTC-USDT", "ETH-USDT")
    assert venues == ("binance", "okx")


def test_a_symbol_that_is_not_recorded_is_named(settings):
    with pytest.raises(RecordingError, match=r"MIE_SYMBOLS: DOGE-USDT not in the recording"):
        wiring._recording(settings(symbols="DOGE-USDT,BTC-USDT"))


def test_venues_that_are_not_recorded_are_named(settings):
    with pytest.raises(RecordingError, match=r"MIE_VENUES=kucoin"):
        wiring._recording(settings(venues="kucoin"))


def test_rejects_of_raw_frames_are_counted_by_venue(caplog):
    found = Imported(np.zeros(0, TICK), [])
    found.frames["okx"] = 9
    found.rejects = Counter({("okx", "malformed"): 2, ("okx", "bad price"): 1})
    counters = wiring._counters(found)
    assert counters["okx"].rejects == 3
    assert "okx: 2 frames rejected: malformed" in caplog.text


def test_a_cluster_is_known_by_its_options():
    assert wiring.is_cluster(["run", "flows.mie", "-i", "0", "-a", "a:1;b:1"], {})
    assert wiring.is_cluster(["run", "flows.mie"], {"BYTEWAX_ADDRESSES": "a:1;b:1"})
    assert not wiring.is_cluster(["run", "flows.mie", "-w", "2"], {})
