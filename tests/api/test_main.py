"""The command: what it says, and how it ends."""

import signal
import subprocess
import sys
from pathlib import Path

import pytest

from tests.api.conftest import ROOT, Market, environment, running, taken_port


def run(**settings: object) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "api"],
        cwd=ROOT,
        env=environment(**settings),
        text=True,
        capture_output=True,
        timeout=30,
        check=False,
    )


def test_no_stores_is_one_line_and_exit_2(tmp_path: Path) -> None:
    done = run(data_dir=tmp_path)
    assert done.returncode == 2
    assert done.stdout == ""
    assert done.stderr == (
        f"no embedded stores are running in {tmp_path}: start the flow with make run, "
        "or set MIE_REDIS_URL and MIE_DATABASE_URL\n"
    )


@pytest.mark.parametrize(
    ("settings", "line"),
    [
        ({"api_port": "70000"}, "MIE_API_PORT='70000': allowed is a whole number from 0 to 65535\n"),
        ({"redis_url": "http://x"}, "MIE_REDIS_URL=(hidden): allowed is a URL that starts with redis:// or"),
        (
            {"redis_url": "redis://:pw@x:port", "database_url": "postgresql://x"},
            "MIE_REDIS_URL=(hidden): allowed is a URL",
        ),
        ({"redis_url": "redis://x", "database_url": "postgresql://u:%zz@x"}, "MIE_DATABASE_URL=(hidden): allowed is a"),
        ({"api_prot": "8000"}, "MIE_API_PROT is not a setting of MIE: did you mean MIE_API_PORT?\n"),
    ],
)
def test_a_bad_setting_is_one_line_and_exit_2(settings: dict[str, str], line: str) -> None:
    done = run(**settings)
    assert done.returncode == 2
    assert done.stderr.startswith(line)
    assert done.stderr.count("\n") == 1


def test_a_taken_port_is_one_line_and_exit_1(market: Market) -> None:
    with taken_port() as taken:
        port = taken.getsockname()[1]
        done = run(redis_url=market.redis_url, database_url=market.database_url, api_port=port)
    assert done.returncode == 1
    assert done.stderr == f"cannot serve on MIE_API_HOST=127.0.0.1 MIE_API_PORT={port}: Address already in use\n"


def test_an_unusable_host_is_one_line_and_exit_1(market: Market) -> None:
    done = run(redis_url=market.redis_url, database_url=market.database_url, api_host="no.such.host.invalid")
    assert done.returncode == 1
    assert done.stderr.startswith("cannot serve on MIE_API_HOST=no.such.host.invalid")
    assert done.stderr.count("\n") == 1


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_ends_it_cleanly(market: Market, number: signal.Signals) -> None:
    with running(redis_url=market.redis_url, database_url=market.database_url) as api:
        api.get("/readyz")
        api.process.send_signal(number)
        assert api.process.wait(10) == 0


def test_it_needs_no_ingestion_code() -> None:
    script = (
        "import sys, api.__main__;"
        "ours = {'connectors', 'operators', 'flows', 'simulator', 'bytewax', 'sinks', 'market'};"
        "print(*sorted(m for m in sys.modules if m.split('.')[0] in ours))"
    )
    done = subprocess.run([sys.executable, "-c", script], cwd=ROOT, text=True, capture_output=True, check=True)
    assert set(done.stdout.split()) <= {
        "market", "market.schema", "market.settings", "market.symbols", "market.venues", "market.words",
        "sinks", "sinks.keys", "sinks.tables",
    }  # fmt: skip
