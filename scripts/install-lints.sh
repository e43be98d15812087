#!/bin/sh
# Installs the tools of `make lint` in ${TIDEGATE_TOOLS:-~/.cache/tidegate}/bin, where they are missing.
set -eu
. "$(dirname "$0")/tools.sh"
cargo_tool cargo-deny 0.20.2
cargo_tool cargo-machete 0.9.2
