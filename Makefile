# The commands of postroad. A machine needs Python 3.11 or newer, git and make; the rest goes
# into .venv, from the versions in constraints.txt.

PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
PIP := $(BIN)/python -m pip --disable-pip-version-check --quiet
INPUTS := pyproject.toml constraints.txt
# What tests and benchmarks run as processes: the hot path compiled, as in the image.
COMPILED := build/compiled
SOURCES := setup.py pyproject.toml $(shell find services shared -name '*.py')
# Test files that run at a time: they wait more than they work, each worker with a RabbitMQ of its own.
JOBS ?= 3

.PHONY: help demo run check test bench compiled chart docs dashboards pictures lock hashes image compose sbom prove-image venv clean

help:
	@echo "make demo       send mail through all three services to local receivers (BROKER=amqp://... for RabbitMQ)"
	@echo "make run        run all three services (CONFIG=file)"
	@echo "make check      format, lint, types"
	@echo "make test       every test; installs RabbitMQ, Prometheus and swaks where it may (TESTS=... for some, JOBS=0 one by one)"
	@echo "make bench      measure against Postfix; writes docs/benchmarks.md"
	@echo "make compiled   build/compiled: the hot path as C, which make test and make bench run"
	@echo "make chart      write what the Helm chart has from elsewhere: README, schema, rules, dashboards"
	@echo "make docs       write docs/configuration.md, metrics.md, events.md and the tables of scaling.md from the code"
	@echo "make dashboards write deploy/grafana/dashboards from deploy/grafana"
	@echo "make pictures   draw the dashboards of a day of trouble into docs/pictures"
	@echo "make image      build the container image (Docker)"
	@echo "make compose    everything in containers, to play with (Docker Compose; ARGS=... for another command than up)"
	@echo "make sbom       write build/postroad.cdx.json: what postroad is made of (CycloneDX)"
	@echo "make prove-image build and run the image without Docker, on a system made by debootstrap (root)"
	@echo "make lock       renew constraints.txt, and what make hashes writes"
	@echo "make hashes     write deploy/requirements*.txt from constraints.txt"

demo: $(VENV)/installed
	@$(BIN)/postroad demo $(if $(BROKER),--broker '$(BROKER)') $(ARGS)

run: $(VENV)/installed
	@$(BIN)/postroad run $(if $(CONFIG),--config '$(CONFIG)') $(ARGS)

check: $(VENV)/installed-dev
	@$(BIN)/ruff format --check .
	@$(BIN)/ruff check .
	@$(BIN)/mypy

test: export POSTROAD_TEST_COMPILED = $(COMPILED)
test: $(VENV)/installed-dev $(COMPILED)/built
	@scripts/install_rabbitmq.sh
	@scripts/install_prometheus.sh
	@scripts/install_swaks.sh
	@scripts/install_helm.sh $(VENV)
	@$(BIN)/python -m pytest -n $(JOBS) --dist loadfile $(TESTS) $(ARGS)

bench: export POSTROAD_TEST_COMPILED = $(COMPILED)
bench: $(VENV)/installed-dev $(COMPILED)/built
	@scripts/install_rabbitmq.sh
	@$(BIN)/python -m tests.bench $(ARGS)

compiled: $(COMPILED)/built

chart: $(VENV)/installed-dev
	@$(BIN)/python -m deploy.chart
	@echo "helm/postroad is written."

docs: $(VENV)/installed
	@$(BIN)/python -m shared.settings.document > docs/configuration.md
	@$(BIN)/python -m shared.metrics_document > docs/metrics.md
	@$(BIN)/python -m shared.events.document > docs/events.md
	@$(BIN)/python -m shared.plan.sizing_document docs/scaling.md
	@$(BIN)/python -m deploy.chart
	@echo "docs/configuration.md, metrics.md, events.md and scaling.md are written."

dashboards: $(VENV)/installed-dev
	@$(BIN)/python -W ignore::DeprecationWarning -m deploy.grafana
	@$(BIN)/python -m deploy.chart
	@echo "deploy/grafana/dashboards is written."

pictures: $(VENV)/installed-dev
	@$(BIN)/python -W ignore::DeprecationWarning -m tests.pictures docs/pictures
	@echo "docs/pictures is written."

image:
	@scripts/build_image.sh $(ARGS)

compose:
	docker compose -f deploy/compose.yaml $(if $(ARGS),$(ARGS),up --build)

SBOM := build/postroad.cdx.json
sbom: $(SBOM)

$(SBOM): $(VENV)/installed-dev deploy/requirements.txt scripts/sbom.sh
	@scripts/sbom.sh $@

prove-image: $(VENV)/installed-dev
	@scripts/prove_image.sh

lock:
	@scripts/lock.sh '$(PYTHON)'
	@scripts/hashes.sh '$(PYTHON)'

hashes:
	@scripts/hashes.sh '$(PYTHON)'

venv: $(VENV)/installed-dev

$(COMPILED)/built: $(VENV)/installed-dev $(SOURCES) scripts/compile.sh
	@scripts/compile.sh $(VENV) $(COMPILED)

$(VENV)/created:
	@scripts/create_venv.sh '$(PYTHON)' $(VENV)
	@touch $@

$(VENV)/installed: $(VENV)/created $(INPUTS)
	@echo "Installing postroad into $(VENV) ..."
	@$(PIP) install -c constraints.txt -e .
	@touch $@

$(VENV)/installed-dev: $(VENV)/created $(INPUTS)
	@echo "Installing postroad and its development tools into $(VENV) ..."
	@$(PIP) install -c constraints.txt -e '.[dev]'
	@touch $@ $(VENV)/installed

clean:
	@rm -rf $(VENV)
