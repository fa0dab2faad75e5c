#!/bin/sh
# Build postroad into FOLDER with its hot path compiled, as the image has it, with the tools of VENV.
# FOLDER is made anew. Installs a C compiler and Python's headers where it may; ends with 0 and
# without FOLDER/built where there are none, but with 1 under CI=true. Usage: scripts/compile.sh VENV FOLDER
set -eu
python=$(pwd)/$1/bin/python
folder=$2
here=$(dirname "$0")
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT

has_headers() {
    "$python" -c 'import os, sysconfig
raise SystemExit(not os.path.exists(sysconfig.get_path("include") + "/Python.h"))'
}

rm -rf "$folder"
command -v cc >/dev/null 2>&1 || "$here/apt_install.sh" gcc || true
[ -e /usr/include/stdlib.h ] || "$here/apt_install.sh" libc6-dev || true
has_headers || "$here/apt_install.sh" python3-dev || true
if ! command -v cc >/dev/null 2>&1 || ! has_headers; then
    echo "The hot path is NOT compiled: there is no C compiler (cc), or no Python.h." >&2
    [ "${CI:-}" = true ] && exit 1
    exit 0
fi

echo "Compiling the hot path into $folder ..."
# A copy, so that nothing of the build lies in the working tree.
cp -R setup.py pyproject.toml README.md LICENSE services shared "$work"
if ! (cd "$work" && POSTROAD_COMPILE=1 "$python" -m pip --disable-pip-version-check wheel \
    --no-deps --no-build-isolation --wheel-dir "$work/wheel" .) >"$work/log" 2>&1; then
    tail -n 40 "$work/log" >&2
    exit 1
fi
"$python" -m pip --disable-pip-version-check --quiet install --no-deps --no-compile \
    --target "$folder" "$work"/wheel/*.whl
touch "$folder/built"
