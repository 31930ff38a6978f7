#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
# Installs what a build needs, builds a release into build-release/ and runs the main job (scripts/mainjob.py):
# three nodes, real input, a killed, a stopped and a relieved leader, and a check of every acknowledged write.
# Usage: scripts/quickstart.sh [options of scripts/mainjob.py, such as --keep or --json]
# --store s3: the same over a MinIO of its own (scripts/minio.sh finds or builds it) in place of a folder;
# --store http: over `hadb storage-server`;
# --lease s3|nats|etcd|redis|http: the lease in a server of its own, installed if it is missing. Free ports, own folders.
# Exit code 0 only if all of it holds. Safe to run twice.
set -euo pipefail
. "$(dirname "$0")/lib.sh"
cd "$root"

needs_writable
# shellcheck disable=SC2086
install_packages $packages_build python3
say "building a release (a minute or two the first time)"
build build-release --buildtype=release -Dtests=false -Dfuzz=false -Dexamples=false
install_named_servers "$@"
say "running the main job (under a minute)"
exec python3 scripts/mainjob.py --binary "$root/build-release/hadb" "$@"
