#!/bin/sh
# Install Prometheus and promtool for the tests where they are missing and this account may. Without
# them the tests of rules and dashboards are skipped; under CI=true that is a failure.
set -eu

if command -v promtool >/dev/null 2>&1 && command -v prometheus >/dev/null 2>&1; then
    exit 0
fi
if "$(dirname "$0")/apt_install.sh" prometheus; then
    exit 0
fi
if [ "${CI:-}" = true ]; then
    echo "*** Prometheus is missing, and CI=true allows no skipped tests. ***" >&2
    exit 1
fi
echo "*** Prometheus is missing: the tests that need it will be SKIPPED. ***" >&2
