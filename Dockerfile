# The daemon alone: a static binary, the certificates that TLS needs, and no
# user but its own.
#
#     docker build --build-arg VERSION=$(git describe --tags --always) -t cdc-viewlet .
FROM golang:1.26 AS build
WORKDIR /src
COPY go.mod go.sum ./
RUN go mod download
COPY . .
ARG VERSION=dev
RUN CGO_ENABLED=0 go build -trimpath -ldflags "-s -w -X main.version=$VERSION" -o /cdc-viewlet ./cmd/cdc-viewlet

FROM scratch
COPY --from=build /etc/ssl/certs/ca-certificates.crt /etc/ssl/certs/
COPY --from=build /cdc-viewlet /cdc-viewlet
USER 65532:65532
ENTRYPOINT ["/cdc-viewlet"]
# Mount your rules there, and set DATABASE_URL and REDIS_URL.
CMD ["run", "-c", "/etc/cdc-viewlet/rules.hcl"]
