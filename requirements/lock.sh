#!/bin/sh
# Write requirements/{run,dev}.txt from pyproject.toml. Versions already in them stay while they fit;
# `sh requirements/lock.sh --upgrade` moves them. Runs pip-tools from a throw-away environment, on Python 3.11.
set -eu
cd "$(dirname "$0")/.."
scratch=$(mktemp -d)
trap 'rm -rf "$scratch"' EXIT
"${PYTHON:-python3.11}" -m venv "$scratch"
"$scratch/bin/python" -m pip install --quiet --disable-pip-version-check 'pip-tools>=7.6,<8'

export CUSTOM_COMPILE_COMMAND="make lock"
compile() {
    "$scratch/bin/python" -m piptools compile --quiet --generate-hashes --allow-unsafe --strip-extras \
        --no-emit-index-url --no-emit-trusted-host --no-emit-find-links "$@" pyproject.toml requirements/run.in
}
compile --output-file requirements/run.txt "$@"
compile --output-file requirements/dev.txt --extra dev "$@"
