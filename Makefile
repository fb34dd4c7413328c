# make demo      train a real model on real data, from nothing
# make test      the whole suite, kernels built and installed first
# make test-long the tests that take minutes: a training run killed fifty times
# make soak      200 launches of process groups, with faults
# make hosts     MPI across two network namespaces, as two hosts
# make sanitize  the C kernels under AddressSanitizer, UBSan and ThreadSanitizer
# make check-arm the same checks for 64-bit ARM, cross-compiled and run under qemu
# make bench     benchmarks against whatever peers are installed
# make lint      ruff and mypy
# make clean     remove everything that make made
#
# Stamps in .stamps/ keep a second run quick: an install is repeated only when what it depends on changed.

PYTHON ?= python3
VENV   := .venv
BIN    := $(VENV)/bin
STAMPS := .stamps
PIP    := $(BIN)/python -m pip --disable-pip-version-check --quiet

CSRC      := $(shell find csrc -name '*.[ch]' 2>/dev/null)
PACKAGING := pyproject.toml setup.py MANIFEST.in

.PHONY: demo test test-long soak hosts sanitize check-arm bench lint clean
.DELETE_ON_ERROR:

$(STAMPS)/venv:
	@mkdir -p $(STAMPS)
	$(PYTHON) -m venv $(VENV)
	@touch $@

# The editable install builds the extension in place: the source tree and the installed package are one.
$(STAMPS)/install: $(STAMPS)/venv $(PACKAGING) $(CSRC)
	$(PIP) install --editable .
	@touch $@

$(STAMPS)/test-deps: $(STAMPS)/install
	$(PIP) install --editable '.[test]'
	@touch $@

demo: $(STAMPS)/install
	$(BIN)/minigrad demo

test: $(STAMPS)/test-deps
	$(BIN)/python -m pytest

test-long: $(STAMPS)/test-deps
	MINIGRAD_LONG=1 $(BIN)/python -m pytest -s tests/test_checkpoint.py

soak: $(STAMPS)/test-deps
	$(BIN)/python -m pytest -m soak tests/test_distributed.py

hosts: $(STAMPS)/test-deps
	$(PIP) install --editable '.[mpi]'
	$(BIN)/python tests/two_hosts.py

lint: $(STAMPS)/test-deps
	$(BIN)/python -m ruff check .
	$(BIN)/python -m mypy

bench: $(STAMPS)/install
	@for script in benchmarks/bench_*.py; do echo "== $$script"; $(BIN)/python $$script || exit 1; done

# Each file is compiled for itself, as many at once as there are processors: the tables take most of the time. Memory that
# is allocated begins as NaN, so that a kernel which reads what it never wrote is found by its result.
SANITIZE_FLAGS := -std=gnu11 -O1 -g -fno-omit-frame-pointer -ffp-contract=fast -Wall -Wextra -Wno-psabi -Icsrc -pthread
SANITIZE_SRC   := $(filter csrc/tables/%,$(filter %.c,$(CSRC))) $(filter-out csrc/tables/%,$(filter %.c,$(CSRC)))
ASAN := -fsanitize=address,undefined -fno-sanitize-recover=all
TSAN := -fsanitize=thread

build/asan/%.o: csrc/%.c $(filter %.h,$(CSRC)) Makefile
	@mkdir -p $(@D)
	$(CC) $(SANITIZE_FLAGS) $(ASAN) -c $< -o $@

build/tsan/%.o: csrc/%.c $(filter %.h,$(CSRC)) Makefile
	@mkdir -p $(@D)
	$(CC) $(SANITIZE_FLAGS) $(TSAN) -c $< -o $@

build/check-asan: $(SANITIZE_SRC:csrc/%.c=build/asan/%.o)
	$(CC) $(SANITIZE_FLAGS) $(ASAN) $^ -lm -o $@

build/check-tsan: $(SANITIZE_SRC:csrc/%.c=build/tsan/%.o)
	$(CC) $(SANITIZE_FLAGS) $(TSAN) $^ -lm -o $@

sanitize:
	@$(MAKE) --no-print-directory --jobs=$$(getconf _NPROCESSORS_ONLN) build/check-asan build/check-tsan
	ASAN_OPTIONS=max_malloc_fill_size=4294967295:malloc_fill_byte=255 build/check-asan
	TSAN_OPTIONS=halt_on_error=1 build/check-tsan

# Needs gcc-aarch64-linux-gnu and qemu-user-static (their names on Debian and Ubuntu).
ARM_CC   ?= aarch64-linux-gnu-gcc
ARM_QEMU ?= qemu-aarch64-static

build/arm/%.o: csrc/%.c $(filter %.h,$(CSRC)) Makefile
	@mkdir -p $(@D)
	$(ARM_CC) $(filter-out -O1,$(SANITIZE_FLAGS)) -O2 -c $< -o $@

build/check-arm: $(SANITIZE_SRC:csrc/%.c=build/arm/%.o)
	$(ARM_CC) -static -pthread $^ -lm -o $@

check-arm:
	@$(MAKE) --no-print-directory --jobs=$$(getconf _NPROCESSORS_ONLN) build/check-arm
	$(ARM_QEMU) build/check-arm

clean:
	rm -rf $(VENV) $(STAMPS) build dist *.egg-info .pytest_cache .mypy_cache .ruff_cache
	find . -name __pycache__ -type d -prune -exec rm -rf {} +
	rm -f minigrad/_kernels*.so
