"""From settings to a source: what a recording offers and what is wanted of it. Whole starts are in test_mie."""

from collections import Counter

import pytest

from connectors.importing import Imported
from connectors.recording import RecordingError
from flows import wiring
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


def test_what_was_imported_is_a_line_a_venue_and_rejects_are_counted(caplog):
    caplog.set_level("INFO")
    found = Imported(frames=Counter(okx=9, bybit=5), ticks=Counter(okx=6, bybit=7))
    found.rejects = Counter({("okx", "malformed"): 2, ("okx", "bad price"): 1})
    counters = wiring._counters(found)
    assert {name: counter.rejects for name, counter in counters.items()} == {"okx": 3, "bybit": 0}
    assert [(record.levelname, record.getMessage()) for record in caplog.records] == [
        ("WARNING", "okx: 9 frames, 6 ticks, rejects: 1 bad price, 2 malformed"),
        ("INFO", "bybit: 5 frames, 7 ticks, rejects: none"),
    ]


def test_a_cluster_is_known_by_its_options():
    assert wiring.is_cluster(["run", "flows.mie", "-i", "0", "-a", "a:1;b:1"], {})
    assert wiring.is_cluster(["run", "flows.mie"], {"BYTEWAX_ADDRESSES": "a:1;b:1"})
    assert not wiring.is_cluster(["run", "flows.mie", "-w", "2"], {})
