# Every target sets itself up in .venv from nothing; a second run finds it done.
PYTHON ?= python3
BIN := .venv/bin
STAMP := .venv/.installed-

.PHONY: demo test lint parity bench clean

demo: $(STAMP)examples
	$(BIN)/python examples/robust_regression.py

test: $(STAMP)test
	$(BIN)/python -m pytest -n 2

lint: $(STAMP)dev
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/basedpyright

parity: $(STAMP)parity
	$(BIN)/python -m pytest -n 2 tests/test_parity*.py

bench: $(STAMP)bench
	$(BIN)/python benchmarks/run.py

$(BIN)/python:
	$(PYTHON) -m venv .venv

# One stamp for each extra, renewed when pyproject.toml changes.
$(STAMP)%: pyproject.toml | $(BIN)/python
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --editable '.[$*]'
	touch $@

clean:
	rm -rf .venv
