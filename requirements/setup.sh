#!/bin/sh
# Make .venv hold exactly requirements/dev.txt. Does nothing when it already does.
# The stamp is a copy of the file that was installed last: contents decide, not times.
set -eu
cd "$(dirname "$0")/.."
wanted=requirements/dev.txt
stamp=.venv/installed.txt
fits='import sys; sys.exit(not (3, 11) <= sys.version_info[:2] <= (3, 12))'

if cmp -s "$wanted" "$stamp" && .venv/bin/python -c "$fits" 2>/dev/null; then
    exit 0
fi

base=
for candidate in ${PYTHON:-} python3.12 python3.11 python3; do
    # A name on the PATH may be a shim for a version that is not there: run it.
    if "$candidate" -c "$fits" >/dev/null 2>&1; then
        base=$candidate
        break
    fi
done
if [ -z "$base" ]; then
    echo "setup: Python 3.11 or 3.12 is needed; none of ${PYTHON:+$PYTHON, }python3.12, python3.11, python3 is one" >&2
    exit 1
fi

echo "setup: .venv with $("$base" -V), then $(grep -c '==' "$wanted") pinned packages" >&2
rm -f "$stamp"
# Some systems split ensurepip off; their own pip can still fill the environment.
if "$base" -c 'import ensurepip' 2>/dev/null; then
    "$base" -m venv --clear .venv
    set -- .venv/bin/python -m pip
else
    "$base" -m venv --clear --without-pip .venv
    set -- "$base" -m pip --python .venv/bin/python
fi
"$@" install --quiet --disable-pip-version-check --no-input --require-hashes -r "$wanted"
cp "$wanted" "$stamp"
