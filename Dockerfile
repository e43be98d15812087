# Tidegate as an image: built from source, run as nobody, one binary.

FROM rust:1.95-bookworm AS build
RUN apt-get update && apt-get install -y --no-install-recommends cmake && rm -rf /var/lib/apt/lists/*
WORKDIR /src
COPY . .
RUN cp "$(scripts/dist.sh)" /tidegate

FROM debian:bookworm-slim
RUN apt-get update && apt-get install -y --no-install-recommends ca-certificates curl && rm -rf /var/lib/apt/lists/* \
    && useradd --system --uid 10001 --home-dir /var/lib/tidegate --create-home tidegate
COPY --from=build /tidegate /usr/local/bin/tidegate
COPY deploy/tidegate.yaml /etc/tidegate/tidegate.yaml
USER tidegate
WORKDIR /var/lib/tidegate
EXPOSE 8080 9901
# The port of Server.Admin in the configuration: set it with -e where yours is another.
ENV TIDEGATE_ADMIN_PORT=9901
HEALTHCHECK --interval=10s --timeout=3s CMD curl -fsS "http://127.0.0.1:${TIDEGATE_ADMIN_PORT}/livez"
ENTRYPOINT ["tidegate"]
CMD ["serve", "-c", "/etc/tidegate/tidegate.yaml"]
