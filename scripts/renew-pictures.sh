#!/bin/sh
# Renews the pictures of README.md and docs: pages of the program in Chromium, with sample tracks and films.
set -eu
cd "$(dirname "$0")/.."
TIDEGATE_REQUIRE_REAL=1 cargo test --locked --test it -- --ignored pictures_of_the_player_page a_picture_of_the_film_page
git --no-pager diff --stat -- docs
