# The lab's commands. `make lab` and `make test` do everything on a fresh machine.
#   make lab                      build the environment, open JupyterLab at the first lesson
#   make lab ARGS=--no-browser    the same on a server
#   make test                     build the environment, run the whole test suite by two workers (ARGS=-n0: by one)
#   make setup · bench · sweep · soak · check · lock
# ACCELERATOR=cpu|gpu forces the environment; PYTHON=/path/to/python3.11 names the interpreter.

SHELL := /bin/sh
PYTHON ?= $(shell command -v python3.11 || command -v python3)
ACCELERATOR ?= auto
ARGS ?=

# An active conda environment (but not base) is used as it is; otherwise the lab has its own.
ifneq ($(filter-out base,$(CONDA_DEFAULT_ENV)),)
ENVIRONMENT := $(CONDA_PREFIX)
CONDA := --conda
else
ENVIRONMENT := $(CURDIR)/.venv
CONDA :=
endif
BIN := $(ENVIRONMENT)/bin

.PHONY: lab test setup bench sweep soak check lock
lab: setup
	@"$(BIN)/labkit" lab $(ARGS)

test: setup
	@"$(BIN)/python" -m pytest -m "not soak" --numprocesses 2 --dist loadfile --no-loadscope-reorder $(ARGS)

setup:
	@test -n "$(PYTHON)" || { echo "make setup: Python 3.11 was not found. Install python3.11, or run make PYTHON=/path/to/python3.11." >&2; exit 1; }
	@"$(PYTHON)" scripts/environment.py --environment "$(ENVIRONMENT)" --accelerator "$(ACCELERATOR)" $(CONDA)

# Huge pages for malloc speed vLLM and the lab's engine alike, by 5 to 10 %.
bench: setup
	@GLIBC_TUNABLES=glibc.malloc.hugetlb=1 "$(BIN)/python" -m tests.bench $(ARGS)

# vLLM's settings on this machine's CPU, one against the other: about half an hour.
sweep: setup
	@GLIBC_TUNABLES=glibc.malloc.hugetlb=1 "$(BIN)/python" -m tests.bench.vllm_sweep

soak: setup
	@"$(BIN)/python" -m pytest -m soak --timeout 3600 $(ARGS)

check: setup
	@PATH="$(BIN):$$PATH" scripts/check

lock: setup
	@"$(BIN)/python" scripts/lock.py $(UPGRADE)
