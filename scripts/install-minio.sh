#!/bin/sh
# Installs MinIO for the tests, from source by the Go toolchain, in ${TIDEGATE_TOOLS:-~/.cache/tidegate}/bin.
# The version is pinned: the tests describe how this one behaves.
set -eu

VERSION=v0.0.0-20260212201848-7aac2a2c5b7c
FOLDER="${TIDEGATE_TOOLS:-$HOME/.cache/tidegate}/bin"

# The same places, in the same order, as tests/it/support/tools.rs.
for found in "$FOLDER/minio" "$(command -v minio || true)" "$HOME/.cache/tidegate/bin/minio"; do
    if [ -n "$found" ] && [ -x "$found" ]; then
        echo "MinIO: $found"
        exit 0
    fi
done

if ! command -v go >/dev/null; then
    echo "MinIO is built with Go: install Go 1.24 or newer (https://go.dev/dl/) and run this again" >&2
    exit 1
fi
echo "MinIO: building $VERSION into $FOLDER (once; some minutes)"
mkdir -p "$FOLDER"
GOBIN="$FOLDER" go install "github.com/minio/minio@$VERSION"
echo "MinIO: $FOLDER/minio"
