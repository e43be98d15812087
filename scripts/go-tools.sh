# For the scripts that install test tools from source by the Go toolchain; sourced, not run.

# Where the tools go.
FOLDER="${TIDEGATE_TOOLS:-$HOME/.cache/tidegate}/bin"

# is_there PROGRAM: says where it is. The same places, in the same order, as tests/it/support/tools.rs.
is_there() {
    for found in "$FOLDER/$1" "$(command -v "$1" || true)" "$HOME/.cache/tidegate/bin/$1"; do
        if [ -n "$found" ] && [ -x "$found" ]; then
            echo "$1: $found"
            return
        fi
    done
    return 1
}

# begin PROGRAM VERSION GO: says what is built, or that Go of this version is missing.
begin() {
    if ! command -v go >/dev/null; then
        echo "$1 is built with Go: install Go $3 or newer (https://go.dev/dl/) and run this again" >&2
        exit 1
    fi
    echo "$1: building $2 into $FOLDER (once; some minutes)"
    mkdir -p "$FOLDER"
}
