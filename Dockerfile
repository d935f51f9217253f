# weir in a container. scripts/image builds and checks it; docs/deploy.md says how to run it.
#
# Both stages are of one Debian release: the binary links to the C library it was built with.

FROM rust:1.95-bookworm AS build
WORKDIR /src
COPY . .
# What cargo keeps stays on the machine that builds: the next build compiles only what has changed since.
RUN --mount=type=cache,target=/usr/local/cargo/registry --mount=type=cache,target=/src/target \
    scripts/setup build \
    && cargo build --profile dist --locked --workspace --bin weir \
    && install -D target/dist/weir /out/usr/local/bin/weir \
    && install -D -m 644 /etc/ssl/certs/ca-certificates.crt /out/etc/ssl/certs/ca-certificates.crt \
    && install -d -o 65532 -g 65532 /out/var/lib/weir

FROM debian:bookworm-slim
LABEL org.opencontainers.image.title="weir" \
    org.opencontainers.image.description="A streaming engine in one binary" \
    org.opencontainers.image.licenses="Apache-2.0"
COPY --from=build /out /
# A number, as Kubernetes takes only that for a proof of runAsNonRoot.
USER 65532:65532
# The one place that must be writable: `.weir` is made here, and what little is temporary.
WORKDIR /var/lib/weir
VOLUME /var/lib/weir
ENV TMPDIR=/var/lib/weir
HEALTHCHECK --interval=10s --timeout=5s --start-period=10s CMD ["weir", "health", "/etc/weir"]
ENTRYPOINT ["weir"]
CMD ["run", "/etc/weir"]
