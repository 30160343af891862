"""The documents name what there is: every setting, every direct dependency, every make target."""

import re
import tomllib
from pathlib import Path

import pytest

from market.settings import PREFIX, Settings
from sinks import tables

ROOT = Path(__file__).parents[1]
SETTINGS = {f"{PREFIX}{name.upper()}" for name in Settings.model_fields}
NOT_SETTINGS = {"MIE_FROGE_WINDOW_MS", "MIE_TEST_TIMESCALE_URL"}
DOCUMENTS = sorted([*ROOT.glob("*.md"), *(ROOT / "docs").glob("*.md")])


def text_of(name):
    return (ROOT / name).read_text()


@pytest.mark.parametrize("name", ["README.md", "docs/settings.md"])
def test_every_setting_is_documented(name):
    assert SETTINGS - set(re.findall(rf"{PREFIX}[A-Z_]+", text_of(name))) == set()


@pytest.mark.parametrize("path", DOCUMENTS, ids=lambda path: path.name)
def test_no_setting_is_made_up(path):
    # A trailing underscore is the prefix of a family, `MIE_API_*`.
    named = {name for name in re.findall(rf"{PREFIX}[A-Z_]+", path.read_text()) if not name.endswith("_")}
    assert named - SETTINGS - NOT_SETTINGS == set()


@pytest.mark.parametrize("path", DOCUMENTS, ids=lambda path: path.name)
def test_links_lead_somewhere(path):
    targets = re.findall(r"\]\((?!https?://|#)([^)#]+)", path.read_text())
    assert [target for target in targets if not (path.parent / target).exists()] == []


def as_written(value):
    """Return a default as one writes it in the environment."""
    if isinstance(value, bool):
        return str(int(value))
    return ",".join(value) if isinstance(value, tuple) else str(value)


def test_defaults_are_as_documented():
    cells = dict(re.findall(r"^\| `(MIE_\w+)` \| `([^`]*)` \|", text_of("docs/settings.md"), re.MULTILINE))
    defaults = {f"{PREFIX}{name.upper()}": field.default for name, field in Settings.model_fields.items()}
    written = {name: as_written(value) for name, value in defaults.items()}
    assert {name: value for name, value in cells.items() if name != "MIE_SYMBOLS"}.items() <= written.items()
    assert cells["MIE_SYMBOLS"] == "top:50"


def test_every_dependency_has_its_reason():
    project = tomllib.loads(text_of("pyproject.toml"))["project"]
    names = [*project["dependencies"], *project["optional-dependencies"]["dev"]]
    rows = re.findall(r"^\| ([a-z][\w-]+)[^|]* \|", text_of("docs/dependencies.md"), re.MULTILINE)
    assert {re.match(r"[\w-]+", name)[0] for name in names} == set(rows) - {"package"}


def test_every_dependency_is_pinned_with_hashes():
    project = tomllib.loads(text_of("pyproject.toml"))["project"]
    for name, wanted in {
        "run": project["dependencies"],
        "dev": [*project["dependencies"], *project["optional-dependencies"]["dev"]],
    }.items():
        text = text_of(f"requirements/{name}.txt")
        pins = re.findall(r"^([a-z0-9-]+)==\S+ \\\n    --hash=sha256:", text, re.MULTILINE)
        assert len(pins) == len(re.findall(r"^[a-z0-9]", text, re.MULTILINE))
        assert {re.match(r"[\w-]+", entry)[0] for entry in wanted} <= set(pins)
        assert "://" not in text


def test_every_target_is_documented():
    targets = re.findall(r"^(\w+):", text_of("Makefile"), re.MULTILINE)
    assert [target for target in targets if f"`make {target}`" not in text_of("README.md")] == []


def test_every_table_is_named():
    named = [table for table in tables.metadata.tables if table != "spool_positions"]
    assert [table for table in named if f"`{table}`" not in text_of("README.md")] == []
