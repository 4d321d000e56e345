# The image: one binary on a runtime without a shell.
#
#   docker build -t deepersensor .
#   docker run -d --read-only --cap-drop ALL -v deepersensor:/data -p 8080:8080 deepersensor
#
# Runs as 65534:65534, answers on 8080, keeps SQLite and a generated secret in /data. Operators' endpoints stay on loopback
# (9464) unless OPS_BIND and OPS_TOKEN say otherwise. Any verb goes after the image's name: `docker run … deepersensor check-config`.
#
# The binary is the same for the same sources and the same RUST_IMAGE: pin that by digest, and build with SOURCE_DATE_EPOCH and
# `rewrite-timestamp=true`, to get the same image (docs/containers.md).
#
# When it breaks: a member of the workspace whose manifest is not among those copied first fails the first build step;
# scripts/check/image.sh notices before.

ARG RUST_IMAGE=rust:1-bookworm
ARG RUNTIME_IMAGE=gcr.io/distroless/cc-debian12:nonroot

FROM ${RUST_IMAGE} AS build
WORKDIR /build
# Backtraces lose their names, the image a fifth of its size.
ENV CARGO_PROFILE_RELEASE_STRIP=symbols \
    RUSTFLAGS="--remap-path-prefix=/build=. --remap-path-prefix=/usr/local/cargo=cargo"

# All dependencies, with empty sources of ours: this layer stays until a manifest or the lock file changes.
COPY Cargo.toml Cargo.lock ./
COPY .cargo .cargo
COPY domain/Cargo.toml domain/
COPY actors/Cargo.toml actors/
COPY tests/support/Cargo.toml tests/support/
RUN mkdir -p src domain/src actors/src tests/support/src tests/it benches/gateway \
    && touch src/lib.rs domain/src/lib.rs actors/src/lib.rs tests/support/src/lib.rs \
    && for main in src tests/it benches/gateway; do echo 'fn main() {}' > "$main/main.rs"; done \
    && cargo build --release --locked --bin deepersensor \
    && cargo clean --release --locked --package deepersensor --package actors --package domain

COPY .sqlx .sqlx
COPY migrations migrations
COPY domain domain
COPY actors actors
COPY src src
ARG SOURCE_DATE_EPOCH=0
RUN cargo build --release --locked --bin deepersensor \
    && install -D target/release/deepersensor /image/deepersensor \
    && install -d -o 65534 -g 65534 -m 0700 /image/data \
    && touch --date="@$SOURCE_DATE_EPOCH" /image/deepersensor /image/data

FROM ${RUNTIME_IMAGE}
COPY --from=build /image/deepersensor /usr/local/bin/deepersensor
COPY --from=build --chown=65534:65534 /image/data /data
ENV APP_HOST=0.0.0.0 APP_PORT=8080 DATA_DIR=/data LOG_FORMAT=json
USER 65534:65534
WORKDIR /data
EXPOSE 8080 9464
STOPSIGNAL SIGTERM
HEALTHCHECK --interval=5s --timeout=3s --start-period=60s --retries=3 CMD ["/usr/local/bin/deepersensor", "healthcheck"]
ENTRYPOINT ["/usr/local/bin/deepersensor"]
CMD ["serve"]

ARG VERSION=0.1.0
ARG REVISION=unknown
LABEL org.opencontainers.image.title="DeeperSensor" \
      org.opencontainers.image.description="A gateway that makes a model server safe to share" \
      org.opencontainers.image.licenses="MIT" \
      org.opencontainers.image.version="${VERSION}" \
      org.opencontainers.image.revision="${REVISION}"
