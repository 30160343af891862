import pytest

from tests.simulator.client import Running


@pytest.fixture(scope="session")
def simulator(tmp_path_factory):
    """One simulator for all tests that only look: 14 symbols, a busy market, many wicks, a ledger."""
    options = ("--rate", "3000", "--symbols", "14", "--seed", "7", "--wicks-per-minute", "900", "--ledger")
    running = Running(tmp_path_factory.mktemp("simulator"), *options)
    yield running
    assert running.end() == 0


@pytest.fixture
def start_simulator(tmp_path):
    """Return a function that starts a simulator with options; all are ended after the test, cleanly."""
    started = []

    def start(*options):
        started.append(Running(tmp_path / str(len(started)), *options))
        return started[-1]

    yield start
    assert [running.end() for running in started] == [0] * len(started)
