"""The worked example of CONTRIBUTING does what it says: in a copy of the project it adds an eighth venue."""

import importlib.util
import inspect
import re
import shutil
import subprocess
import sys
from pathlib import Path
from types import ModuleType

import pytest

from connectors.venue import Venue
from market import venues
from tests.connectors.venues import wire

ROOT = Path(__file__).parents[2]
EXAMPLE = ROOT / "docs" / "examples" / "coinbase"
TEXT = (ROOT / "CONTRIBUTING.md").read_text()
PARTS = ("market", "connectors", "bench", "tests/connectors/venues", "tests/captures", "pyproject.toml")
"""What the venues' tests need."""


def patched(text, diff):
    """Return a text with the hunks of a unified diff applied; each must fit in exactly one place."""
    for hunk in re.split(r"^@@ .*\n", diff, flags=re.MULTILINE)[1:]:
        lines = hunk.splitlines(keepends=True)
        before = "".join(line[1:] for line in lines if line[0] in " -")
        after = "".join(line[1:] for line in lines if line[0] in " +")
        assert text.count(before) == 1
        text = text.replace(before, after)
    return text


def diffs():
    """Return path -> diff of the one diff in CONTRIBUTING."""
    (block,) = re.findall(r"^```diff\n(.*?)^```", TEXT, flags=re.MULTILINE | re.DOTALL)
    return dict(re.findall(r"^--- a/.*\n\+\+\+ b/(.*)\n((?:[@ +-].*\n)+?)(?=--- a/|\Z)", block, flags=re.MULTILINE))


@pytest.fixture(scope="module")
def copy(tmp_path_factory):
    """A copy of the project with the example added as CONTRIBUTING says."""
    root = tmp_path_factory.mktemp("mie")
    for part in PARTS:
        if (ROOT / part).is_dir():
            shutil.copytree(ROOT / part, root / part, ignore=shutil.ignore_patterns("__pycache__"))
        else:
            shutil.copy(ROOT / part, root / part)
    (example := root / EXAMPLE.relative_to(ROOT)).parent.mkdir(parents=True)
    shutil.copytree(EXAMPLE, example, ignore=shutil.ignore_patterns("__pycache__"))
    commands = re.findall(r"^cp (?:-r )?docs/examples/.*$", TEXT, flags=re.MULTILINE)
    assert len(commands) == 3
    for command in commands:
        subprocess.run(command.split(), cwd=root, check=True, timeout=30)
    for path, diff in diffs().items():
        (root / path).write_text(patched((root / path).read_text(), diff))
    return root


def run(copy, *command):
    done = subprocess.run(
        [sys.executable, "-m", *command], cwd=copy, capture_output=True, text=True, timeout=110, check=False
    )
    assert done.returncode == 0, done.stdout[-3000:] + done.stderr[-3000:]
    return done.stdout


def test_the_diff_is_a_line_for_the_module_and_one_for_the_code():
    assert {path: diff.count("\n+") for path, diff in diffs().items()} == {
        "connectors/venues/__init__.py": 2,  # its import and its place in the table
        "market/venues.py": 1,
    }


def test_the_example_passes_what_is_asked_of_every_venue(copy):
    command = ("pytest", "-vv", "-p", "no:cacheprovider", "tests/connectors/venues", "-k", "coinbase or code_order")
    out = run(copy, *command)
    assert "test_venues.py::test_any_split_of_a_batch_gives_the_same[coinbase] PASSED" in out
    assert "test_coinbase.py::test_the_side_is_the_takers[sell-buy] PASSED" in out
    assert int(re.search(r"(\d+) passed", out)[1]) > 30


def test_the_types_fit_the_contract(copy):
    run(copy, "mypy", "--cache-dir", str(copy / ".mypy_cache"), "connectors/venues/__init__.py")


def test_broken_frames_do_no_harm(copy):
    out = run(copy, "bench.fuzz", "--venues", "coinbase", "--frames", "3000")
    assert "3,000" in out


def load():
    spec = importlib.util.spec_from_file_location("coinbase_example", EXAMPLE / "coinbase.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_the_example_is_not_part_of_the_product():
    assert "coinbase" not in venues.VENUES
    assert not (ROOT / "connectors" / "venues" / "coinbase.py").exists()


def test_the_module_has_the_contracts_functions():
    module = load()
    assert isinstance(module, ModuleType)
    for name in Venue.__annotations__:
        assert type(getattr(module, name)).__name__ in Venue.__annotations__[name]
    for name, function in inspect.getmembers(Venue, inspect.isfunction):
        if not name.startswith("_"):
            wanted = inspect.signature(function)
            ours = inspect.signature(getattr(module, name))
            assert list(ours.parameters) == [each for each in wanted.parameters if each != "self"]
            assert ours.return_annotation == wanted.return_annotation


def test_its_capture_means_what_was_reviewed(monkeypatch):
    module = load()
    monkeypatch.setitem(venues.VENUE_CODES, "coinbase", len(venues.VENUES))
    monkeypatch.setattr(wire, "CAPTURES", EXAMPLE)
    captures = wire.captures("captures", "ticks")
    assert [capture.name for capture in captures] == ["matches", "ticker"]
    for capture in captures:
        decoded, catalog = wire.decode(module, capture.frames)
        assert wire.rows_of(decoded, catalog.names) == [wire.meaning_of(row) for row in capture.expected]
        assert (decoded.rejects, decoded.control) == ([], [])
