# Tidegate as an image: built from source, run as nobody, one binary.
#   docker build -t tidegate --build-arg VERSION=0.1.0 --build-arg REVISION="$(git rev-parse HEAD)" .

FROM rust:1.95-bookworm AS tools
RUN apt-get update && apt-get install -y --no-install-recommends cmake && rm -rf /var/lib/apt/lists/*
WORKDIR /src

# The workspace without its code: what comes out is the same until a manifest changes.
FROM tools AS manifests
COPY . .
RUN scripts/only-manifests.sh /manifests

FROM tools AS build
COPY --from=manifests /manifests ./
# All dependencies: a layer that is kept as long as the manifests are the same.
RUN scripts/dist.sh
COPY . .
# The code is older than what was built of the empty members, and would be taken for built.
RUN find src crates -name '*.rs' -exec touch {} + && cp "$(scripts/dist.sh)" /tidegate

FROM debian:bookworm-slim
ARG VERSION=unreleased
ARG REVISION=unknown
LABEL org.opencontainers.image.title="Tidegate" \
      org.opencontainers.image.description="A reverse proxy for object storage" \
      org.opencontainers.image.source="https://github.com/tidegate/tidegate" \
      org.opencontainers.image.documentation="https://github.com/tidegate/tidegate/tree/main/docs" \
      org.opencontainers.image.licenses="Apache-2.0" \
      org.opencontainers.image.version="${VERSION}" \
      org.opencontainers.image.revision="${REVISION}"
RUN apt-get update && apt-get install -y --no-install-recommends ca-certificates && rm -rf /var/lib/apt/lists/* \
    && useradd --system --uid 10001 --user-group --home-dir /var/lib/tidegate --create-home --shell /usr/sbin/nologin tidegate
COPY --from=build /tidegate /usr/local/bin/tidegate
COPY deploy/tidegate.yaml /etc/tidegate/tidegate.yaml
# A number, so that Kubernetes sees that it is not root.
USER 10001:10001
WORKDIR /var/lib/tidegate
EXPOSE 8080 9901
# The port of Server.Admin in the configuration: set it with -e where yours is another.
ENV TIDEGATE_ADMIN_PORT=9901
# By the shell itself, so that the image needs no client.
HEALTHCHECK --interval=10s --timeout=3s CMD ["bash", "-c", "exec 3<>/dev/tcp/127.0.0.1/${TIDEGATE_ADMIN_PORT} && printf 'GET /livez HTTP/1.0\\r\\nHost: localhost\\r\\n\\r\\n' >&3 && read -r _ status _ <&3 && [ \"$status\" = 200 ]"]
ENTRYPOINT ["tidegate"]
CMD ["serve", "-c", "/etc/tidegate/tidegate.yaml"]
