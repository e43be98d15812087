# For the scripts that install tools or run them; sourced, not run.

# Where the tools go.
FOLDER="${TIDEGATE_TOOLS:-$HOME/.cache/tidegate}/bin"

# is_there PROGRAM: says where it is, and puts that in $found. The same places, in the same order, as tests/it/support/tools.rs.
is_there() {
    for found in "$FOLDER/$1" "$(command -v "$1" || true)" "$HOME/.cache/tidegate/bin/$1"; do
        if [ -n "$found" ] && [ -x "$found" ]; then
            echo "$1: $found"
            return
        fi
    done
    return 1
}

# cargo_tool NAME VERSION: installs the program of the crate of that name, where it is missing.
cargo_tool() {
    if [ -x "$FOLDER/$1" ] || command -v "$1" >/dev/null; then
        return
    fi
    echo "$1: building $2 into $FOLDER (once; some minutes)"
    # Unoptimised: it runs for a second, and building it takes longer than that.
    cargo install --quiet --locked --profile dev --root "${FOLDER%/bin}" "$1@$2"
}
