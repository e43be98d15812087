#!/bin/sh
# One crypto provider under rustls: ring. With a second one, rustls cannot choose a default and panics at first use.
set -eu
stack=$(cargo tree --locked -e no-dev -f '{p} {f}' --prefix none | sed 's/ (\*)$//' | grep '^rustls v' | sort -u)
printf '%s\n' "$stack"
case "$stack" in
    *aws_lc_rs* | *aws-lc-rs*)
        echo "rustls has the aws_lc_rs feature: see who asks for it with  cargo tree -e features -i rustls" >&2
        exit 1
        ;;
    *ring*) ;;
    *)
        echo "rustls has no crypto provider" >&2
        exit 1
        ;;
esac
