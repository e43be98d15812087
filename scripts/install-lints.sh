#!/bin/sh
# Installs the tools of `make lint` in ${TIDEGATE_TOOLS:-~/.cache/tidegate}/bin, where they are missing.
set -eu
FOLDER="${TIDEGATE_TOOLS:-$HOME/.cache/tidegate}"
# install NAME VERSION: the program of the crate of that name.
install() {
    if [ -x "$FOLDER/bin/$1" ] || command -v "$1" >/dev/null; then
        return
    fi
    echo "$1: building $2 into $FOLDER/bin (once; some minutes)"
    # Unoptimised: it runs for a second, and building it takes longer than that.
    cargo install --quiet --locked --profile dev --root "$FOLDER" "$1@$2"
}
install cargo-deny 0.20.2
install cargo-machete 0.9.2
