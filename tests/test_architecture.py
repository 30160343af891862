"""Imports point one way, every source module has its test module, and files stay readable."""

import ast
from pathlib import Path

import pytest

from market import venues

ROOT = Path(__file__).parents[1]
PACKAGES = ("market", "connectors", "operators", "sinks", "api", "flows", "simulator", "bench")

# Which of our modules a package may import, itself apart. An entry allows the module and all below it.
ALLOWED = {
    "market": (),
    "connectors": ("market",),
    "operators": ("market",),
    "sinks": ("market",),
    "api": ("market", "sinks.keys", "sinks.tables"),
    "simulator": ("market",),
    "flows": ("market", "connectors", "operators", "sinks", "simulator"),
    "bench": PACKAGES,
}

# Kernels are plain objects: the only operators that know Bytewax are the thin steps over them.
BYTEWAX_STEPS = "operators.steps"

LINES = 450

# Modules whose test lives elsewhere, or that are tables without behaviour; each with its reason.
UNPAIRED = {
    "market.records": "dataclasses and dtypes without behaviour",
    "market.venues": "two tables",
    "connectors.venue": "a protocol; every venue's test runs against it",
    "sinks.tables": "table definitions; the migration's test compares them with the database",
}

PATHS = sorted(path for package in PACKAGES for path in (ROOT / package).rglob("*.py"))
VENUES = sorted((ROOT / "connectors" / "venues").glob("[!_]*.py"))


def module_of(path):
    """Return the dotted name of a file: `connectors/venues/__init__.py` -> `connectors.venues`."""
    parts = path.relative_to(ROOT).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


MODULES = {module_of(path): path for path in PATHS}


def imports_of(path):
    """Return the dotted names that a file imports, at any depth: `from a import b` is `a.b`."""
    package = module_of(path).split(".") if path.name == "__init__.py" else module_of(path).split(".")[:-1]
    names = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            above = package[: len(package) - node.level + 1] if node.level else []
            base = ".".join([*above, *([node.module] if node.module else [])])
            names |= {f"{base}.{alias.name}" for alias in node.names}
    return names


def within(name, module):
    return name == module or name.startswith(f"{module}.")


def test_every_package_was_found():
    assert {name.split(".")[0] for name in MODULES} == set(PACKAGES)
    assert {path.stem for path in VENUES} == set(venues.VENUES)


def test_imports_are_read_in_every_form(tmp_path, monkeypatch):
    monkeypatch.setitem(globals(), "ROOT", tmp_path)
    source = tmp_path / "sinks" / "odd.py"
    source.parent.mkdir()
    source.write_text("import api.app\nfrom . import keys\ndef f():\n    from connectors.venues import okx\n")
    assert imports_of(source) == {"api.app", "sinks.keys", "connectors.venues.okx"}


@pytest.mark.parametrize("module", MODULES)
def test_imports_point_one_way(module):
    package = module.split(".")[0]
    ours = {name for name in imports_of(MODULES[module]) if name.split(".")[0] in PACKAGES}
    foreign = {name for name in ours if not within(name, package)}
    allowed = ALLOWED[package]
    assert {name for name in foreign if not any(within(name, entry) for entry in allowed)} == set()


@pytest.mark.parametrize("module", [name for name in MODULES if within(name, "operators") and name != BYTEWAX_STEPS])
def test_kernels_know_no_bytewax(module):
    assert {name for name in imports_of(MODULES[module]) if within(name, "bytewax")} == set()


@pytest.mark.parametrize("path", VENUES, ids=lambda path: path.stem)
def test_no_venue_imports_another(path):
    others = {module_of(other) for other in VENUES} - {module_of(path)}
    assert {name for name in imports_of(path) if any(within(name, other) for other in others)} == set()


@pytest.mark.parametrize(
    "module",
    [
        name
        for name, path in MODULES.items()
        if path.stem not in ("__init__", "__main__") and "migrations" not in path.parts and name not in UNPAIRED
    ],
)
def test_every_module_has_its_test(module):
    *folders, name = module.split(".")
    assert ROOT.joinpath("tests", *folders, f"test_{name}.py").is_file()


def test_exceptions_are_still_needed():
    for module in UNPAIRED:
        *folders, name = module.split(".")
        assert module in MODULES
        assert not ROOT.joinpath("tests", *folders, f"test_{name}.py").exists()


@pytest.mark.parametrize("module", MODULES)
def test_a_file_can_be_read_in_one_go(module):
    assert len(MODULES[module].read_text().splitlines()) <= LINES
