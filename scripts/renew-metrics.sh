#!/bin/sh
# Writes the table of docs/metrics.md anew: every metric that a page describes, with a link to that page. With a file as argument it
# is written there.
set -eu
cd "$(dirname "$0")/.."
into=${1:-docs/metrics.md}
table=$(mktemp)
trap 'rm -f "$table" "$table.page"' EXIT
for page in docs/*.md; do
    [ "$page" = docs/metrics.md ] && continue
    awk -v page="$(basename "$page")" '
        /^# / && title == "" { title = substr($0, 3) }
        /^\| `(tidegate|novatune)_/ {
            # Cells are parted by a bar between blanks; the first may name several metrics, the last says what they mean.
            count = split(substr($0, 3, length($0) - 4), cells, / \| /)
            meaning = cells[count]
            gsub(/\]\(#/, "](" page "#", meaning)
            names = split(cells[1], name, /, /)
            for (i = 1; i <= names; i++) print "| " name[i] " | " meaning " | [" title "](" page ") |"
        }' "$page"
done | LC_ALL=C sort -u >"$table"
awk -v table="$table" '
    /<!-- \/metrics -->/ { inside = 0 }
    !inside { print }
    /<!-- metrics -->/ { inside = 1; print ""; print "| metric | meaning | more in |"; print "|---|---|---|"; while ((getline line < table) > 0) print line; print "" }
' docs/metrics.md >"$table.page"
cat "$table.page" >"$into"
