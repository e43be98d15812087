#!/bin/sh
# Installs what makes a release in ${TIDEGATE_TOOLS:-~/.cache/tidegate}/bin, where it is missing: cargo-deb for the Debian package,
# cargo-cyclonedx for the list of what the binary is made of.
set -eu
FOLDER="${TIDEGATE_TOOLS:-$HOME/.cache/tidegate}"
install() {
    if [ -x "$FOLDER/bin/$1" ] || command -v "$1" >/dev/null; then
        return
    fi
    echo "$1: building $2 into $FOLDER/bin (once; some minutes)"
    # Unoptimised: building takes longer than running.
    cargo install --quiet --locked --profile dev --root "$FOLDER" "$1@$2"
}
install cargo-deb 3.8.0
install cargo-cyclonedx 0.5.9
