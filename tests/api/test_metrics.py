"""The text that a Prometheus reads: well-formed, and what the store holds."""

import re

import pytest

from api import metrics
from market.records import VERDICTS
from tests.api.conftest import Api

LINE = re.compile(r'mie_[a-z_]+(\{[a-z_]+="[^"]*"(,[a-z_]+="[^"]*")*\})? -?[0-9.e+-]+')
FORGE = {
    "workers": "2", "confirmed": "90", "wick": "7", "unverified": "3", "readmitted": "1",
    "le_0.001": "0", "le_0.01": "60", "le_1": "99", "le_inf": "100", "sum_ns": "1500000000",
}  # fmt: skip


def samples(text):
    """Return sample -> value, and the families that were announced; every line must be of the format."""
    found, families = {}, {}
    for line in text.splitlines():
        if line.startswith("# TYPE "):
            _, _, name, kind = line.split(" ")
            assert name not in families
            families[name] = kind
        elif not line.startswith("# HELP "):
            assert LINE.fullmatch(line), line
            name, value = line.rsplit(" ", 1)
            family = re.sub(r"(_bucket|_sum|_count)?(\{.*)?$", "", name)
            assert family in families or name.split("{")[0] in families, line
            assert name not in found
            found[name] = float(value)
    return found, families


def test_venues_and_writer_are_shown_in_base_units():
    venues = {
        "okx": {"state": "live", "messages": "12", "clock_offset_ns": "-1500000", "lag_ns": "2000000", "rejects": ""},
        "kraken": {"state": "down", "messages": "9007199254740992"},
    }
    writer = {"candles": "5", "redis_state": "up", "database_state": "down", "database_backlog_bytes": "17"}
    found, families = samples(metrics.exposition(venues, writer, []))
    assert found == {
        'mie_venue_up{venue="okx"}': 1,
        'mie_venue_up{venue="kraken"}': 0,
        'mie_venue_messages_total{venue="okx"}': 12,
        'mie_venue_messages_total{venue="kraken"}': 9007199254740992,
        'mie_venue_clock_offset_seconds{venue="okx"}': -0.0015,
        'mie_venue_lag_seconds{venue="okx"}': 0.002,
        "mie_writer_candles_total": 5,
        'mie_writer_store_up{store="redis"}': 1,
        'mie_writer_store_up{store="database"}': 0,
        'mie_writer_backlog_bytes{store="database"}': 17,
    }
    assert families["mie_venue_messages_total"] == "counter"
    assert families["mie_venue_lag_seconds"] == "gauge"


def test_the_histogram_is_cumulative_and_ends_with_all():
    found, families = samples(metrics.exposition({}, {}, [FORGE, {**FORGE, "wick": "0"}]))
    name = "mie_forge_added_latency_seconds"
    assert families[name] == "histogram"
    of_first = [value for sample, value in found.items() if sample.startswith(f'{name}_bucket{{worker="0"')]
    assert of_first == [0, 60, 99, 100]
    assert found[f'{name}_bucket{{worker="1",le="+Inf"}}'] == found[f'{name}_count{{worker="1"}}'] == 100
    assert found[f'{name}_sum{{worker="0"}}'] == 1.5
    assert found['mie_forge_trades_total{worker="0",verdict="wick"}'] == 7
    assert found['mie_forge_trades_total{worker="1",verdict="wick"}'] == 0
    assert found['mie_forge_readmitted_total{worker="0"}'] == 1


def test_a_replay_has_verdicts_and_no_latency():
    replayed = {name: value for name, value in FORGE.items() if not name.startswith("le_") and name != "sum_ns"}
    found, families = samples(metrics.exposition({}, {}, [replayed]))
    assert 'mie_forge_trades_total{worker="0",verdict="confirmed"}' in found
    assert "mie_forge_added_latency_seconds" not in families


@pytest.mark.parametrize("fields", [{}, {"workers": "x"}])
def test_nothing_is_nothing(fields):
    assert metrics.exposition({}, {}, [fields]) == ""


def test_verdicts_are_the_forges():
    assert set(metrics._VERDICTS) == set(VERDICTS)


def test_the_route_answers_what_the_stores_hold(api: Api) -> None:
    reply = api.client.get("/metrics")
    assert reply.status_code == 200
    assert reply.headers["content-type"] == metrics.CONTENT_TYPE
    found, _ = samples(reply.text)
    assert found['mie_venue_messages_total{venue="okx"}'] == 12
    assert found['mie_forge_added_latency_seconds_count{worker="0"}'] == 100
    assert found['mie_forge_added_latency_seconds_count{worker="1"}'] == 40
    assert found["mie_writer_candles_total"] == 601
