#!/bin/sh
# Install RabbitMQ for the tests where it is missing and this account may. The tests run a private
# node of their own. Without it they skip what needs RabbitMQ; under CI=true that is a failure.
set -eu

if command -v rabbitmq-server >/dev/null 2>&1 || [ -x /usr/sbin/rabbitmq-server ]; then
    exit 0
fi
if "$(dirname "$0")/apt_install.sh" rabbitmq-server; then
    exit 0
fi
if [ "${CI:-}" = true ]; then
    echo "*** RabbitMQ is missing, and CI=true allows no skipped tests. ***" >&2
    exit 1
fi
echo "*** RabbitMQ is missing: the tests that need it will be SKIPPED. ***" >&2
