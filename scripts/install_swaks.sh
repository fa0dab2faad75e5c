#!/bin/sh
# Install swaks, an SMTP client for tests, with the module it needs for TLS, where they are missing
# and this account may. Without it its tests are skipped; under CI=true that is a failure.
set -eu

if command -v swaks >/dev/null 2>&1 && perl -MNet::SSLeay -e 1 2>/dev/null; then
    exit 0
fi
here=$(dirname "$0")
if "$here/apt_install.sh" swaks && "$here/apt_install.sh" libnet-ssleay-perl; then
    exit 0
fi
if [ "${CI:-}" = true ]; then
    echo "*** swaks is missing, and CI=true allows no skipped tests. ***" >&2
    exit 1
fi
echo "*** swaks is missing: its tests will be SKIPPED. ***" >&2
