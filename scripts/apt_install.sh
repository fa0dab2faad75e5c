#!/bin/sh
# Install one Debian package, if this account may: root, or sudo without a password. Ends with 1
# and a line saying why when it may not. Starts no services. Usage: scripts/apt_install.sh PACKAGE
set -eu
package=$1

refuse() {
    echo "$package cannot be installed here: $1" >&2
    exit 1
}

command -v apt-get >/dev/null 2>&1 || refuse "there is no apt-get"
if [ "$(id -u)" -eq 0 ]; then
    as_root=
elif command -v sudo >/dev/null 2>&1 && sudo -n true 2>/dev/null; then
    as_root="sudo -n"
else
    refuse "neither root nor sudo without a password"
fi

echo "Installing the Debian package $package ..."
log=$(mktemp)
trap 'rm -f "$log"' EXIT
# RUNLEVEL=1 keeps the package's scripts from starting a system-wide service.
if ! { $as_root apt-get update -q && $as_root env RUNLEVEL=1 DEBIAN_FRONTEND=noninteractive \
    apt-get install -q -y --no-install-recommends "$package"; } >"$log" 2>&1 </dev/null; then
    tail -n 20 "$log" >&2
    refuse "apt-get failed"
fi
