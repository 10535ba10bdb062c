# Every target does its own set-up: a fresh machine needs Python 3.11 or later and a C++ compiler.

PYTHON ?= python3

VENV       := .venv
WHEEL_VENV := .venv-wheel
PEERS_VENV := .venv-trainers
BIN        := $(VENV)/bin
WHEEL_BIN  := $(WHEEL_VENV)/bin
STAMP      := $(VENV)/.installed
INSTALL    := -m pip install --quiet --disable-pip-version-check -c constraints.txt
PEERS      := tests/trainers/constraints.txt

.DEFAULT_GOAL := help
.PHONY: help demo test trainers-test lint wheel-test bench bench-check clean

help: ## list the targets
	@awk -F ':.*## ' '/^[a-z-]+:.*## / {printf "make %-13s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

demo: $(STAMP) ## run examples/demo.py
	@$(BIN)/python examples/demo.py

test: $(STAMP) ## run all tests against the checkout
	@$(BIN)/python -m pytest -n auto --dist worksteal

trainers-test: $(PEERS_VENV)/.installed ## compare the losses with those of verl and TRL, as installed
	@echo "== testing parity with trainers"
	@$(PEERS_VENV)/bin/python -m pytest -m trainers tests/trainers

lint: $(STAMP) ## ruff check, ruff format --check, mypy
	@echo "== ruff check"
	@$(BIN)/ruff check
	@echo "== ruff format --check"
	@$(BIN)/ruff format --check
	@echo "== mypy"
	@$(BIN)/mypy

# What users call, and every shipped spec; `make test` has the rest.
IN_THE_WHEEL := tests/api tests/cli tests/emit tests/hooks tests/meaning tests/published

wheel-test: $(STAMP) ## build wheel and sdist, run the tests of what users call on the wheel
	@echo "== building sdist and wheel"
	@rm -rf dist $(WHEEL_VENV)
	@$(BIN)/python -m build --outdir dist . >/dev/null
	@$(BIN)/python -c "$$CHECK_WHEEL" dist/*.whl
	@echo "== installing the wheel into a clean $(WHEEL_VENV)"
	@$(PYTHON) -m venv $(WHEEL_VENV)
	@$(WHEEL_BIN)/python $(INSTALL) dist/*.whl pytest pytest-xdist hypothesis scipy jsonschema pre-commit
	@$(IN_WHEEL) $(WHEEL_BIN)/python -P -c "$$CHECK_INSTALLED"
	@echo "== testing the installed wheel"
	@$(IN_WHEEL) $(WHEEL_BIN)/python -P -m pytest -o pythonpath= -n auto $(IN_THE_WHEEL)

bench: $(STAMP) ## measure the losses against the limit of the machine (BENCH=--quick for a look)
	@$(BIN)/python -m benchmarks.fused $(BENCH)

bench-check: $(STAMP) ## measure how long `fib check` takes
	@$(BIN)/python benchmarks/check_speed.py

clean: ## remove build outputs and caches (keeps .venv)
	@rm -rf build dist $(WHEEL_VENV) $(PEERS_VENV) .pytest_cache .mypy_cache .ruff_cache .hypothesis
	@find . \( -name '.venv*' -o -name .git \) -prune -o -name __pycache__ -type d -prune -exec rm -rf {} +

$(STAMP): pyproject.toml constraints.txt
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' \
	  || { echo "fibdsl needs Python 3.11 or later: make PYTHON=/path/to/python3.11"; exit 1; }
	@echo "== setting up $(VENV) (the first time takes minutes: torch is large)"
	@test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	@$(BIN)/python $(INSTALL) -e '.[dev]'
	@touch $@

# verl's dependencies are for training on GPUs; the extra `trainers` has those of its losses.
$(PEERS_VENV)/.installed: pyproject.toml constraints.txt $(PEERS)
	@echo "== installing the trainers into $(PEERS_VENV)"
	@test -x $(PEERS_VENV)/bin/python || $(PYTHON) -m venv $(PEERS_VENV)
	@$(PEERS_VENV)/bin/python $(INSTALL) -c $(PEERS) -e '.[trainers]'
	@$(PEERS_VENV)/bin/python $(INSTALL) -c $(PEERS) --no-deps verl
	@touch $@

# The wheel run must not see the checkout, not even from a process that a test starts.
IN_WHEEL := env -u PYTHONPATH PYTHONSAFEPATH=1

define CHECK_WHEEL
import sys, zipfile
[wheel] = sys.argv[1:]
names = zipfile.ZipFile(wheel).namelist()
top = {name.split("/")[0] for name in names}
extra = {t for t in top if t not in ("fibdsl", "fibc") and not t.endswith(".dist-info")}
lost = {p for p in ("fibdsl/__init__.py", "fibdsl/grammar/", "fibdsl/specs/", "fibc/")
        if not any(name.startswith(p) for name in names)}
if extra or lost:
    sys.exit(f"{wheel}: must not contain {sorted(extra)}, lacks {sorted(lost)}")
print(f"{wheel}: {len(names)} files in {sorted(top)}")
endef
export CHECK_WHEEL

define CHECK_INSTALLED
import sys, fibc, fibdsl
for package in (fibdsl, fibc):
    [folder] = package.__path__
    if not folder.startswith(sys.prefix):
        sys.exit(f"{package.__name__} comes from {folder}, not from the wheel")
endef
export CHECK_INSTALLED
