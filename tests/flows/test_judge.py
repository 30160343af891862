"""The command that judges a recording again, and that it says what the flow itself would have said."""

import polars as pl
import pytest

from flows import judge
from flows.rejudge import rejudge
from market.venues import VENUES
from tests.flows.markets import recording
from tests.flows.whole import run

KEY = ["venue", "symbol", "trade_id", "receive_ns"]
FACTS = [*KEY, "event_ns", "reference", "deviation_bps"]


@pytest.fixture
def market(tmp_path):
    table, injected = recording(14, seed=3)
    path = tmp_path / "market.parquet"
    table.write_parquet(path)
    return path, injected


def judged(recording, settings, *options):
    """Judge by the command; return what it wrote."""
    out = settings.data_dir / "out.parquet"
    settings.data_dir.mkdir(exist_ok=True)
    assert judge.main([str(recording), "--parquet", str(out), *options]) == 0
    return pl.read_parquet(out)


def test_the_verdicts_are_those_of_the_flow_with_the_same_settings(market, data_dir, settings_of, tmp_path):
    path, injected = market
    archive_dir = data_dir / "archive"
    done = run(data_dir, "-w", "2", feed=f"replay:{path}", intervals="1m", archive_dir=archive_dir, forge_window_ms=120)
    assert done.returncode == 0, done.stderr
    archive = pl.read_parquet(archive_dir / "*.parquet").filter(kind="trade")
    settings = settings_of(forge_window_ms=120)
    found = judged(path, settings)
    (label,) = [name for name in found.columns if name.startswith("window_ms=120")]
    flagged = archive.filter(pl.col("verdict") != "confirmed")
    assert set(flagged.filter(verdict="wick").select(KEY[:3]).iter_rows()) == injected
    first = found.with_columns(verdict=pl.col(label).replace("readmitted", "wick")).select(*FACTS, "verdict")
    assert first.sort(KEY).equals(flagged.select(*FACTS, "verdict").sort(KEY))
    recorded = judge.open_recording(path, settings)
    (judging,) = rejudge(recorded, [judge.policy_of(settings, recorded.venues)])
    counts = archive.group_by("symbol", "venue", "verdict").len()
    for symbol, venue, verdict, trades in counts.iter_rows():
        place = recorded.table.codes[symbol], VENUES.index(venue), judge.verdicts.VERDICTS.index(verdict)
        assert judging.first[place] == trades
    assert judging.first.sum() == len(archive)
    # An archive is a recording too.
    assert judged(archive_dir, settings).sort(KEY).equals(found.sort(KEY))


def test_settings_are_compared_and_the_farthest_trades_explained(market, settings_of, capsys):
    path, injected = market
    found = judged(path, settings_of(), "--min-witnesses", "5", "6", "--top", "1")
    text = capsys.readouterr().out
    assert "21,000 ticks of 5 symbols on binance, okx, bybit, kraken, gateio" in text
    labels = [f"min_witnesses={number}" for number in (1, 5, 6)]
    differing = found.filter("differs")
    assert f"Trades that are judged differently, the 1 farthest of {differing.height:,}" in text
    assert "1. " in text
    assert " alone traded " in text
    wicks = differing.filter(pl.col(labels[0]) == "wick")
    assert set(wicks.select(KEY[:3]).iter_rows()) == injected
    assert wicks.select(labels).unique().rows() == [("wick", "unverified", "unverified")]


def test_settings_that_agree_say_so_and_may_be_kept_as_csv(market, settings_of, capsys, tmp_path):
    settings_of()
    assert judge.main([str(market[0]), "--window-ms", "140", "--csv", str(tmp_path / "out.csv")]) == 0
    assert "No trade is judged differently." in capsys.readouterr().out
    assert pl.read_csv(tmp_path / "out.csv").height > 0


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--window-ms", "99"], "99: allowed is a whole number from 100 to 200"),
        (["--min-witnesses", "one"], "one: allowed is a valid integer"),
        (["--csv", "/no/such/folder/x.csv"], "a file in a folder that is there"),
    ],
)
def test_options_that_cannot_be_used_end_the_start(market, settings_of, capsys, arguments, message):
    settings_of()
    with pytest.raises(SystemExit) as ended:
        judge.main([str(market[0]), *arguments])
    assert ended.value.code == 2
    assert message in capsys.readouterr().err


def test_a_recording_or_a_setting_that_cannot_be_used_is_one_line(market, settings_of, capsys, tmp_path, monkeypatch):
    settings_of()
    assert judge.main([str(tmp_path / "none.parquet")]) == 2
    assert capsys.readouterr().err == f"flows.judge: no recording at {tmp_path / 'none.parquet'}\n"
    windows = [str(number) for number in range(100, 120)]
    assert judge.main([str(market[0]), "--window-ms", *windows]) == 2
    assert capsys.readouterr().err == "flows.judge: 21 settings at once; at most 16\n"
    monkeypatch.setenv("MIE_FORGE_WINDOW_MS", "20")
    assert judge.main([str(market[0])]) == 2
    assert "MIE_FORGE_WINDOW_MS='20'" in capsys.readouterr().err
