# The two commands of the README are `make demo` and `make test`; both set everything up first.
#
#   make demo             collect, fine-tune, evaluate and report on the embedded simulator (CPU, minutes)
#   make test             all tests; SLOW=1 adds the slow ones; the 40 that took longest are printed at the end
#   make quick            unit tests that start no process and take no two seconds each (markers `process` and `long`),
#                         without the shape checks, which cost as much again; for use while writing, and no
#                         replacement for `make test`
#   make check            format, lint, types and tests, as .ci/run does
#   make tiny-base        pre-train the base model that ships in the package (hours)
#   make setup            only the virtual environment in .venv
#   make libero-demo      the same in LIBERO: three tasks in one policy, 73 minutes on two fast cores
#   make libero           LIBERO in .venv, too: packages, assets (1.2 GB), and as root what drawing needs of Debian
#   make kernels          Triton (190 MB), for tests of kernels without a GPU; PyTorch's CUDA builds bring it along
#
# PYTHON=python3.12 chooses the Python to set up with; WORKERS=1 runs the tests one after the other.

SUPPORTED := import sys; sys.exit(not (3, 11) <= sys.version_info[:2] <= (3, 13))
PYTHON ?= $(shell for python in python3 python3.12 python3.11 python3.13 python; do \
	"$$python" -c '$(SUPPORTED)' >/dev/null 2>&1 && echo "$$python" && break; done)
BIN := .venv/bin
TRITON := triton==3.7.1
WORKERS ?= auto
SLOW ?=

BRIEF := not (process or long or slow or gpu)
PYTEST := OMP_NUM_THREADS=1 $(BIN)/python -m pytest -n $(WORKERS) --dist worksteal

.PHONY: setup kernels libero libero-demo demo test quick check style tiny-base

setup:
	@test -n "$(PYTHON)" || { echo "error: no Python 3.11, 3.12 or 3.13 found; install one" >&2; exit 2; }
	@$(PYTHON) scripts/setup_env.py

libero: setup
	@$(BIN)/python scripts/setup_libero.py

# The version that PyTorch of constraints.txt is built for. Not in constraints.txt: an older PyTorch, for an older driver,
# brings an older one. There is none for other systems than Linux; the tests that need it skip, and say so.
kernels: setup
	@$(BIN)/python -c 'import triton' 2>/dev/null || $(BIN)/python -m pip install --quiet --no-deps "$(TRITON)"

demo: setup
	@$(BIN)/pi05 demo $(ARGS)

libero-demo: libero
	@$(BIN)/pi05 demo --env=libero $(ARGS)

test: setup
	$(PYTEST) --durations=40 --durations-min=2 $(if $(SLOW),--slow) $(ARGS)

quick: setup
	PI05_UNCHECKED_SHAPES=1 $(PYTEST) tests/unit -m "$(BRIEF)" $(ARGS)

style: setup
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy
	$(BIN)/mypy benchmarks

check: style test

tiny-base: setup
	$(BIN)/python scripts/tiny_base.py $(ARGS)
