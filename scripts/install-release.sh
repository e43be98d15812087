#!/bin/sh
# Installs what makes a release in ${TIDEGATE_TOOLS:-~/.cache/tidegate}/bin, where it is missing: cargo-deb for the Debian package,
# cargo-cyclonedx for the list of what the binary is made of.
set -eu
. "$(dirname "$0")/tools.sh"
cargo_tool cargo-deb 3.8.0
cargo_tool cargo-cyclonedx 0.5.9
