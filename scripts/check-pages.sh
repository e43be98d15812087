#!/bin/sh
# Types of the pages' JavaScript, by TypeScript, in its strict mode: `scripts/pages`. Nothing of it is shipped or needed to build.
set -eu
cd "$(dirname "$0")/.."
FOLDER="${TIDEGATE_TOOLS:-$HOME/.cache/tidegate}/pages"
OUT=target/pages
mkdir -p "$OUT"
# check NAME PAGE.html...: the scripts that scripts/pages/NAME.json lists, with the elements of those pages.
check() {
    name=$1
    shift
    node scripts/pages/element-types.js "$@" >"$OUT/$name.d.ts"
    echo "types of the $name page"
    "$FOLDER/node_modules/.bin/tsc" -p "scripts/pages/$name.json"
}
check films crates/vod/src/page/watch.html
check share crates/share/src/transport/pages/listen.html crates/share/src/transport/pages/host.html
