#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
# Runs one benchmark from a release build in build-release/, which it makes or brings up to date first.
# Usage: scripts/bench.sh NAME [--json] [options]; without NAME it lists the benchmarks. See bench/README.md.
# --store s3|http and --lease s3|nats|etcd|redis|http: over servers of its own (scripts/servers.py).
# With --json one JSON object comes last on stdout; everything else goes to stderr.
set -euo pipefail
. "$(dirname "$0")/lib.sh"
cd "$root"

# shellcheck disable=SC2086
install_packages $packages_build python3
case " $* " in
*" vanish "* | *"=vanish "*) install_packages iproute2 ;;
esac
build build-release --buildtype=release -Dtests=false -Dfuzz=false -Dexamples=false
name=${1:-}
if [ "$name" = engine ]; then
    shift
    args=()
    for arg in "$@"; do
        [ "$arg" = --json ] || args+=("$arg")
    done
    exec build-release/bench/bench_engine "${args[@]}"
fi
if [ "$name" = s3client ]; then
    shift
    scripts/minio.sh --build >/dev/null
    tls=()
    [ "${1:-}" != --tls ] || { tls=(--tls) && shift; }
    exec python3 scripts/minio.py "${tls[@]}" build-release/bench/bench_s3client "$@"
fi
case "$name $* " in
"durable "*" --store s3 "* | "durable "*" --store=s3 "*)
    scripts/minio.sh --build >/dev/null
    exec python3 scripts/minio.py build-release/bench/hadb-bench "$@"
    ;;
esac
if [ "$name" = idle ]; then
    shift
    install_named_servers --store s3 --lease s3 "$@"
    exec python3 scripts/idle.py "$@"
fi
install_named_servers "$@"
exec python3 scripts/servers.py build-release/bench/hadb-bench "$@"
