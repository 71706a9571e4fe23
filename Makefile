# Everything runs in .venv, which the first target that needs it sets up. Needs Python 3.10 or newer.

PYTHON ?= python3
BIN := .venv/bin
INSTALLED := .venv/.installed
UV_COMPILE := $(BIN)/uv pip compile --quiet --no-python-downloads --universal --python-version 3.10 --generate-hashes \
	--no-emit-index-url --custom-compile-command "make constraints"

LOADERS := $(patsubst requirements/%.in,%,$(wildcard requirements/*.in))

# The tests start the tap hundreds of times: it need not be compiled each time, whatever the environment says.
export PYTHONDONTWRITEBYTECODE :=

.DEFAULT_GOAL := help
.PHONY: help demo test test-all lint generate docs build constraints bench clean

help:  ## this list
	@sed -n 's/^\([a-z-]*\):.*##/\1:/p' Makefile | awk -F ':' '{ printf "make %-12s%s\n", $$1, $$2 }'

demo: $(INSTALLED)  ## play a day of an invented fleet through Meltano; each further run is the next day
	@$(BIN)/python -m scripts.demo

test: $(INSTALLED)  ## the tests, but for the slow ones
	$(BIN)/pytest -m "not slow" -n auto

test-all: $(INSTALLED)  ## the slow tests, with real Meltano and whole environments
	$(BIN)/pytest -m slow -n auto --dist loadfile

lint: $(INSTALLED)  ## format, lint and types
	$(BIN)/ruff format --check
	$(BIN)/ruff check
	$(BIN)/mypy

generate: $(INSTALLED)  ## write the tables of docs/ and the settings in meltano.yml and plugin.yaml
	$(BIN)/python -m scripts.generate

docs: $(INSTALLED)  ## build the documentation site into build/docs; a warning is an error
	$(BIN)/python -m sphinx --fail-on-warning --keep-going --nitpicky --quiet -d build/doctrees docs build/docs
	@echo build/docs/index.html

build: $(INSTALLED)  ## build wheel and sdist into dist/
	$(BIN)/uv build --no-build-isolation --python $(BIN)/python --clear -o dist

constraints: $(INSTALLED)  ## write requirements/*.txt anew; UPGRADE=1 takes the newest versions
	$(UV_COMPILE) $(if $(UPGRADE),--upgrade) pyproject.toml --group dev --extra simulator --extra s3 -o requirements/dev.txt
	set -e; for loader in $(LOADERS); do \
		$(UV_COMPILE) $(if $(UPGRADE),--upgrade) requirements/$$loader.in -o requirements/$$loader.txt; done

bench: $(INSTALLED)  ## the tap beside a script and a plain stream of the SDK, in one table
	$(BIN)/python -m benchmarks

clean:  ## remove what all of these made, .venv and .demo included
	rm -rf .venv .demo .meltano .mypy_cache .pytest_cache .ruff_cache .hypothesis build dist
	find . -name __pycache__ -type d -prune -exec rm -rf {} +

# uv is pinned where everything else is: its lines of the constraints install it, and it installs the rest.
$(INSTALLED): requirements/dev.txt pyproject.toml
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 10) and "Python 3.10 or newer is needed: make PYTHON=python3.12")'
	$(PYTHON) -m venv .venv
	sed -n '/^uv==/,/[^\]$$/p' requirements/dev.txt > .venv/uv.txt
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --require-hashes -r .venv/uv.txt
	$(BIN)/uv pip install --quiet --compile-bytecode --python $(BIN)/python --require-hashes -r requirements/dev.txt
	$(BIN)/uv pip install --quiet --python $(BIN)/python --no-deps --build-constraints requirements/dev.txt -e .
	@touch $@
