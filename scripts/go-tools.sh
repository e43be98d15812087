# For the scripts that install test tools from source by the Go toolchain; sourced, not run.

. "$(dirname "$0")/tools.sh"

# begin PROGRAM VERSION GO: says what is built, or that Go of this version is missing.
begin() {
    if ! command -v go >/dev/null; then
        echo "$1 is built with Go: install Go $3 or newer (https://go.dev/dl/) and run this again" >&2
        exit 1
    fi
    echo "$1: building $2 into $FOLDER (once; some minutes)"
    mkdir -p "$FOLDER"
}
