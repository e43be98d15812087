#!/bin/sh
# Licences, sources and bans of dependencies (deny.toml), and dependencies that nothing uses. Advisories are looked up where
# their database can be had: offline there is none, and the check says so.
set -eu
cd "$(dirname "$0")/.."
PATH="$PATH:${TIDEGATE_TOOLS:-$HOME/.cache/tidegate}/bin"
cargo machete
cargo deny --log-level error check bans licenses sources
if timeout 15 cargo deny --log-level off fetch db >/dev/null 2>&1; then
    cargo deny --log-level error check --disable-fetch advisories
else
    echo "advisories: not looked up, their database cannot be reached from here"
fi
