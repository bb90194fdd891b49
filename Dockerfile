# A static binary in an empty image, for amd64 and arm64:
#   docker buildx build --platform linux/amd64,linux/arm64 -t IMG .
# Each platform compiles for itself (under emulation where the machine is another one): no cross compiler is needed.
FROM rust:1.95-bookworm AS build
WORKDIR /src
COPY . .
# glibc's allocator and resolver are the ones that imagehub is measured with; linked statically they need no files.
ENV RUSTFLAGS="-C target-feature=+crt-static"
RUN host=$(rustc -vV | sed -n 's/^host: //p') \
 && cargo build --release --locked --bin imagehub --target "$host" \
 && cp "target/$host/release/imagehub" /imagehub

FROM scratch
COPY --from=build /imagehub /imagehub
USER 65532:65532
EXPOSE 8443 8080
ENTRYPOINT ["/imagehub"]
CMD ["serve"]
