# make demo   environment + the main job on the built-in simulated stream, into runs/demo
# make test   environment + lint + all tests
# make core   environment + the tests of the core, a few minutes
# make docs   environment + docs/reference, made from the code
# make env    the environment alone, in .venv (quick the second time)
# make clean  the environments, the caches and runs/demo go; other runs stay
#
# PYTHON=python3.13 picks another Python for any of these; its environment is .venv-3.13.

PYTHON ?= python3
ENV ?= $(if $(filter python3,$(PYTHON)),.venv,.venv-$(shell $(PYTHON) -c 'import sys; print("%d.%d" % sys.version_info[:2])'))
BIN := $(ENV)/bin
STAMP := $(ENV)/.installed
DEMO := --config=configs/demo.py --workdir=runs/demo
CORE := house keep unroll nearest tables influence memory codebook training stage strict models metrics front_door
PYTEST := $(BIN)/python -m pytest --numprocesses=2 --dist=loadfile

.PHONY: env demo test core docs clean

env: $(STAMP)

$(STAMP): pyproject.toml
	$(PYTHON) -m venv $(ENV)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --editable '.[test]'
	@touch $@

demo: env
	$(BIN)/python scripts/distill.py $(DEMO)
	$(BIN)/python scripts/evaluate.py $(DEMO)

test: env
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(PYTEST) -x

core: env
	@$(BIN)/python -c 'import sys, jax; print("core tests: Python", sys.version.split()[0], "JAX", jax.__version__)'
	$(PYTEST) -x $(CORE:%=tests/test_%.py)

docs: env
	$(BIN)/python scripts/reference.py

clean:
	rm -rf .venv .venv-3.* .pytest_cache .ruff_cache build *.egg-info runs/demo
	find . -name __pycache__ -type d -prune -exec rm -rf {} +
