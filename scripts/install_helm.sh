#!/bin/sh
# Install Helm's engine (helm-sdkpy, Linux on x86-64) into the virtual environment FOLDER for the
# tests of the chart. Its metadata asks for Python 3.12, but it is a shared library that is called
# through cffi and runs on 3.11 as well; so it cannot stand in pyproject.toml. Without it the tests
# of the chart are skipped; under CI=true that is a failure. Usage: scripts/install_helm.sh FOLDER
set -eu
version=0.1.32
python=$1/bin/python

if "$python" -c "import importlib.metadata as m; raise SystemExit(m.version('helm-sdkpy') != '$version')" \
    2>/dev/null; then
    exit 0
fi
echo "Installing Helm's engine into $1 ..."
if "$python" -m pip --disable-pip-version-check --quiet install \
    --ignore-requires-python --no-deps "helm-sdkpy==$version" 2>/dev/null; then
    exit 0
fi
if [ "${CI:-}" = true ]; then
    echo "*** helm-sdkpy cannot be installed, and CI=true allows no skipped tests. ***" >&2
    exit 1
fi
echo "*** helm-sdkpy cannot be installed: the tests of the Helm chart will be SKIPPED. ***" >&2
