#!/bin/sh
# scripts/only-manifests.sh FOLDER: the workspace without its code, so that an image can have a layer with the dependencies, built before: it
# is the same as long as no manifest changes. Each target is an empty one.
set -eu
cd "$(dirname "$0")/.."
folder=$1
mkdir -p "$folder/scripts" "$folder/loadtest"
cp Cargo.toml Cargo.lock rust-toolchain.toml "$folder/"
cp scripts/dist.sh "$folder/scripts/"
# What the compiler is told of the code that runs most counts for dependencies too.
cp loadtest/tidegate.profdata "$folder/loadtest/"
for manifest in Cargo.toml crates/*/Cargo.toml loadtest/Cargo.toml; do
    member=$(dirname "$manifest")
    mkdir -p "$folder/$member/src"
    cp "$manifest" "$folder/$manifest"
    for target in src/main.rs src/lib.rs build.rs; do
        if [ -e "$member/$target" ]; then
            case "$target" in
                src/lib.rs) echo '//! Nothing.' ;;
                *) echo 'fn main() {}' ;;
            esac >"$folder/$member/$target"
        fi
    done
done
