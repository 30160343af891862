"""What a recording offers and what is wanted of it, in each of its forms."""

from collections import Counter

import polars as pl
import pytest

from connectors.importing import Imported
from connectors.recording import RecordingError
from flows import recorded
from market.settings import Settings
from tests.flows.markets import recording


@pytest.fixture
def found(tmp_path):
    path = tmp_path / "market.parquet"
    recording(2)[0].write_parquet(path)

    def of(where=path, **changes):
        return recorded.open_recording(where, Settings(data_dir=tmp_path / "mie", **changes))

    return of


def test_all_is_wanted_by_default(found):
    all_of_it = found()
    assert all_of_it.table.names == ["BTC-USDT", "ETH-USDT", "PEPE-USDT", "SOL-USDT", "XRP-USDT"]
    assert all_of_it.venues == ("binance", "okx", "bybit", "kraken", "gateio")
    assert (all_of_it.rows, all_of_it.counters) == (3_000, {})


def test_a_recording_can_be_narrowed(found):
    part = found(symbols="ETH-USDT,BTC-USDT", venues="okx,binance,kucoin")
    assert part.table.names == ["BTC-USDT", "ETH-USDT"]
    assert part.venues == ("binance", "okx")


def test_a_symbol_that_is_not_recorded_is_named(found):
    with pytest.raises(RecordingError, match=r"MIE_SYMBOLS: DOGE-USDT not in the recording"):
        found(symbols="DOGE-USDT,BTC-USDT")


def test_venues_that_are_not_recorded_are_named(found):
    with pytest.raises(RecordingError, match=r"market.parquet has ticks of .*, MIE_VENUES=kucoin"):
        found(venues="kucoin")


def test_a_folder_of_parts_is_a_recording(found, tmp_path):
    (tmp_path / "parts").mkdir()
    table, _ = recording(2)
    for number, start in enumerate(range(0, len(table), 1_000)):
        table[start : start + 1_000].write_parquet(tmp_path / "parts" / f"{number}.parquet")
    assert found(tmp_path / "parts").path == tmp_path / "parts"
    assert found(tmp_path / "parts").rows == 3_000


def test_an_archive_is_put_in_receive_order(found, tmp_path):
    (tmp_path / "archive").mkdir()
    table = recording(2)[0].with_columns(release_ns=pl.lit(1))
    table.sort("venue").write_parquet(tmp_path / "archive" / "ticks.parquet")
    part = found(tmp_path / "archive")
    assert part.rows == 3_000
    assert part.path.parent == tmp_path / "mie" / "replay"


def test_raw_frames_are_decoded(found, tmp_path):
    folder = tmp_path / "raw" / "okx"
    folder.mkdir(parents=True)
    trade = '{"instId":"BTC-USDT","tradeId":"1","px":"77708","sz":"0.1","side":"buy","ts":"1788416106000","count":"1"}'
    frames = [f'{{"arg":{{"channel":"trades","instId":"BTC-USDT"}},"data":[{trade}]}}', "nonsense"]
    (folder / "a.jsonl").write_text("\n".join(frames))
    part = found(tmp_path / "raw")
    assert (part.rows, part.table.names, part.venues) == (1, ["BTC-USDT"], ("okx",))
    assert part.counters["okx"].rejects == 1


def test_what_was_imported_is_a_line_a_venue_and_rejects_are_counted(caplog):
    caplog.set_level("INFO")
    imported = Imported(frames=Counter(okx=9, bybit=5), ticks=Counter(okx=6, bybit=7))
    imported.rejects = Counter({("okx", "malformed"): 2, ("okx", "bad price"): 1})
    counters = recorded.counters_of(imported)
    assert {name: counter.rejects for name, counter in counters.items()} == {"okx": 3, "bybit": 0}
    assert [(record.levelname, record.getMessage()) for record in caplog.records] == [
        ("WARNING", "okx: 9 frames, 6 ticks, rejects: 1 bad price, 2 malformed"),
        ("INFO", "bybit: 5 frames, 7 ticks, rejects: none"),
    ]
