#!/bin/sh
# Build the container image with Docker, labelled with version, revision and the time of the commit;
# buildx adds a list of all that is in it (SBOM) and of how it was made. Usage:
# scripts/build_image.sh [options of docker buildx build, such as --load, --push or --platform]
set -eu
name=${IMAGE:-ghcr.io/postroad/postroad}
version=$(sed -n 's/^version = "\(.*\)"/\1/p' pyproject.toml)
commit=$(git rev-parse HEAD)
seconds=$(git log -1 --format=%ct)

export SOURCE_DATE_EPOCH="$seconds"
exec docker buildx build --file deploy/Dockerfile --tag "$name:$version" \
    --build-arg "VERSION=$version" \
    --build-arg "REVISION=$commit" \
    --build-arg "CREATED=$(date --utc --date "@$seconds" +%Y-%m-%dT%H:%M:%SZ)" \
    --build-arg SOURCE_DATE_EPOCH \
    --sbom=true --provenance=mode=max "$@" .
