"""The stage bench on the real simulator (a stand-in for live venues), for a second."""

from bench import stages


def test_every_stage_is_measured():
    found = stages.measure(2000, length_s=1.0)
    assert found.messages > 500
    costs = found.us()
    assert list(costs) == ["receive", "decode", "pipe", "sequence", "forge", "candles", "indicators", "sinks"]
    assert all(cost > 0 for cost in costs.values())
