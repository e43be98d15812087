#!/bin/sh
# One crypto library, aws-lc-rs. With two providers rustls cannot choose a default and panics at first use, and each costs a minute to build.
set -eu
stack=$(cargo tree --locked -e no-dev -f '{p} {f}' --prefix none | sed 's/ (\*)$//')
printf '%s\n' "$stack" | grep '^rustls v' | sort -u
if printf '%s\n' "$stack" | grep '^ring v'; then
    echo "ring is built beside aws-lc-rs: see who asks for it with  cargo tree -i ring" >&2
    exit 1
fi
if ! printf '%s\n' "$stack" | grep '^rustls v' | grep -q 'aws_lc_rs'; then
    echo "rustls has no crypto provider" >&2
    exit 1
fi
