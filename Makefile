# Every target does its own set-up in .venv; from a fresh clone nothing else is needed.
PYTHON ?= python3
BACKENDS ?= 1  # 0: test without torch and JAX
WORKERS ?= 2  # processes that share the tests; each may need 4 GB

venv := .venv/bin
stamps := .venv/stamps
sources := pyproject.toml CMakeLists.txt $(shell find src csrc -name '*.py' -o -name '*.pyi' -o -name '*.[ch]pp' -o -name '*.jinja' -o -name '*.npz')

.PHONY: demo test slow lint bench docs examples clean
.DELETE_ON_ERROR:

demo: $(stamps)/softly
	$(venv)/softly demo --out demo --force

test: $(stamps)/test $(stamps)/softly
	$(venv)/python -m pytest -n $(WORKERS)

slow: $(stamps)/test $(stamps)/softly
	$(venv)/python -m pytest -n $(WORKERS) -m 'slow and not whole_machine' --timeout 1500
	$(venv)/python -m pytest -m 'slow and whole_machine' --timeout 1500

lint: $(stamps)/lint $(stamps)/softly
	$(venv)/ruff format --check .
	$(venv)/ruff check .
	$(venv)/mypy

bench: $(stamps)/bench $(stamps)/test $(stamps)/softly
	$(venv)/python benchmarks/run.py

docs: $(stamps)/test $(stamps)/softly
	$(venv)/python docs/semantics.py
	$(venv)/python docs/accuracy.py
	$(venv)/python docs/reliability.py
	$(venv)/python docs/curvature.py
	$(venv)/python docs/averages.py
	$(venv)/python docs/energies.py
	$(venv)/python docs/exclusive_or_not.py

examples: $(stamps)/test $(stamps)/softly
	set -e; for script in examples/[a-z]*.py; do $(venv)/python $$script; done

clean:
	rm -rf .venv build demo

$(stamps)/venv:
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null || { echo "softly needs Python 3.11 or later: install python3 (Debian: apt-get install python3), or name one: make PYTHON=/path/to/python"; exit 1; }
	@$(PYTHON) -c 'import venv, ensurepip' 2>/dev/null || { echo "The venv module is missing: install it (Debian: apt-get install python3-venv)"; exit 1; }
	@$(PYTHON) -m venv .venv
	@$(venv)/pip install -q --upgrade pip
	@mkdir -p $(stamps) && touch $@

# Without a compiler softly installs all the same and runs on its array expressions.
$(stamps)/softly: $(stamps)/venv $(sources)
	@command -v $${CXX:-c++} >/dev/null 2>&1 || echo "No C++ compiler: install one for the compiled core (Debian: apt-get install g++). Going on without."
	$(venv)/pip install -q '.[cli]'
	@touch $@

$(stamps)/test: $(stamps)/venv pyproject.toml
	$(venv)/pip install -q --group test
	@if [ $(BACKENDS) != 0 ]; then $(venv)/pip install -q --group backends; fi
	@touch $@

$(stamps)/bench: $(stamps)/test
	$(venv)/pip install -q --group bench
	@touch $@

$(stamps)/lint: $(stamps)/venv pyproject.toml
	$(venv)/pip install -q --group lint
	@touch $@
