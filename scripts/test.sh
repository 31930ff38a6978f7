#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
# Installs what the tests need, builds, and runs every suite: plain, with ASan+UBSan, with TSan.
# Usage: scripts/test.sh [--quick]     --quick: the plain build only
# REQUIRE_REAL_STORES=1: a server that is not here fails its tests instead of skipping them.
# The last line is "N passed, N failed, N skipped"; exit 0 only if nothing failed and something passed.
set -euo pipefail
. "$(dirname "$0")/lib.sh"
cd "$root"

quick=no
case "${1:-}" in
"") ;;
--quick) quick=yes ;;
*) die "unknown option '$1'; usage: scripts/test.sh [--quick]" ;;
esac

needs_writable
# shellcheck disable=SC2086
install_packages $packages_build $packages_test
# shellcheck disable=SC2086
install_servers $packages_servers

passed=0 failed=0 skipped=0
started=$SECONDS

# MinIO is built (minutes) beside our own build. Without it its suites are skipped, or fail where REQUIRE_REAL_STORES=1.
get_minio() {
    scripts/minio.sh --build >/dev/null 2>"$root/.minio.log" || tail -n 20 "$root/.minio.log" >&2
    rm -f "$root/.minio.log"
}

# run FOLDER [meson test options]: runs suites and adds up their results. Two more at a time than there are processors: many
# of them wait for servers, pauses and leases most of the time.
run() {
    local folder=$1
    shift
    local log="$root/$folder/meson-logs/testlog.json"
    rm -f "$log"
    meson test -C "$root/$folder" --no-rebuild --print-errorlogs --num-processes $(($(nproc) + 2)) "$@" || true
    [ -f "$log" ] || die "no test ran in $folder"
    read -r p f s < <(python3 - "$log" <<'PY'
import json, sys
count = {"ok": 0, "bad": 0, "skip": 0}
for line in open(sys.argv[1], encoding="utf-8", errors="replace"):
    result = json.loads(line)["result"]
    count["ok" if result in ("OK", "EXPECTEDFAIL") else "skip" if result == "SKIP" else "bad"] += 1
print(count["ok"], count["bad"], count["skip"])
PY
)
    passed=$((passed + p)) failed=$((failed + f)) skipped=$((skipped + s))
    say "$folder: $p passed, $f failed, $s skipped; $((SECONDS - started)) s so far"
}

get_minio &
minio=$!
say "building with gcc, warnings are errors"
build build --werror -Dauto_features=enabled
say "waiting for MinIO, which is built at the same time if it is not here"
wait "$minio"
run build

if [ "$quick" = no ]; then
    say "building with clang, AddressSanitizer and UndefinedBehaviorSanitizer"
    export CC=clang-14
    build build-asan --werror -Dauto_features=enabled -Db_sanitize=address,undefined -Db_lundef=false -Dbuildtype=debugoptimized
    UBSAN_OPTIONS=halt_on_error=1:print_stacktrace=1 run build-asan --suite unit --suite contract \
        --suite golden --suite fault --suite fuzz --suite integration --timeout-multiplier 4
    say "building with clang and ThreadSanitizer"
    build build-tsan --werror -Dauto_features=enabled -Db_sanitize=thread -Db_lundef=false -Dbuildtype=debugoptimized
    TSAN_OPTIONS="halt_on_error=1 suppressions=$root/tests/support/tsan.supp" run build-tsan --suite unit --suite contract --suite integration \
        --timeout-multiplier 4
fi

say "took $((SECONDS - started)) s"
printf '%d passed, %d failed, %d skipped\n' "$passed" "$failed" "$skipped"
[ "$failed" = 0 ] && [ "$passed" -gt 0 ]
