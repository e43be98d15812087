#!/bin/sh
# scripts/release.sh [BINARY]: what is published of a version, in target/release-files (or RELEASE_FOLDER): an archive and a Debian package for this
# kind of machine, the source, the Helm chart, the list of what the binary is made of (CycloneDX), and checksums of all. Without BINARY it is
# built as it is shipped (scripts/dist.sh). It needs the tools of scripts/install-release.sh, and Helm for the chart.
set -eu
cd "$(dirname "$0")/.."
PATH="${TIDEGATE_TOOLS:-$HOME/.cache/tidegate}/bin:$HOME/.cache/tidegate/bin:$PATH"
export PATH
for tool in cargo-deb cargo-cyclonedx dpkg-deb helm; do
    command -v "$tool" >/dev/null || { echo "$tool is missing: scripts/install-release.sh, scripts/install-kubernetes.sh" >&2; exit 1; }
done
binary=${1:-$(scripts/dist.sh)}
folder=${RELEASE_FOLDER:-target/release-files}
version=$(cargo pkgid --locked -p tidegate | sed 's/.*[#@]//')
machine=$(rustc -vV | sed -n 's/^host: //p')
# The same commit gives the same archives.
SOURCE_DATE_EPOCH=$(git log -1 --format=%ct)
export SOURCE_DATE_EPOCH
rm -rf "$folder"
mkdir -p "$folder"
folder=$(cd "$folder" && pwd)
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT

# pack NAME: the folder of this name in $work as an archive.
pack() {
    tar -C "$work" --sort=name --owner=0 --group=0 --numeric-owner --mtime="@$SOURCE_DATE_EPOCH" -cf - "$1" | gzip -n >"$folder/$1.tar.gz"
}

name="tidegate-$version-$machine"
mkdir -p "$work/$name/systemd"
install -m 755 "$binary" "$work/$name/tidegate"
cp LICENSE README.md CHANGELOG.md SECURITY.md "$work/$name/"
cp -R conf "$work/$name/conf"
rm -rf "$work/$name/conf/bad"
cp deploy/systemd/* "$work/$name/systemd/"
pack "$name"

source="tidegate-$version-source"
mkdir "$work/$source"
git archive HEAD | tar -x -C "$work/$source"
pack "$source"

# It writes a file beside each manifest: there, and not here.
(cd "$work/$source" && cargo cyclonedx --quiet --format json --spec-version 1.5 --target "$machine")
# Where it was made is nobody's business, and would be another one each time.
sed "s#$work/$source#/tidegate#g" "$work/$source/tidegate.cdx.json" >"$folder/$name.cdx.json"

scripts/deb.sh "$binary" "$folder" >/dev/null
helm package deploy/helm/tidegate --version "$version" --app-version "$version" --destination "$folder" >/dev/null
(cd "$folder" && sha256sum -- *.tar.gz *.cdx.json *.deb *.tgz >SHA256SUMS)
ls -l "$folder"
