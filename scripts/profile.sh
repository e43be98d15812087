#!/bin/sh
# Records anew what the compiler is told of the code that runs most: loadtest/tidegate.profdata. Worth it after large changes;
# a profile that is behind the code costs nothing but what it would have gained. Takes about half an hour.
set -eu
cd "$(dirname "$0")/.."
# As rustup brings it (`rustup component add llvm-tools`), or of the same version of LLVM.
version=$(rustc -vV | sed -n 's/^LLVM version: \([0-9]*\).*/\1/p')
merge="$(rustc --print sysroot)/lib/rustlib/$(rustc -vV | sed -n 's/^host: //p')/bin/llvm-profdata"
[ -x "$merge" ] || rustup component add llvm-tools >&2 || true
[ -x "$merge" ] || merge=$(command -v "llvm-profdata-$version") || {
    echo "llvm-profdata is missing: rustup component add llvm-tools, or apt-get install llvm-$version" >&2
    exit 1
}
tidegate=$(scripts/dist.sh record)
rm -rf target/record/counts
ulimit -n "$(ulimit -Hn)"
PATH="$PATH:/usr/sbin" cargo run --release --locked -p loadtest -- --tidegate "$tidegate" --rounds 1 --seconds 4 \
    cpu-1k ranges whole cached players players-cached api positions share-polled films
"$merge" merge --sparse -o loadtest/tidegate.profdata target/record/counts
# cargo does not see that a profile has changed.
rm -rf "target/$(rustc -vV | sed -n 's/^host: //p')/dist"
