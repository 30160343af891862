"""From settings to a source. Whole starts are in test_mie."""

from flows import wiring
from flows.symbol_file import SymbolFile
from market.settings import Settings
from tests.flows.markets import recording


def test_a_replay_takes_all_that_is_recorded(tmp_path):
    path = tmp_path / "market.parquet"
    recording(2)[0].write_parquet(path)
    source, table, venues = wiring._recording(Settings(data_dir=tmp_path / "mie"), path, SymbolFile(None))
    assert table.names == ["BTC-USDT", "ETH-USDT", "PEPE-USDT", "SOL-USDT", "XRP-USDT"]
    assert tuple(source.list_parts()) == venues == ("binance", "okx", "bybit", "kraken", "gateio")


def test_a_cluster_is_known_by_its_options():
    assert wiring.is_cluster(["run", "flows.mie", "-i", "0", "-a", "a:1;b:1"], {})
    assert wiring.is_cluster(["run", "flows.mie"], {"BYTEWAX_ADDRESSES": "a:1;b:1"})
    assert not wiring.is_cluster(["run", "flows.mie", "-w", "2"], {})
