"""What tests of the launcher and of whole flows share: a connection to the store, settings, a data directory."""

import pytest

from flows.watch import connect
from market.settings import Settings
from tests.flows.whole import new_data_dir


@pytest.fixture
def hot(redis_url):
    """A connection to the empty store."""
    with connect(redis_url) as connection:
        yield connection


@pytest.fixture
def settings_of(monkeypatch, tmp_path):
    """Set MIE's settings in the environment, and only these; return them read."""

    def read(**values):
        for name in Settings.model_fields:
            monkeypatch.delenv(f"MIE_{name.upper()}", raising=False)
        for name, value in {"data_dir": tmp_path, **values}.items():
            monkeypatch.setenv(f"MIE_{name.upper()}", str(value))
        return Settings.from_env()

    return read


@pytest.fixture
def data_dir():
    """A data directory of a run."""
    with new_data_dir() as path:
        yield path
