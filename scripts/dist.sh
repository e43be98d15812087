#!/bin/sh
# Builds Tidegate as it is shipped and prints where the binary is. What the compiler is told of the code that runs most, and
# so lays together, was recorded under the load test (`make profile`). With `record` as argument: a binary that records.
set -eu
cd "$(dirname "$0")/.."
target=$(rustc -vV | sed -n 's/^host: //p')
case "${1:-}" in
    record)
        folder=target/record
        flags="-Cprofile-generate=$PWD/target/record/counts"
        ;;
    '')
        folder=target
        # Where the code has moved on it says nothing, and is not needed.
        flags="-Cprofile-use=$PWD/loadtest/tidegate.profdata -Cllvm-args=-no-pgo-warn-mismatch"
        ;;
    *)
        echo "usage: scripts/dist.sh [record]" >&2
        exit 2
        ;;
esac
# For a named target, so that what only runs while building is built without them.
RUSTFLAGS="${RUSTFLAGS:-} $flags" \
    cargo build --locked --profile dist --target "$target" --target-dir "$folder" -p tidegate --bin tidegate >&2
echo "$folder/$target/dist/tidegate"
