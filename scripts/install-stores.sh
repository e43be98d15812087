#!/bin/sh
# Installs two more stores for the tests, versitygw and rclone, from source by the Go toolchain, in
# ${TIDEGATE_TOOLS:-~/.cache/tidegate}/bin. The versions are pinned: the tests describe how these behave.
set -eu

VERSITYGW=v1.8.0
RCLONE=v1.76.0
. "$(dirname "$0")/go-tools.sh"

if ! is_there versitygw; then
    begin versitygw "$VERSITYGW" 1.25
    GOBIN="$FOLDER" nice go install -trimpath -ldflags='-s -w' "github.com/versity/versitygw/cmd/versitygw@$VERSITYGW"
    echo "versitygw: $FOLDER/versitygw"
fi

# Only what serves a folder by S3: all of rclone, with the clients of seventy services, takes three times as long.
if ! is_there rclone; then
    begin rclone "$RCLONE" 1.26
    work=$(mktemp -d)
    trap 'rm -rf "$work"' EXIT
    cat >"$work/main.go" <<END
package main

import (
	_ "github.com/rclone/rclone/backend/local"
	"github.com/rclone/rclone/cmd"
	_ "github.com/rclone/rclone/cmd/serve/s3"
)

func main() { cmd.Main() }
END
    printf 'module rclone\n\ngo 1.26.0\n\nrequire github.com/rclone/rclone %s\n' "$RCLONE" >"$work/go.mod"
    (cd "$work" && nice go build -mod=mod -trimpath -ldflags='-s -w' -o "$FOLDER/rclone" .)
    echo "rclone: $FOLDER/rclone"
fi
