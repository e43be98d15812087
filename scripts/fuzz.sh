#!/bin/sh
# Runs each fuzz target for FUZZ_SECONDS (600), as many at once as there are cores. TARGET: a part of the name of those to run.
set -eu
cd "$(dirname "$0")/.."
export BOLERO_RANDOM_TEST_TIME_MS="${FUZZ_SECONDS:-600}000" RUST_BACKTRACE="${RUST_BACKTRACE:-0}"
exec cargo test --locked --workspace --exclude loadtest --lib -- "fuzz::${TARGET:-}"
