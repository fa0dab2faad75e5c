#!/bin/sh
# Write constraints.txt: the newest versions that pyproject.toml allows, tried in a fresh
# environment. Usage: scripts/lock.sh PYTHON
set -eu
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT

echo "Resolving the newest versions in a fresh environment ..."
scripts/create_venv.sh "$1" "$folder/venv"
pip="$folder/venv/bin/python -m pip --disable-pip-version-check --quiet"
$pip install -e '.[dev]'
$pip check
{
    echo "# The lock: exact versions of everything postroad and its development tools need."
    echo "# pip reads it (-c constraints.txt). Renew it with: make lock"
    $pip freeze --exclude-editable | sort -f
} >"$folder/constraints.txt"
mv "$folder/constraints.txt" constraints.txt
echo "constraints.txt is written."
