#!/bin/sh
# Installs the Debian packages that the build and the tests need, where their programs are missing.
set -eu

# program package
NEEDED='
cc build-essential
cmake cmake
curl curl
openssl openssl
ffmpeg ffmpeg
ffprobe ffmpeg
chromium chromium
chromedriver chromium-driver
'

packages=$(printf '%s\n' "$NEEDED" | while read -r program package; do
    [ -z "$program" ] || command -v "$program" >/dev/null || printf '%s\n' "$package"
done | sort -u | tr '\n' ' ')

if [ -n "$packages" ]; then
    echo "installing: $packages"
    if ! command -v apt-get >/dev/null; then
        echo "apt-get is missing; install the equivalents of these Debian packages: $packages" >&2
        exit 1
    fi
    sudo=''
    [ "$(id -u)" = 0 ] || sudo='sudo'
    $sudo apt-get update -qq
    # The names are words of ours, parted by blanks.
    # shellcheck disable=SC2086
    DEBIAN_FRONTEND=noninteractive $sudo apt-get install -y -qq --no-install-recommends $packages
else
    echo "Debian packages: all there"
fi

if ! command -v cargo >/dev/null; then
    echo "Rust is missing: install rustup (https://rustup.rs); rust-toolchain.toml names the version" >&2
    exit 1
fi
