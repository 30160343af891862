import ast
import json
import os
import subprocess
import sys
from pathlib import Path

from sinks import keeper
from sinks.paths import lock


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
    held, users = lock(tmp_path / "keeper.lock"), lock(tmp_path / "users.lock", shared=True)
    waiting = os.open(tmp_path / "users.lock", os.O_RDWR)
    command = [sys.executable, "-I", "-S", keeper.__file__, str(held), str(waiting), json.dumps(plan)]
    with subprocess.Popen(command, pass_fds=(held, waiting)) as process:
        os.close(held)
        os.close(waiting)
        assert lock(tmp_path / "keeper.lock", wait_s=0.1) is None
        assert addresses.exists()
        os.close(users)
        assert process.wait(20) == 0
    assert not addresses.exists()


def test_a_pid_is_noted_in_the_lock_file(tmp_path):
    users = lock(tmp_path / "users.lock", shared=True)
    assert keeper.noted_pid(users) is None
    keeper.note_pid(users, 123)
    (tmp_path / "users.lock").unlink()
    assert keeper.noted_pid(users) == 123
    os.close(users)
    assert not keeper.is_redis(os.getpid(), "/no/such.sock")
