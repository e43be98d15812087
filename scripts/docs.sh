#!/bin/sh
# Makes the site of the documentation in target/site, or in the folder that is named, which is emptied before. Beside the pages stand the
# files of the repository that they link to: a link means the same in the repository, on a forge and in the site.
set -eu
. "$(dirname "$0")/tools.sh"
cd "$(dirname "$0")/.."
site=${1:-target/site}
if ! is_there mdbook >/dev/null; then
    echo "mdBook is missing: scripts/install-mdbook.sh" >&2
    exit 1
fi
rm -rf "$site"
mkdir -p "$site"
# Warnings are of links between pages, and of HTML that is not closed.
"$found" build --dest-dir "$(cd "$site" && pwd)/docs" 2>"$site/mdbook.log" || { cat "$site/mdbook.log" >&2; exit 1; }
if grep -E 'WARN|ERROR' "$site/mdbook.log" >&2; then
    exit 1
fi
rm "$site/mdbook.log"
# Links that leave docs/, with the folder that each page is in.
grep -roE '\]\((\.\./)+[^)# ]+' docs --include='*.md' | while IFS=: read -r page link; do
    target=$(realpath --relative-to=. -m "$(dirname "$page")/${link#*(}")
    case "$target" in docs/*) continue ;; esac
    mkdir -p "$site/$(dirname "$target")"
    cp -R "$target" "$site/$(dirname "$target")/"
done
cat >"$site/index.html" <<'END'
<!DOCTYPE html>
<html lang="en"><meta charset="utf-8"><title>Tidegate</title><meta http-equiv="refresh" content="0; url=docs/index.html">
<p><a href="docs/index.html">Tidegate's documentation</a></p></html>
END
echo "$site/index.html"
