import pytest

from tests.simulator.client import Running


@pytest.fixture(scope="package")
def faulty_simulator(tmp_path_factory):
    """All venues, for tests that order faults; each test has its venues to itself while it runs."""
    options = ("--rate", "3000", "--symbols", "12", "--seed", "5", "--wicks-per-minute", "0", "--ledger")
    running = Running(tmp_path_factory.mktemp("faulty-simulator"), *options)
    yield running
    assert running.end() == 0


@pytest.fixture
def faulty(faulty_simulator):
    """The simulator of these tests, without faults before and after."""
    yield faulty_simulator
    faulty_simulator.order("binance", "clear", venue="all")
