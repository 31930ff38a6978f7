# SPDX-License-Identifier: Apache-2.0
# Shared by quickstart.sh, test.sh and bench.sh: messages, packages, builds. Sourced, never run.

root=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)

# What a build needs; what the tests need on top.
packages_build="gcc libc6-dev meson ninja-build pkg-config libuv1-dev libcurl4-openssl-dev libmicrohttpd-dev libssl-dev libzstd-dev libjansson-dev libinih-dev libexpat1-dev libhiredis-dev libnats-dev"
packages_test="g++ clang-14 libclang-rt-14-dev libcmocka-dev python3 curl iproute2 procps binutils openssl libs3-dev"
# Servers that tests start themselves, on ports and in folders of their own.
packages_servers="redis-server etcd-server nats-server"

say() { printf '==> %s\n' "$*" >&2; }
die() {
    printf 'error: %s\n' "$*" >&2
    exit 1
}

# Ctrl-C ends the script, not only the program that runs at the moment.
trap 'printf "\nerror: interrupted\n" >&2; exit 130' INT
trap 'printf "error: terminated\n" >&2; exit 143' TERM

# Runs a command up to four times, with growing pauses: downloads fail now and then.
retry() {
    local attempt
    for attempt in 1 2 3 4; do
        "$@" && return 0
        [ "$attempt" = 4 ] || sleep $((attempt * 3))
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

# The words of apt-get that say why it failed, on one line.
apt_reason() {
    sed -n 's/^E: //p' "$1" | head -n 1
}

# install_packages NAME...: installs what is missing, nothing else. What apt-get says is shown only if it fails.
install_packages() {
    local missing=() name log reason
    for name in "$@"; do
        [ "$(dpkg-query -W -f '${db:Status-Status}' "$name" 2>/dev/null)" = installed ] || missing+=("$name")
    done
    [ ${#missing[@]} = 0 ] && return 0
    command -v apt-get >/dev/null || die "these Debian packages are missing and apt-get is not here: ${missing[*]}"
    [ "$(id -u)" = 0 ] || command -v sudo >/dev/null || die "these packages are missing, and installing them needs root or sudo: ${missing[*]}"
    say "installing ${#missing[@]} packages: ${missing[*]}"
    log=$(mktemp)
    if ! retry as_root apt-get update -qq -o APT::Update::Error-Mode=any >"$log" 2>&1; then
        reason=$(apt_reason "$log")
        say "apt-get update failed; trying with the package lists that are here"
    fi
    if ! retry as_root env DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends \
        -o DPkg::Lock::Timeout=120 "${missing[@]}" >"$log" 2>&1; then
        reason=${reason:-$(apt_reason "$log")}
        rm -f "$log"
        die "apt-get could not install ${missing[*]}: ${reason:-no reason given}; check the network and /etc/apt/sources.list"
    fi
    rm -f "$log"
}

# needs_writable: builds go into the checkout.
needs_writable() {
    [ -w "$root" ] || die "the checkout $root cannot be written to; clone it to a folder of your own"
}

# While servers are installed, a policy-rc.d of ours keeps Debian from starting them. Its second line says so, and it is
# removed however the script ends, or by the next one.
policy=/usr/sbin/policy-rc.d
drop_policy() {
    ! grep -qs '^# hadb: ' "$policy" || as_root rm -f "$policy"
}

# install_servers NAME...: some of $packages_servers, which Debian would start on their well-known ports, now and at each
# boot. What is installed already is left as it is.
install_servers() {
    local fresh=() name
    for name in "$@"; do
        [ "$(dpkg-query -W -f '${db:Status-Status}' "$name" 2>/dev/null)" = installed ] || fresh+=("$name")
    done
    [ ${#fresh[@]} = 0 ] && return 0
    trap drop_policy EXIT
    drop_policy
    if [ ! -e "$policy" ]; then
        printf '#!/bin/sh\n# hadb: servers for tests are not services\nexit 101\n' | as_root tee "$policy" >/dev/null
        as_root chmod 755 "$policy"
    fi
    install_packages "${fresh[@]}"
    drop_policy
    trap - EXIT
    command -v systemctl >/dev/null || return 0
    for name in "${fresh[@]}"; do # the unit of etcd-server is etcd
        as_root systemctl disable --quiet "${name%-server}" >/dev/null 2>&1 || true
        as_root systemctl disable --quiet "$name" >/dev/null 2>&1 || true
    done
}

# option_value NAME WORDS...: what stands behind the last --NAME among the words; nothing if there is none.
option_value() {
    local name=$1 value=
    shift
    while [ $# -gt 0 ]; do
        case "$1" in
        "--$name="*) value=${1#*=} ;;
        "--$name") value=${2:-} ;;
        esac
        shift
    done
    printf '%s\n' "$value"
}

# install_named_servers OPTIONS...: the servers that --store and --lease name (scripts/servers.py starts them).
install_named_servers() {
    local store lease
    store=$(option_value store "$@")
    lease=$(option_value lease "$@")
    case "$lease" in
    nats) install_servers nats-server ;;
    etcd) install_servers etcd-server ;;
    redis) install_servers redis-server ;;
    esac
    if [ "$store" = s3 ] || [ "$lease" = s3 ]; then
        say "looking for MinIO, building it if it is not there (minutes the first time)"
        "$root/scripts/minio.sh" --build >/dev/null
    fi
}

# build FOLDER [meson options...]: configures once, then builds.
build() {
    local folder=$1
    shift
    needs_writable
    if [ ! -f "$root/$folder/build.ninja" ]; then
        rm -rf "${root:?}/$folder"
        meson setup "$root/$folder" "$root" "$@" >"$root/.build.log" 2>&1 ||
            { tail -n 30 "$root/.build.log" >&2; die "meson setup $folder failed"; }
    fi
    ninja -C "$root/$folder" >"$root/.build.log" 2>&1 ||
        { tail -n 60 "$root/.build.log" >&2; die "building $folder failed"; }
    rm -f "$root/.build.log"
}
