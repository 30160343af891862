# Every target is one plain command after `setup`; README lists them. ARGS passes through: make run ARGS="-w 2"
.PHONY: setup run test lint types check bench fuzz soak forge-eval api fmt lock
PY := .venv/bin/python
ARGS ?=

setup:
	@sh requirements/setup.sh

run: setup
	@$(PY) -m flows.run $(ARGS)

api: setup
	@$(PY) -m api $(ARGS)

test: setup
	@$(PY) -m pytest $(ARGS)

fuzz: setup
	@$(PY) -m bench.fuzz $(ARGS)

soak: setup
	@$(PY) -m bench.soak $(ARGS)

bench: setup
	@$(PY) -m bench $(ARGS)

forge-eval: setup
	@$(PY) -m bench.forge_eval $(ARGS)

lint: setup
	@$(PY) -m ruff check .
	@$(PY) -m ruff format --check .

types: setup
	@$(PY) -m mypy

fmt: setup
	@$(PY) -m ruff check --fix-only .
	@$(PY) -m ruff format .

check: lint types test

lock:
	@sh requirements/lock.sh
