# What a developer does here. `make` alone lists it.

PACKAGES := shared services/api services/worker services/migrate services/embedded
LOCKS := dev build embedded api worker migrate bench sbom

.DEFAULT_GOAL := help
.PHONY: help run test test-fast fuzz check format up down logs audit bench bench-quick faults simulate lock sbom clean

help: ## List what can be done
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "  make %-11s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

# At a terminal the service gets a process group of its own, so that Ctrl-C reaches it alone: make, too, would end by the
# signal, and not with the service's exit code. Elsewhere it takes the shell's place, so that make's SIGTERM reaches it.
run: .venv-run/ready ## Migrate, then serve API and worker in one process on 127.0.0.1:8080, with ./data/tasks.db
	@if [ -t 0 ]; then trap '' TSTP; set -m; .venv-run/bin/python -m taskqueue_embedded; \
	else exec .venv-run/bin/python -m taskqueue_embedded; fi

test: .venv/ready ## Run every test; those of the real broker and of the compose stack need Docker
	.venv/bin/pytest $(ARGS)

test-fast: .venv/ready ## Run the tests that need no Docker and take no long time
	.venv/bin/pytest -m "not docker and not slow" $(ARGS)

# Four tests of 2,500 cases each: what `make test` does with 100.
fuzz: .venv/ready ## Send 10,000 requests and messages that nobody should send
	.venv/bin/pytest --hypothesis-profile fuzz tests/fuzz tests/worker/test_fuzzed_worker.py $(ARGS)

check: .venv/ready ## Check format, lint, types, import rules and the compose file
	.venv/bin/ruff format --check
	.venv/bin/ruff check
	.venv/bin/mypy
	.venv/bin/lint-imports
	@if docker compose version >/dev/null 2>&1; then set -x; docker compose config --quiet; fi

format: .venv/ready ## Format the code, and repair what the linter can repair
	.venv/bin/ruff check --fix-only
	.venv/bin/ruff format

up: ## Build and start the compose stack, and wait until it is ready
	docker compose up --build --wait

down: ## Stop the compose stack; its tasks are kept
	docker compose down

logs: ## Follow the compose stack's logs
	docker compose logs --follow

audit: .venv/ready ## Ask the API at URL whether every task is where it must be; ARGS=--integrity checks the file, too
	@.venv/bin/python -m taskqueue_api.audit_check $(or $(URL),http://127.0.0.1:8080) $(ARGS)

# Peers have an environment of their own; embedded mode runs from the one of `make run`. Docker brings RabbitMQ.
BENCH := .venv/bin/python -m benchmarks --ours .venv-run/bin/python --embedded .venv-run/bin/python --peers .venv-bench/bin/python

bench: .venv/ready .venv-run/ready .venv-bench/ready ## Measure ours and its peers, and write docs/benchmarks.md
	$(BENCH) --report docs/benchmarks.md $(ARGS)

bench-quick: .venv/ready .venv-run/ready .venv-bench/ready ## The same in 3 minutes at most, roughly, and shown only
	$(BENCH) --plan quick $(ARGS)

simulate: .venv/ready ## Play histories of faults under virtual time; ARGS="--histories 10000 --seed 1"
	.venv/bin/python -m tests.simulation $(ARGS)

faults: .venv/ready ## Do harm to a stack of its own, and count what became of every task; ARGS="--seed 7 --minutes 3"
	.venv/bin/python -m faults $(ARGS)

# The first lock binds the others, so that everything is tested with what is shipped. One that stays the same keeps its
# time, so that no environment is made anew for nothing.
lock: .venv/ready ## Write the locks anew from the pyproject.toml files; UPGRADE=--upgrade takes the newest versions
	@for lock in $(LOCKS); do \
		file=requirements/$$lock.txt; \
		case $$lock in dev) bound="$(UPGRADE)" ;; *) bound="--upgrade --constraint requirements/dev.txt" ;; esac; \
		cp -p $$file $$file.old && \
		.venv/bin/uv pip compile --quiet --universal --python-version 3.11 --generate-hashes \
			--no-emit-index-url --no-annotate --custom-compile-command "make lock" \
			--no-emit-package taskqueue-shared --no-emit-package taskqueue-api --no-emit-package taskqueue-worker \
			--no-emit-package taskqueue-migrate --no-emit-package taskqueue-embedded \
			$$bound requirements/$$lock.in --output-file $$file || { rm -f $$file.old; exit 1; }; \
		if cmp -s $$file $$file.old; then mv $$file.old $$file; else rm $$file.old; echo "$$file has changed"; fi; \
	done

# The tool is in a lock of its own, so that it binds no version of what is shipped.
SBOM := sbom

sbom: .venv-sbom/ready ## Write into ./sbom what each service is made of, with hashes, from the locks (CycloneDX)
	@mkdir -p $(SBOM)
	@for lock in api worker migrate embedded; do \
		.venv-sbom/bin/python -W ignore -m cyclonedx_py requirements --output-reproducible --output-format JSON --validate \
			--pyproject services/$$lock/pyproject.toml --output-file $(SBOM)/$$lock.cdx.json requirements/$$lock.txt \
			|| exit 1; \
	done

clean: ## Remove environments and caches; ./data stays
	rm -rf .venv .venv-run .venv-bench .venv-sbom sbom benchmarks/results
	rm -rf .mypy_cache .pytest_cache .ruff_cache .import_linter_cache .hypothesis
	find shared services tests examples benchmarks faults -name __pycache__ -prune -exec rm -rf {} + 2>/dev/null || true

# An environment is made anew whenever its lock or a package's own description has changed.
.venv/ready: REQUIREMENTS := requirements/dev.txt
.venv-run/ready: REQUIREMENTS := requirements/embedded.txt
.venv-bench/ready: REQUIREMENTS := requirements/bench.txt
.venv-sbom/ready: REQUIREMENTS := requirements/sbom.txt
.venv/ready: requirements/dev.txt
.venv-run/ready: requirements/embedded.txt
.venv-bench/ready: requirements/bench.txt
.venv-sbom/ready: requirements/sbom.txt
.venv/ready .venv-run/ready: $(PACKAGES:%=%/pyproject.toml)
.venv/ready .venv-run/ready: OWN := $(PACKAGES)
.venv/ready .venv-run/ready .venv-bench/ready .venv-sbom/ready:
	@for python in $(PYTHON) python3.13 python3.12 python3.11 python3 none; do \
		$$python -c 'import ensurepip, sys, venv; sys.exit(sys.version_info < (3, 11))' 2>/dev/null && break; \
	done; \
	if [ $$python = none ]; then \
		echo 'No Python 3.11 or newer with venv was found (on Debian: apt install python3-venv).' >&2; \
		echo 'Where it has another name: make PYTHON=/path/to/python' >&2; \
		exit 1; \
	fi; \
	echo "Making $(@D) with $$($$python --version)" >&2; \
	$$python -m venv --clear $(@D)
	@$(@D)/bin/python -m pip install -qq --disable-pip-version-check --require-hashes -r $(REQUIREMENTS)
	@[ -z "$(OWN)" ] || $(@D)/bin/python -m pip install -qq --disable-pip-version-check --no-deps --no-build-isolation \
		$(OWN:%=-e %)
	@touch $@
