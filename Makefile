# make env    the environment in .venv (quick the second time)
# make demo   environment + the main job on the built-in simulated stream, into runs/demo
# make test   environment + lint + tests
# make clean  the environment, the caches and runs/demo go; other runs stay

PYTHON ?= python3
BIN := .venv/bin
STAMP := .venv/.installed
DEMO := --config=configs/demo.py --workdir=runs/demo

.PHONY: env demo test clean

env: $(STAMP)

$(STAMP): pyproject.toml
	$(PYTHON) -m venv .venv
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --editable '.[test]'
	@touch $@

demo: env
	$(BIN)/python scripts/distill.py $(DEMO)
	$(BIN)/python scripts/evaluate.py $(DEMO)

test: env
	$(BIN)/ruff check .
	$(BIN)/python -m pytest -x --numprocesses=2 --dist=loadfile

clean:
	rm -rf .venv .pytest_cache .ruff_cache build *.egg-info runs/demo
	find . -name __pycache__ -type d -prune -exec rm -rf {} +
