# Every target sets itself up in .venv from nothing; a second run finds it done.
PYTHON ?= python3
BIN := .venv/bin
STAMP := .venv/.installed-
# One family, `make test FAMILY=boxes`: its examples, its tests and the laws on its rows.
FAMILY ?=
TESTS := $(if $(FAMILY),jaxloss/_$(FAMILY) tests/$(FAMILY) tests/laws --family $(FAMILY))

.PHONY: demo test truths lint docs docs-check parity bench bench-memory bench-scale accelerators meshes clean

demo: $(STAMP)examples
	$(BIN)/python examples/robust_regression.py

test: $(STAMP)test
	$(BIN)/python -m pytest -n 2 $(TESTS)

# Asks the oracles of tests/*/oracles.py anew, where they or the rows have changed.
truths: $(STAMP)test
	$(BIN)/python -m tests.laws.truths

lint: $(STAMP)dev
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/basedpyright
	$(BIN)/pyright --pythonpath $(BIN)/python tests/typing
	$(BIN)/mypy

# The site, in out/site. STRICT= builds it with what is there, and says what is missing.
STRICT ?= --fail-on-warning --keep-going
docs: $(STAMP)docs
	rm -rf out/site
	$(BIN)/python -m sphinx -j 2 $(STRICT) -d .cache/site/doctrees docs out/site

# The gate: looks at all pages, in a browser too.
docs-check: $(STAMP)docs
	JAXLOSS_SITE=out/site $(BIN)/python -m pytest -n 0 -rs tests/site

parity: $(STAMP)parity
	$(BIN)/python -m pytest -n 2 $(wildcard tests/*/test_*parity.py) tests/laws/test_peers.py

bench: $(STAMP)bench
	$(BIN)/python benchmarks/run.py

# Temporary bytes of losses of pairs and of lattices: a part of the same file.
bench-memory: $(STAMP)bench
	$(BIN)/python benchmarks/memory.py

# Losses that do not fit in memory, and losses on a mesh: a part of the same file.
bench-scale: $(STAMP)bench $(STAMP)compilers
	$(BIN)/python benchmarks/scale.py $(SHORT)

# SHORT=--short: one row of each family, which has to keep its limits.
SHORT ?=
accelerators: $(STAMP)compilers
	$(BIN)/python benchmarks/accelerators.py $(SHORT)

# Collectives of losses whose classes are sharded over 8 GPUs and 16 TPUs.
meshes: $(STAMP)compilers
	$(BIN)/python benchmarks/meshes.py

# In a folder of their own: where it sees them, JAX looks for the devices in every process.
$(STAMP)compilers: $(STAMP)parity
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --no-deps --upgrade \
	  --target .venv/compilers $$($(BIN)/python benchmarks/compilers.py)
	touch $@

$(BIN)/python:
	$(PYTHON) -m venv .venv

# One stamp for each extra, renewed when pyproject.toml changes.
$(STAMP)%: pyproject.toml | $(BIN)/python
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --editable '.[$*]'
	touch $@

clean:
	rm -rf .venv .cache
