# Two stages: the toolchain builds, a small Debian runs. Nothing here needs BuildKit.
ARG RUST_IMAGE=rust:1.95-bookworm
ARG RUN_IMAGE=debian:bookworm-slim

FROM ${RUST_IMAGE} AS build
WORKDIR /src
COPY . .
# Without line tables the image is a fifth of the size; names of functions stay, for backtraces.
ENV CARGO_PROFILE_RELEASE_DEBUG=false CARGO_PROFILE_RELEASE_STRIP=debuginfo
RUN cargo build --locked --release --package ringcast-cli --bin ringcast

FROM ${RUN_IMAGE}
COPY --from=build /src/target/release/ringcast /usr/local/bin/ringcast
# The volume of the coordinator takes over owner and mode of this folder.
RUN mkdir -p /var/lib/ringcast && chown 65534:65534 /var/lib/ringcast
USER 65534:65534
ENTRYPOINT ["/usr/local/bin/ringcast"]
