#!/bin/sh
# Write what the image's Python environment is made of, as a CycloneDX list: every package with its
# version and licence (the text too), and none of the development tools. Usage: scripts/sbom.sh FILE
set -eu
# What lies about there is not in the image.
unset PYTHONPATH PYTHONSAFEPATH
file=$1
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT

pip() {
    .venv/bin/python -m pip --disable-pip-version-check --quiet \
        --python "$folder/venv/bin/python" install --no-compile "$@"
}

.venv/bin/python -m venv --without-pip "$folder/venv"
pip --require-hashes --only-binary :all: -r deploy/requirements.txt
# What setuptools builds, it builds in the folder that it reads.
mkdir "$folder/source"
cp -R pyproject.toml README.md LICENSE services shared "$folder/source"
pip --no-deps "$folder/source"
mkdir -p "$(dirname "$file")"
.venv/bin/cyclonedx-py environment --output-reproducible --gather-license-texts \
    --pyproject pyproject.toml --output-file "$file" "$folder/venv/bin/python"
echo "$file is written."
