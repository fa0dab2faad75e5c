#!/bin/sh
# Write what the image is made of, with the hash of every file that it may be: deploy/requirements.txt
# (what postroad and its extras need, at the versions of constraints.txt) and
# deploy/requirements-build.txt (what makes its wheel). Usage: scripts/hashes.sh PYTHON
set -eu
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT

scripts/create_venv.sh "$1" "$folder/venv" >/dev/null
"$folder/venv/bin/python" -m pip --disable-pip-version-check --quiet install uv

resolve() {
    target=$1
    shift
    {
        echo "# Written by make hashes from constraints.txt: what deploy/Dockerfile installs."
        "$folder/venv/bin/uv" pip compile --quiet --no-config --no-header --no-annotate \
            --universal --python-version 3.11 --generate-hashes \
            --constraint constraints.txt "$@"
    } >"$folder/$target"
    mv "$folder/$target" "deploy/$target"
}

# All that postroad can do, so all its extras but the workshop's.
extras=$("$folder/venv/bin/python" -c 'import tomllib
with open("pyproject.toml", "rb") as file:
    extras = tomllib.load(file)["project"]["optional-dependencies"]
print(*[f"--extra={name}" for name in extras if name != "dev"])')
# shellcheck disable=SC2086 -- one word each
resolve requirements.txt pyproject.toml $extras
# pip is in the base image; these are not. The last two compile the hot path.
printf '%s\n' "setuptools>=77" "mypy>=2.4" "types-PyYAML>=6.0.12" >"$folder/build.in"
resolve requirements-build.txt "$folder/build.in"
echo "deploy/requirements.txt and deploy/requirements-build.txt are written."
