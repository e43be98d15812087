#!/bin/sh
# scripts/deb.sh BINARY [FOLDER]: a Debian package with this binary, in FOLDER (default: target/release-files). It needs cargo-deb
# (scripts/install-release.sh), dpkg and xz. DEB_OPTIONS: further options of cargo-deb, such as --fast for a larger package.
set -eu
cd "$(dirname "$0")/.."
binary=$1
folder=${2:-target/release-files}
files=target/debian-files
rm -rf "$files"
mkdir -p "$files/units" "$folder"
install -m 755 "$binary" "$files/tidegate"
# A package puts its program into /usr/bin; /usr/local is the administrator's.
sed 's#/usr/local/bin/tidegate#/usr/bin/tidegate#' deploy/systemd/tidegate.service >"$files/units/tidegate.service"
# The options are words, parted by blanks.
# shellcheck disable=SC2086
PATH="${TIDEGATE_TOOLS:-$HOME/.cache/tidegate}/bin:$PATH" cargo deb --no-build --no-strip -p tidegate --compress-system ${DEB_OPTIONS:-} --output "$folder"
