#!/bin/sh
# SPDX-License-Identifier: Apache-2.0
# Fuzzes one target with libFuzzer, AddressSanitizer and UndefinedBehaviorSanitizer.
#
#     scripts/fuzz.sh TARGET SECONDS       e.g. scripts/fuzz.sh manifest 60; targets are fuzz/fuzz_TARGET.c
#
# New inputs go to build-fuzz/corpus/TARGET, starting from fuzz/corpus/TARGET. A crash is written to
# build-fuzz/crash-… and ends the run with a failure. Needs clang (CC, default clang-14 or clang).
# With MERGE=1, inputs that reach new code are added to fuzz/corpus/TARGET afterwards (at most 2 KiB each).
set -eu

fail() {
    echo "fuzz.sh: $1" >&2
    exit 2
}

[ $# -eq 2 ] || fail "usage: scripts/fuzz.sh TARGET SECONDS"
target=$1
seconds=$2
root=$(cd "$(dirname "$0")/.." && pwd)
build=$root/build-fuzz
seeds=$root/fuzz/corpus/$target
[ -f "$root/fuzz/fuzz_$target.c" ] || fail "there is no target $target (no fuzz/fuzz_$target.c)"
[ -d "$seeds" ] || fail "there is no corpus fuzz/corpus/$target"
case $seconds in
'' | *[!0-9]*) fail "SECONDS must be a number" ;;
esac

CC=${CC:-$(command -v clang-14 || command -v clang || true)}
[ -n "$CC" ] || fail "clang is needed (apt-get install clang)"
export CC

if [ ! -f "$build/build.ninja" ]; then
    meson setup "$build" "$root" -Dlibfuzzer=true -Dbench=false -Dexamples=false \
        -Db_sanitize=address,undefined -Db_lundef=false \
        -Dc_args=-fsanitize=fuzzer-no-link >"$root/build-fuzz.log" 2>&1 ||
        fail "meson setup failed, see build-fuzz.log"
    mv "$root/build-fuzz.log" "$build/setup.log"
fi
ninja -C "$build" "fuzz/fuzz_$target" >"$build/ninja.log" 2>&1 || {
    tail -20 "$build/ninja.log" >&2
    fail "the target does not build"
}

grown=$build/corpus/$target
mkdir -p "$grown"
export UBSAN_OPTIONS=halt_on_error=1:print_stacktrace=1
run="$build/fuzz/fuzz_$target"
echo "fuzzing $target for $seconds s"
"$run" -max_total_time="$seconds" -max_len=4096 -rss_limit_mb=4096 -timeout=10 \
    -artifact_prefix="$build/crash-$target-" -print_final_stats=1 "$grown" "$seeds" \
    >"$build/$target.log" 2>&1 || {
    tail -40 "$build/$target.log" >&2
    fail "$target failed, its input is $build/crash-$target-…"
}
grep -E 'stat::number_of_executed_units|^#[0-9]+.*DONE' "$build/$target.log" || true

if [ "${MERGE:-0}" = 1 ]; then
    "$run" -merge=1 -use_counters=0 -max_len=2048 "$seeds" "$grown" >"$build/$target-merge.log" 2>&1 ||
        fail "merging failed, see build-fuzz/$target-merge.log"
    echo "fuzz/corpus/$target: $(find "$seeds" -type f | wc -l) files"
fi
