#!/bin/sh
# Installs what building needs (a C compiler, cmake) on Debian, and says how to get Rust where it is missing.
# Further packages may be named as arguments: each as program:package, installed where the program is missing.
set -eu

missing=''
for pair in cc:build-essential cmake:cmake "$@"; do
    command -v "${pair%%:*}" >/dev/null || missing="$missing ${pair#*:}"
done

if [ -n "$missing" ]; then
    echo "installing:$missing"
    if ! command -v apt-get >/dev/null; then
        echo "apt-get is missing; install the equivalents of these Debian packages:$missing" >&2
        exit 1
    fi
    sudo=''
    [ "$(id -u)" = 0 ] || sudo='sudo'
    $sudo apt-get update -qq
    # The names are words of ours, parted by blanks.
    # shellcheck disable=SC2086
    $sudo env DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends $missing
else
    echo "Debian packages: all there"
fi

if ! command -v cargo >/dev/null; then
    cat >&2 <<'END'
Rust is missing. Install rustup (https://rustup.rs); it brings the version that rust-toolchain.toml names:

    curl --proto '=https' --tlsv1.2 -sSf https://sh.rustup.rs | sh -s -- -y
    . "$HOME/.cargo/env"
END
    exit 1
fi
