import json
import time
import urllib.error
import urllib.request

import pytest

from tests.simulator.client import receive_until, trade_ids, wait_for


def test_a_fault_is_listed_while_it_lasts_and_logged_with_its_times(faulty):
    before_ns = time.time_ns()
    line = faulty.order("kraken", "late_pong", for_s=0.2, delay_ms=10)
    active = faulty.rest("okx", "/sim/faults")["active"]
    assert line in active
    assert (line["venue"], line["for_s"], line["params"]) == ("kraken", 0.2, {"delay_ms": 10})
    wait_for(lambda: faulty.rest("okx", "/sim/faults")["active"] == [])
    begin, end = (row for row in faulty.log() if row["number"] == line["number"])
    assert (begin["event"], end["event"]) == ("begin", "end")
    assert before_ns <= begin["at_ns"] <= end["at_ns"] - 190_000_000 <= time.time_ns()


def test_faults_of_all_venues_can_be_cleared(faulty):
    faulty.order("okx", "no_pong", venue="all", for_s=3000)
    assert len(faulty.rest("okx", "/sim/faults")["active"]) == 7
    assert faulty.order("okx", "clear") == {"cleared": 1}
    assert faulty.order("okx", "clear", venue="all") == {"cleared": 6}
    assert faulty.rest("okx", "/sim/faults")["active"] == []


@pytest.mark.parametrize(
    ("posted", "says"),
    [
        (b"{", "truncated"),
        (b'{"fault": "drop", "venue": "nope"}', "venue='nope'"),
        (b'{"fault": "halted", "symbol": "NOPE-USDT"}', "no venue okx with NOPE-USDT here"),
    ],
)
def test_a_bad_order_is_a_400(faulty, posted, says):
    request = urllib.request.Request(faulty.endpoints["okx"]["rest"] + "/sim/fault", data=posted)
    with pytest.raises(urllib.error.HTTPError) as refused, urllib.request.urlopen(request, timeout=10):
        pass
    with refused.value as answer:
        assert says in json.load(answer)["error"]
        assert answer.code == 400


def test_a_timeline_is_followed(start_simulator, tmp_path):
    path = tmp_path / "timeline.jsonl"
    entries = [
        {"at_s": 0, "fault": "delisted", "venue": "okx", "symbol": "ETH-USDT", "for_s": 3000},
        {"at_s": 0.2, "fault": "http_error", "venue": "okx", "on": "rest", "status": 503, "for_s": 0.2},
        {"at_s": 0.3, "fault": "listed", "venue": "okx", "symbol": "ETH-USDT"},
    ]
    path.write_text("\n".join(map(json.dumps, entries)))
    running = start_simulator("--venues", "okx", "--symbols", "3", "--faults", str(path))
    assert running.log()[0]["fault"] == "delisted"
    wait_for(lambda: len(running.log()) == 4)
    assert [(row["event"], row["fault"]) for row in running.log()] == [
        ("begin", "delisted"), ("begin", "http_error"), ("begin", "listed"), ("end", "http_error"),
    ]  # fmt: skip
    first, second = running.log()[:2]
    assert second["at_ns"] - first["at_ns"] >= 200_000_000


def test_random_faults_come_by_themselves_and_the_simulator_lives(start_simulator):
    running = start_simulator("--venues", "okx", "--symbols", "3", "--fault-rate", "6000", "--fault-seed", "3")
    wait_for(lambda: len({row["fault"] for row in running.log()}) >= 15)


def test_row_faults_need_a_paced_run(start_simulator):
    running = start_simulator("--venues", "okx", "--symbols", "3", "--burst")
    with pytest.raises(urllib.error.HTTPError) as refused:
        running.order("okx", "stall")
    with refused.value as answer:
        assert "needs a paced run" in json.load(answer)["error"]
    with running.feed("okx", close_timeout=0.1) as client:
        receive_until(client, lambda frame: trade_ids("okx", frame))
        assert running.order("okx", "drop")["connections"] == 1
