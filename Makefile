# Two targets do everything from a fresh clone: `make demo` and `make test`.
# Each makes .venv when it is not there. PYTHON names another interpreter (3.11 or newer).

PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
# The CPU build of torch; without its index, Linux would get several gigabytes of CUDA.
TORCH := $(shell sed -n 's/^torch==/torch==/p' constraints.txt)
TORCH_INDEX ?= https://download.pytorch.org/whl/cpu
JOBS ?= 2

.PHONY: demo test lint chaos verify-real clean

demo: $(VENV)/ready
	$(BIN)/handful demo --out handful-demo

test: $(VENV)/ready lint
	# One thread in each worker: threads of several workers would wait for one another.
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest -n $(JOBS)
	# open_clip needs torchvision, and one that does not fit torch breaks transformers: nothing
	# else gets to see it.
	OMP_NUM_THREADS=1 PYTHONPATH=$(VENV)/torchvision $(BIN)/python -m pytest tests/open_clip

lint: $(VENV)/ready
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

# A hundred kills where the tests do twenty.
chaos: $(VENV)/ready
	HANDFUL_KILLS=100 OMP_NUM_THREADS=1 $(BIN)/python -m pytest tests/cli/test_chaos.py

# Needs internet: four public checkpoints, about 4.5 GB, against what others publish of them.
# WHU names a folder of the WHU-RS19 images, if you have them.
verify-real: $(VENV)/ready
	$(BIN)/python benchmarks/verify_real.py $(if $(WHU),--whu $(WHU))

$(VENV)/ready: pyproject.toml constraints.txt
	$(PYTHON) -m venv $(VENV)
	$(BIN)/pip install --quiet --retries 0 --timeout 15 --index-url $(TORCH_INDEX) --no-deps $(TORCH) \
	  || $(BIN)/pip install --quiet --no-deps $(TORCH)
	$(BIN)/pip install --quiet --constraint constraints.txt --editable ".[lite,parquet,datasets,plot,lora,dev]"
	# Without what they ask for: an unpinned torchvision would bring another torch.
	$(BIN)/pip install --quiet --constraint constraints.txt --no-deps open_clip_torch timm
	$(BIN)/pip install --quiet --constraint constraints.txt --no-deps --upgrade \
	  --target $(VENV)/torchvision torchvision
	touch $@

clean:
	rm -rf $(VENV) handful-demo
