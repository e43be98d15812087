#!/bin/sh
# Every shipped configuration passes `tidegate check`, with the environment that it asks for.
set -eu
cd "$(dirname "$0")/.."
export S3_ENDPOINT_URL=http://127.0.0.1:9000 S3_ACCESS_KEY=check S3_SECRET_KEY=check-check-check
export JWT_SECRET_KEY=a-secret-for-checking-the-shipped-files ADMIN_TOKEN=check-check-check BEARER_TOKEN=check-check-check
export REDIS_URL=redis://127.0.0.1:6379 DATABASE_URL=postgres://check@127.0.0.1/check KAFKA_BROKERS=127.0.0.1:9092 KAFKA_BOOTSTRAP_SERVERS=127.0.0.1:9092
export PORT=8080 LOG_LEVEL=info
# With the tests, as they are built before: alone it would have other features, and all would be built anew.
cargo build --locked --quiet --bins --tests
for file in conf/*.yaml conf/*.json deploy/tidegate.yaml deploy/debian/tidegate.yaml; do
    case "$file" in conf/schema.json | *'*'*) continue ;; esac
    echo "$file"
    target/debug/tidegate check "$file"
done
