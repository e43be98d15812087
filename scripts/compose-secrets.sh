#!/bin/sh
# Writes the secrets of docker-compose.yml into .env, random ones, once: a file that is there is left alone.
set -eu
cd "$(dirname "$0")/.."
if [ -e .env ]; then
    echo ".env is there already: nothing is changed"
    exit 0
fi
random() { od -An -N24 -tx1 /dev/urandom | tr -d ' \n'; }
umask 077
for name in S3_SECRET_KEY JWT_SECRET_KEY ADMIN_TOKEN POSTGRES_PASSWORD; do
    echo "$name=$(random)"
done > .env
echo "secrets written to .env"
