# Needs make and Python 3.11 with pip and venv; uv brings everything else into .uv/ and .venv/ of this directory.

UV_VERSION := 0.13.8
PYTHON ?= python3
# The uv on PATH where it is new enough for uv.lock, else one of our own.
UV := $(or $(shell uv --version 2>/dev/null | awk '{split($$2, v, "."); if (v[1] > 0 || v[2] >= 9) print "uv"}'),.uv/bin/uv)
RUN := $(UV) run --frozen --no-sync

# Trust what this machine trusts: the certificate of a company's proxy is not in uv's own list.
export UV_SYSTEM_CERTS := 1
export PIP_DISABLE_PIP_VERSION_CHECK := 1

.DEFAULT_GOAL := help
.PHONY: help setup demo test check bench-sync bench-geofence bench-ledger bench-mail bench-maintenance soak clean

help: ## print these targets
	@awk -F ':.*## ' '/^[a-z-]+:.*## / {printf "  make %-18s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

demo: setup ## run the whole platform here and watch it work; FOR=60 stops after 60 seconds
	@$(RUN) fleet-jobs up --demo $(if $(FOR),--for $(FOR))

test: setup ## run the tests against real servers, started from packages
	@$(RUN) pytest -n 2 -m "not soak" $(ARGS)

check: setup ## lint, check the format, the types and who imports whom
	@$(RUN) ruff check
	@$(RUN) ruff format --check
	@$(RUN) mypy
	@$(RUN) lint-imports

bench-sync: setup ## measure how fast telemetry is stored
	@$(RUN) python -m benchmarks.bench_sync

bench-geofence: setup ## measure how fast fixes meet fences, alone and in a sync
	@$(RUN) python -m benchmarks.bench_geofence
	@$(RUN) python -m benchmarks.bench_sync --fences 1000

bench-ledger: setup ## measure the ledger beside other job queues
	@$(UV) run --frozen --group bench python -m benchmarks.bench_ledger

bench-maintenance: setup ## measure the due check beside the bare SELECT of what is due
	@$(RUN) python -m benchmarks.bench_maintenance

bench-mail: setup ## measure how fast mails are written, sent and recorded
	@$(RUN) python -m benchmarks.bench_mail

soak: setup ## run for minutes while processes and servers are killed
	@$(RUN) pytest -m soak --timeout 1800 $(ARGS)

clean: ## remove the demo's data and every cache; .venv and .uv stay
	rm -rf .fleet .mypy_cache .ruff_cache .pytest_cache .hypothesis .import_linter_cache dist
	find . -name __pycache__ -type d -not -path './.venv/*' -not -path './.uv/*' -prune -exec rm -rf {} +

setup: $(filter .uv/bin/uv,$(UV))
	@test -d .venv || echo "setting up .venv from uv.lock (once)"
	@$(UV) sync --frozen --quiet

.uv/bin/uv: Makefile
	@echo "setting up uv $(UV_VERSION) in .uv (once)"
	@$(PYTHON) -m venv .uv
	@.uv/bin/python -m pip install --quiet "uv==$(UV_VERSION)"
	@touch $@
