#!/bin/sh
# Installs the Debian packages that the build and the tests need, where their programs are missing.
set -eu
exec "$(dirname "$0")/install-build.sh" curl:curl openssl:openssl ffmpeg:ffmpeg ffprobe:ffmpeg \
    h2load:nghttp2-client chromium:chromium chromedriver:chromium-driver redis-server:redis-server haproxy:haproxy \
    nginx:nginx-light pg_isready:postgresql java:openjdk-17-jre-headless mvn:maven systemd-analyze:systemd
