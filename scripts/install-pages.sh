#!/bin/sh
# Installs what checks the pages' JavaScript in ${TIDEGATE_TOOLS:-~/.cache/tidegate}/pages: the versions of scripts/pages/package-lock.json.
set -eu
FOLDER="${TIDEGATE_TOOLS:-$HOME/.cache/tidegate}/pages"
SOURCE="$(cd "$(dirname "$0")" && pwd)/pages"
if cmp -s "$SOURCE/package-lock.json" "$FOLDER/package-lock.json" && [ -x "$FOLDER/node_modules/.bin/tsc" ]; then
    exit
fi
# Debian's Node is enough for it, and another one is as good.
command -v npm >/dev/null || "$(dirname "$0")/install-build.sh" node:nodejs npm:npm
mkdir -p "$FOLDER"
cp "$SOURCE/package.json" "$SOURCE/package-lock.json" "$FOLDER/"
(cd "$FOLDER" && npm ci --silent --no-audit --no-fund --ignore-scripts)
