#!/bin/sh
# Types of the pages' JavaScript, by TypeScript, in its strict mode: `scripts/pages`. Nothing of it is shipped or needed to build.
set -eu
cd "$(dirname "$0")/.."
FOLDER="${TIDEGATE_TOOLS:-$HOME/.cache/tidegate}/pages"
OUT=target/pages
mkdir -p "$OUT"
# elements NAME PAGE.html...: types of the elements that scripts/pages/NAME.json may ask for.
elements() {
    name=$1
    shift
    node scripts/pages/element-types.js "$@" >"$OUT/$name.d.ts"
}
elements admin crates/admin-page/src/page/admin.html
elements films crates/vod/src/page/watch.html
elements share crates/share/src/transport/pages/listen.html crates/share/src/transport/pages/host.html
elements docs crates/server-kit/src/api/docs_page/docs.html
elements player crates/player-page/src/page/player.html
for name in admin docs films share player; do
    "$FOLDER/node_modules/.bin/tsc" -p "scripts/pages/$name.json"
done
