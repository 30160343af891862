"""Simulators as processes on ephemeral ports. `tests/conftest.py` makes these fixtures known everywhere."""

import pytest

from tests.simulator.client import Running


@pytest.fixture(scope="session")
def quiet_simulator(tmp_path_factory):
    """All seven venues at a low rate, for tests that only look."""
    running = Running(tmp_path_factory.mktemp("quiet-simulator"), "--rate", "500", "--symbols", "12", "--seed", "3")
    yield running
    assert running.end() == 0


@pytest.fixture
def start_simulator(tmp_path):
    """Return a function that starts a simulator with options; all are ended after the test, cleanly."""
    started = []

    def start(*options):
        started.append(Running(tmp_path / f"simulator-{len(started)}", *options))
        return started[-1]

    yield start
    assert [running.end() for running in started] == [0] * len(started)
