#!/bin/sh
# Create the virtual environment FOLDER with the first Python >= 3.11 that is found, PYTHON first.
# Usage: scripts/create_venv.sh PYTHON FOLDER
set -eu
wanted=$1
folder=$2

new_enough() {
    "$1" -c 'import sys; raise SystemExit(sys.version_info < (3, 11))' >/dev/null 2>&1
}

find_python() {
    for name in "$wanted" python3.14 python3.13 python3.12 python3.11; do
        if new_enough "$name"; then
            echo "$name"
            return
        fi
    done
}

has_ensurepip() {
    "$python" -c 'import ensurepip' 2>/dev/null
}

python=$(find_python)
if [ -z "$python" ]; then
    echo "postroad needs Python 3.11 or newer; $wanted is: $("$wanted" --version 2>&1 || true)" >&2
    echo "Install one, or name it: make PYTHON=/path/to/python3 ..." >&2
    exit 1
fi

echo "Creating $folder with $("$python" --version) ..."
if has_ensurepip; then
    exec "$python" -m venv "$folder"
fi
# Debian keeps ensurepip in a package of its own; a pip outside can fill the environment too.
if "$python" -m pip --version >/dev/null 2>&1; then
    "$python" -m venv --without-pip "$folder"
    exec "$python" -m pip --disable-pip-version-check --quiet --python "$folder/bin/python" \
        install pip
fi
if "$(dirname "$0")/apt_install.sh" python3-venv && has_ensurepip; then
    exec "$python" -m venv "$folder"
fi
echo "$python has neither venv (Debian: apt-get install python3-venv) nor pip." >&2
exit 1
