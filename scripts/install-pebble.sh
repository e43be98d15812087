#!/bin/sh
# Installs Pebble for the tests, the ACME server that Let's Encrypt tests clients with, and the DNS server that comes with
# it, from source by the Go toolchain, in ${TIDEGATE_TOOLS:-~/.cache/tidegate}/bin. The version is pinned.
set -eu

VERSION=v2.10.3
. "$(dirname "$0")/go-tools.sh"

if is_there pebble && is_there pebble-challtestsrv; then
    exit 0
fi
begin pebble "$VERSION" 1.25
GOBIN="$FOLDER" go install "github.com/letsencrypt/pebble/v2/cmd/pebble@$VERSION" \
    "github.com/letsencrypt/pebble/v2/cmd/pebble-challtestsrv@$VERSION"
echo "pebble: $FOLDER/pebble"
