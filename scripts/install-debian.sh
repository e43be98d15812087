#!/bin/sh
# Installs the Debian packages that the build and the tests need, where their programs are missing.
set -eu
exec "$(dirname "$0")/install-build.sh" curl:curl openssl:openssl ffmpeg:ffmpeg ffprobe:ffmpeg \
    h2load:nghttp2-client mpv:mpv "cvlc:vlc-bin vlc-plugin-base" \
    "gst-launch-1.0:gstreamer1.0-tools gstreamer1.0-plugins-base gstreamer1.0-plugins-good gstreamer1.0-plugins-bad gstreamer1.0-libav" \
    chromium:chromium chromedriver:chromium-driver redis-server:redis-server icecast2:icecast2 rsyslogd:rsyslog haproxy:haproxy nginx:nginx-light caddy:caddy logrotate:logrotate pip3:python3-pip \
    pg_isready:postgresql promtool:prometheus java:openjdk-17-jre-headless mvn:maven systemd-analyze:systemd
