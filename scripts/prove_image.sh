#!/bin/sh
# Build and run the image where there is no Docker: the steps of deploy/Dockerfile on a bare system
# that debootstrap makes, of the Debian that the image has, and its Python; then the test that plays
# deploy/compose.yaml on it. Needs root, a mirror of Debian and one of PyPI; some minutes.
# Usage: scripts/prove_image.sh [MIRROR]
set -eu
suite=trixie
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT

[ "$(id -u)" -eq 0 ] || { echo "this needs root, for chroot and mounts" >&2; exit 1; }
command -v debootstrap >/dev/null 2>&1 || scripts/apt_install.sh debootstrap
echo "Making a bare Debian $suite ..."
debootstrap --variant=minbase --include=ca-certificates,python3,python3-dev,python3-venv \
    "$suite" "$folder/base" "$@" >"$folder/log" 2>&1 || { tail -n 20 "$folder/log" >&2; exit 1; }
POSTROAD_TEST_IMAGE_BASE="$folder/base" CI=true .venv/bin/python -m pytest -n 0 -v \
    tests/integration/test_compose.py
