#!/bin/sh
# Installs h2spec, which checks HTTP/2 servers against RFC 9113 and RFC 7541, from source by the Go toolchain, in
# ${TIDEGATE_TOOLS:-~/.cache/tidegate}/bin. The versions are pinned, also of what it is built from, since it names none.
set -eu

VERSION=v2.2.1+incompatible
. "$(dirname "$0")/go-tools.sh"

if is_there h2spec; then
    exit 0
fi
begin h2spec "$VERSION" 1.24
module=$(mktemp -d)
trap 'rm -rf "$module"' EXIT
cd "$module"
go mod init build >/dev/null 2>&1
go get "github.com/summerwind/h2spec/cmd/h2spec@$VERSION" golang.org/x/net@v0.50.0 github.com/spf13/cobra@v1.10.2 \
    github.com/fatih/color@v1.18.0 >/dev/null
go build -o "$FOLDER/h2spec" github.com/summerwind/h2spec/cmd/h2spec
echo "h2spec: $FOLDER/h2spec"
