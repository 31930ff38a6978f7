# SPDX-License-Identifier: Apache-2.0
# Shared by quickstart.sh, test.sh and bench.sh: messages, packages, builds. Sourced, never run.

root=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)

# What a build needs; what the tests need on top.
packages_build="gcc libc6-dev meson ninja-build pkg-config libuv1-dev libcurl4-openssl-dev libmicrohttpd-dev libssl-dev libzstd-dev libjansson-dev libinih-dev"
packages_test="g++ clang-14 libclang-rt-14-dev libcmocka-dev python3 curl iproute2 procps binutils"

say() { printf '==> %s\n' "$*" >&2; }
die() {
    printf 'error: %s\n' "$*" >&2
    exit 1
}

# Runs a command up to four times, with growing pauses: downloads fail now and then.
retry() {
    local attempt
    for attempt in 1 2 3 4; do
        "$@" && return 0
        [ "$attempt" = 4 ] || { say "attempt $attempt of '$1' failed; again in $((attempt * 5)) s"; sleep $((attempt * 5)); }
    done
    return 1
}

as_root() {
    if [ "$(id -u)" = 0 ]; then
        "$@"
    elif command -v sudo >/dev/null; then
        sudo "$@"
    else
        die "need root or sudo to install packages: $*"
    fi
}

# install_packages NAME...: installs what is missing, nothing else.
install_packages() {
    local missing=() name
    for name in "$@"; do
        [ "$(dpkg-query -W -f '${db:Status-Status}' "$name" 2>/dev/null)" = installed ] || missing+=("$name")
    done
    [ ${#missing[@]} = 0 ] && return 0
    command -v apt-get >/dev/null || die "these Debian packages are missing and apt-get is not here: ${missing[*]}"
    say "installing ${#missing[@]} packages: ${missing[*]}"
    retry as_root apt-get update -qq >/dev/null || die "apt-get update failed; check the network and /etc/apt/sources.list"
    retry as_root env DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends \
        -o DPkg::Lock::Timeout=120 "${missing[@]}" >/dev/null ||
        die "apt-get could not install: ${missing[*]}"
}

# build FOLDER [meson options...]: configures once, then builds.
build() {
    local folder=$1
    shift
    if [ ! -f "$root/$folder/build.ninja" ]; then
        rm -rf "${root:?}/$folder"
        meson setup "$root/$folder" "$root" "$@" >"$root/.build.log" 2>&1 ||
            { tail -n 30 "$root/.build.log" >&2; die "meson setup $folder failed"; }
    fi
    ninja -C "$root/$folder" >"$root/.build.log" 2>&1 ||
        { tail -n 60 "$root/.build.log" >&2; die "building $folder failed"; }
    rm -f "$root/.build.log"
}
