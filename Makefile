# make demo: the main job on the built-in data.   make test: all checks and tests.   make bench [AREA=loss]: benchmarks.
# make lab [LAB='--sets emoji --settings default,pml-*']: settings x data sets x seeds beside PML's loops; hours, goes on where it was stopped.
# make icons: the data set `iconify`, fetched and drawn once.
# make check: lint, types, stubs, layers, which git runs before each commit after `.venv/bin/pre-commit install`.
# make quick: the tests of what changed, nearest first, under two minutes.   make coverage: all tests, and the lines of src that they run.
# make site: the documentation as a site in site/, which needs no network.
# make wheel [EXTRAS_TRIED='base train']: sdist and wheel into dist/, used in bare environments, each extra alone.
# make notebooks: executes examples/notebooks again, in place.
# make lowest [TESTS=tests/search]: the tests with the lowest version of everything that pyproject.toml allows.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
EXTRAS := all,bench,dev
LOWEST := .venv-lowest
TESTS := tests

.PHONY: demo icons test check quick coverage bench lab docs site notebooks wheel lowest clean

demo: $(VENV)/.installed
	@if [ -f runs/demo/checkpoints/last.pt ]; then $(BIN)/pullpush train --resume runs/demo; \
	else rm -rf runs/demo; $(BIN)/pullpush train --out runs/demo; fi

icons: $(VENV)/.installed
	npm install @iconify/json --prefix \
	"$$($(BIN)/python -c 'from pullpush.files.cache import cache_folder; print(cache_folder("iconify"))')"
	$(BIN)/pullpush data iconify

test: $(VENV)/.installed
	sh tools/system.sh
	$(MAKE) check
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest -n 2 --dist loadfile --no-loadscope-reorder

check: $(VENV)/.installed
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy src tests/typing
	$(BIN)/python tools/stubs.py --check
	$(BIN)/lint-imports --no-cache

quick: $(VENV)/.installed
	OMP_NUM_THREADS=1 $(BIN)/python tools/quick.py

coverage: $(VENV)/.installed
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest -n 2 --dist loadfile --no-loadscope-reorder --cov --cov-report=term:skip-covered

bench: $(VENV)/.installed
	$(BIN)/python benchmarks/run.py $(if $(AREA),--area $(AREA))

lab: $(VENV)/.installed
	OMP_NUM_THREADS=1 $(BIN)/python benchmarks/lab.py $(LAB)

docs: $(VENV)/.installed
	$(BIN)/python docs/build.py

site: $(VENV)/.installed
	NO_MKDOCS_2_WARNING=1 $(BIN)/mkdocs build --strict

notebooks: $(VENV)/.installed
	OMP_NUM_THREADS=1 $(BIN)/python tools/notebooks.py

wheel: $(VENV)/.installed
	$(BIN)/python tools/wheel.py $(EXTRAS_TRIED)

lowest: $(LOWEST)/.installed
	OMP_NUM_THREADS=1 $(LOWEST)/bin/python -m pytest -n 2 --dist loadfile --no-loadscope-reorder $(TESTS)

$(LOWEST)/.installed: pyproject.toml
	$(PYTHON) -m venv $(LOWEST)
	$(LOWEST)/bin/python -m pip install uv
	$(LOWEST)/bin/uv pip install --python $(LOWEST) --resolution lowest-direct --editable '.[$(EXTRAS)]'
	@touch $@

$(VENV)/.installed: pyproject.toml
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --editable '.[$(EXTRAS)]'
	@$(BIN)/python -c "import umap"  # compiles its neighbour search once, or the first report would
	@touch $@

clean:
	rm -rf $(VENV) $(LOWEST) build dist site *.egg-info src/*.egg-info
