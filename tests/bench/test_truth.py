from bench.truth import Score, read_truth, score

WICK = '{"kind":"wick","venue":"okx","symbol":"BTC-USDT","trade_ids":["1","2"]}'
CRASH = '{"kind":"crash","symbol":"BTC-USDT"}'


def test_truth_holds_wicks_and_no_crashes(tmp_path):
    path = tmp_path / "wicks.jsonl"
    path.write_text(f"{WICK}\n{CRASH}\n")
    assert [wick["trade_ids"] for wick in read_truth(path)] == [["1", "2"]]


def test_score_counts_trades_and_events(tmp_path):
    path = tmp_path / "wicks.jsonl"
    path.write_text(WICK)
    flagged = {("okx", "BTC-USDT", "1"), ("okx", "BTC-USDT", "9")}
    found = score(read_truth(path), flagged)
    assert found == Score(injected=2, caught=1, false=1, events=1, events_touched=1)
    assert (found.precision, found.recall) == (0.5, 0.5)


def test_nothing_injected_and_nothing_flagged_is_perfect():
    found = score([], set())
    assert (found.precision, found.recall) == (1.0, 1.0)
