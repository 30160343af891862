import ast
import json
import subprocess
import sys
from pathlib import Path

from sinks import keeper


def test_it_needs_the_standard_library_only():
    tree = ast.parse(Path(keeper.__file__).read_text())
    names = {alias.name for node in ast.walk(tree) if isinstance(node, ast.Import) for alias in node.names}
    names |= {node.module for node in ast.walk(tree) if isinstance(node, ast.ImportFrom)}
    assert names <= sys.stdlib_module_names


def test_with_nothing_to_stop_it_ends_and_takes_the_addresses_back(tmp_path):
    addresses = tmp_path / "stores.json"
    addresses.write_text("{}")
    plan = {
        "redis_socket": str(tmp_path / "none.sock"),
        "pg_ctl": "/no/pg_ctl",
        "pg_directory": str(tmp_path),
        "pg_user": None,
        "addresses": str(addresses),
    }
    command = [sys.executable, "-I", "-S", keeper.__file__, tmp_path / "keeper.lock", tmp_path / "users.lock"]
    for _ in range(2):
        assert subprocess.run([*command, json.dumps(plan)], timeout=20, check=False).returncode == 0
    assert not addresses.exists()
