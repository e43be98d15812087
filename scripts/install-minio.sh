#!/bin/sh
# Installs MinIO for the tests, from source by the Go toolchain, in ${TIDEGATE_TOOLS:-~/.cache/tidegate}/bin.
# The version is pinned: the tests describe how this one behaves.
set -eu

VERSION=v0.0.0-20260212201848-7aac2a2c5b7c
. "$(dirname "$0")/go-tools.sh"

if is_there minio; then
    exit 0
fi
begin minio "$VERSION" 1.24
GOBIN="$FOLDER" go install "github.com/minio/minio@$VERSION"
echo "minio: $FOLDER/minio"
