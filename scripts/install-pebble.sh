#!/bin/sh
# Installs Pebble for the tests, the ACME server that Let's Encrypt tests clients with, and the DNS server that comes with
# it, from source by the Go toolchain, in ${TIDEGATE_TOOLS:-~/.cache/tidegate}/bin. The version is pinned.
set -eu

VERSION=v2.10.3
FOLDER="${TIDEGATE_TOOLS:-$HOME/.cache/tidegate}/bin"

# The same places, in the same order, as tests/it/support/tools.rs.
is_there() {
    for found in "$FOLDER/$1" "$(command -v "$1" || true)" "$HOME/.cache/tidegate/bin/$1"; do
        if [ -n "$found" ] && [ -x "$found" ]; then
            echo "$1: $found"
            return
        fi
    done
    return 1
}

if is_there pebble && is_there pebble-challtestsrv; then
    exit 0
fi
if ! command -v go >/dev/null; then
    echo "Pebble is built with Go: install Go 1.24 or newer (https://go.dev/dl/) and run this again" >&2
    exit 1
fi
echo "Pebble: building $VERSION into $FOLDER (once)"
mkdir -p "$FOLDER"
GOBIN="$FOLDER" go install "github.com/letsencrypt/pebble/v2/cmd/pebble@$VERSION" \
    "github.com/letsencrypt/pebble/v2/cmd/pebble-challtestsrv@$VERSION"
echo "Pebble: $FOLDER/pebble"
