# Two targets do everything from a fresh clone: `make demo` and `make test`.
# Each makes .venv when it is not there. PYTHON names another interpreter (3.11 or newer).

PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
# The CPU build of torch; without its index, Linux would get several gigabytes of CUDA.
TORCH := $(shell sed -n 's/^torch==/torch==/p' constraints.txt)
TORCH_INDEX ?= https://download.pytorch.org/whl/cpu
JOBS ?= 2

.PHONY: demo test lint clean

demo: $(VENV)/ready
	$(BIN)/handful demo --out handful-demo

test: $(VENV)/ready lint
	# One thread in each worker: threads of several workers would wait for one another.
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest -n $(JOBS)

lint: $(VENV)/ready
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

$(VENV)/ready: pyproject.toml constraints.txt
	$(PYTHON) -m venv $(VENV)
	$(BIN)/pip install --quiet --retries 0 --timeout 15 --index-url $(TORCH_INDEX) --no-deps $(TORCH) \
	  || $(BIN)/pip install --quiet --no-deps $(TORCH)
	$(BIN)/pip install --quiet --constraint constraints.txt --editable ".[lite,dev]"
	touch $@

clean:
	rm -rf $(VENV) handful-demo
