#!/bin/sh
# Renews what programs write into the repository: the schema and the reference, the list of metrics, and the manifests for Kubernetes.
set -eu
cd "$(dirname "$0")/.."
cargo build --locked
program=target/debug/tidegate

$program schema >conf/schema.json
reference=$(mktemp)
$program schema --reference >"$reference"
awk -v reference="$reference" '
    /<!-- \/reference -->/ { inside = 0 }
    !inside { print }
    /<!-- reference -->/ { inside = 1; print ""; while ((getline line < reference) > 0) print line }
' docs/configuration.md >"$reference.whole"
cat "$reference.whole" >docs/configuration.md
rm "$reference" "$reference.whole"
scripts/renew-metrics.sh
scripts/renew-kubernetes.sh
git --no-pager diff --stat -- conf docs deploy
