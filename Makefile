# `make demo` and `make test` set everything up; they require Python 3.11+, make and a network connection for packages.

PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
READY := $(VENV)/.ready
TESTS := $(VENV)/.ready-for-tests
BUILD := build
KERNELS := trainables/optimizers/kernels.c
FUZZ := tests/optimizers/sanitize/fuzz_kernels.c
FUZZ_SECONDS := 20
N := 300
SEED := 1
AREA :=
PART :=
SANITIZE := -O2 -g -march=native -fno-math-errno -fno-trapping-math -fopenmp -Wall -Wextra -Werror \
	-fsanitize=address,undefined -fno-sanitize-recover=all -fno-omit-frame-pointer

.PHONY: demo test test-long test-gpu wheel examples check mutants sanitize bench bench-check clean

demo: $(READY)  ## a study on bundled data: grid, confirmation, comparison, report
	$(BIN)/lawn-tune launch quickstart
	$(BIN)/lawn-tune compare quickstart
	$(BIN)/lawn-tune report quickstart

test: $(TESTS)  ## the test suite, on the CPU and offline
	$(BIN)/python -m benchmarks.browser
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest -n 2 -m 'not long and not gpu'

test-long: $(TESTS)  ## real launches whose processes are killed, cut off or starved; compilers; large inputs; PART=1/3: a third
	$(BIN)/python -m benchmarks.browser
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest -n 2 -m 'long and not gpu' --part '$(PART)'

test-gpu: $(TESTS)  ## what only a CUDA device shows, on it; skipped where there is none
	$(BIN)/python -m pytest -m gpu tests/gpu

wheel: $(TESTS)  ## builds the wheel, installs it outside of the checkout and runs what the pages show; in test-long too
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest tests/end_to_end/test_wheel.py

examples: $(READY)  ## the folders of examples/, each to its verdict, which is rewritten
	OMP_NUM_THREADS=1 $(BIN)/python -m benchmarks.examples

check: $(TESTS)  ## formatting, lint, types
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy

mutants: $(TESTS)  ## a sample of small changes to the code, and how many of them the tests notice
	OMP_NUM_THREADS=1 $(BIN)/python -m tests.mutants --n $(N) --seed $(SEED) --area '$(AREA)'

sanitize: $(BUILD)/fuzz_kernels  ## random steps through kernels.c under the compiler's sanitizers
	$(BUILD)/fuzz_kernels $(FUZZ_SECONDS) 1

$(BUILD)/fuzz_kernels: $(KERNELS) $(FUZZ) Makefile
	mkdir -p $(BUILD)
	$(CC) $(SANITIZE) -DKERNELS='"$(abspath $(KERNELS))"' -o $@ $(FUZZ) -lm

bench: $(TESTS)  ## benchmarks; results as JSON in benchmarks/results
	$(BIN)/python -m benchmarks

bench-check: $(TESTS)  ## speed relative to alternatives in the same run, with generous margins
	OMP_NUM_THREADS=1 $(BIN)/python -m benchmarks.regression

clean:
	rm -rf $(VENV) build *.egg-info .mypy_cache .ruff_cache .pytest_cache .hypothesis

# PYTHONWARNINGS: setuptools warns at each editable installation that it is one.
$(READY): pyproject.toml constraints.txt
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --upgrade pip
	$(BIN)/python -m pip install --quiet -c constraints.txt torch torchvision
	PYTHONWARNINGS=ignore $(BIN)/python -m pip install --quiet -c constraints.txt -e '.[all]'
	touch $(READY)

$(TESTS): $(READY)
	PYTHONWARNINGS=ignore $(BIN)/python -m pip install --quiet -c constraints.txt -e '.[all,dev]'
	touch $(TESTS)
