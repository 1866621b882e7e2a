# Everything here works from a clean checkout with Python 3.11+, Node 20+, git and make.
# `make help` lists the targets.

PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
PYTEST_ARGS ?=

export DO_NOT_TRACK = 1
export PIP_DISABLE_PIP_VERSION_CHECK = 1

.DEFAULT_GOAL := help

.PHONY: help
help: ## List the targets
	@awk 'BEGIN {FS = ":.*## "} /^[a-z-]+:.*## / {printf "  make %-11s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

.PHONY: setup
setup: $(VENV)/.ready node_modules/.ready ## Make .venv and node_modules from the locks

$(VENV)/.ready: requirements/dev.txt pyproject.toml
	@command -v $(PYTHON) >/dev/null || { echo "error: $(PYTHON) is missing: install Python 3.11 or newer" >&2; exit 1; }
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' \
		|| { echo "error: $(PYTHON) is too old: Python 3.11 or newer, or make PYTHON=python3.12" >&2; exit 1; }
	$(PYTHON) -m venv $(VENV)
	$(BIN)/pip install --quiet --require-hashes --requirement requirements/dev.txt
	$(BIN)/pip install --quiet --no-deps --no-build-isolation --editable .
	@touch $@

# Not `npm ci`: the lock holds the hashes of what the supported platforms install, and `npm ci` wants those
# of every platform of the optional packages. `--no-save` leaves the lock as it is.
node_modules/.ready: package.json package-lock.json
	@command -v node >/dev/null || { echo "error: node is missing: install Node 20 or newer" >&2; exit 1; }
	@node -e 'process.exit(process.versions.node.split(".")[0] < 20 ? 1 : 0)' \
		|| { echo "error: node $$(node --version) is too old: install Node 20 or newer" >&2; exit 1; }
	npm install --no-save --no-audit --no-fund --loglevel=error
	@touch $@

.PHONY: demo
demo: setup ## Run the main job on an ephemeral local stack; KEEP=1 stays up for playing
	$(BIN)/python examples/demo.py $(if $(KEEP),--keep)

.PHONY: dashboard
dashboard: setup ## Open the web dashboard; ARGS="--port 0 --ephemeral"
	$(BIN)/python examples/dashboard --open $(ARGS)

.PHONY: test
test: setup ## Run every test layer on the real local stack
	$(BIN)/pytest $(PYTEST_ARGS)

.PHONY: soak
soak: setup ## Play SEEDS simulated histories per view (default 100000)
	$(BIN)/pytest tests/simulation -k convergence --timeout 0 --seeds $(or $(SEEDS),100000)

.PHONY: soak-kill
soak-kill: setup ## Kill parts of a local stack at random, KILLS times (default 50)
	$(BIN)/pytest tests/contract/test_local_stack_kills.py --kills $(or $(KILLS),50) --timeout 0 -s

.PHONY: bench
bench: setup ## Measure, as ratios within one run; not part of `make test`
	$(BIN)/pytest benchmarks -s -p no:randomly

.PHONY: check
check: setup ## Lint, format and types
	$(BIN)/ruff format --check
	$(BIN)/ruff check
	$(BIN)/mypy
	npx --no-install pyright
	cd / && PYTHONPATH="$(CURDIR)/src" "$(CURDIR)/node_modules/.bin/pyright" \
		--pythonpath "$(CURDIR)/$(BIN)/python" --verifytypes jamestronic_sdk --ignoreexternal

.PHONY: format
format: setup ## Format and mend what the linter can
	$(BIN)/ruff check --fix-only --quiet
	$(BIN)/ruff format

.PHONY: dist
dist: setup ## Build the wheel and the source archive into dist/
	rm -rf dist
	$(BIN)/hatchling build

.PHONY: docs
docs: setup ## Build the documentation into build/docs; a warning is an error
	$(BIN)/sphinx-build --quiet --fail-on-warning --keep-going --builder html docs build/docs

.PHONY: tutorial
tutorial: dist ## Follow the tutorial literally, in an empty folder and environment
	$(BIN)/python scripts/follow_tutorial.py

.PHONY: wheel-test
wheel-test: dist ## Run the README's quick start with the wheel, in an empty environment
	$(BIN)/python scripts/try_wheel.py

# Not the test that writes the blocking face: ruff does that, and only the locked one does it alike.
.PHONY: oldest
oldest: setup ## Run the unit tests with the oldest dependencies that pyproject.toml allows
	$(BIN)/pip install --quiet uv
	mkdir -p build
	$(BIN)/uv pip compile pyproject.toml --quiet --all-extras --group tests --resolution lowest-direct \
		--python-version 3.11 --no-header --no-annotate --no-emit-index-url --output-file build/oldest.txt
	$(BIN)/uv venv --quiet --clear --python $(BIN)/python build/oldest
	$(BIN)/uv pip install --quiet --python build/oldest/bin/python --requirement build/oldest.txt
	PYTHONPATH=src build/oldest/bin/python -m pytest tests/unit $(PYTEST_ARGS) \
		--deselect tests/unit/test_blocking_signatures.py::test_the_written_part_is_up_to_date

.PHONY: lock
lock: setup ## Renew both locks; they record no registry's address
	$(BIN)/pip install --quiet uv
	$(BIN)/uv pip compile pyproject.toml --quiet --all-extras --group dev --universal --python-version 3.11 \
		--generate-hashes --no-emit-index-url --no-header --upgrade --output-file requirements/dev.txt
	npm install --package-lock-only --omit-lockfile-registry-resolved

.PHONY: clean
clean: ## Remove what the targets made
	rm -rf $(VENV) node_modules dist build .mypy_cache .ruff_cache .pytest_cache .hypothesis
