#!/bin/bash
# SPDX-License-Identifier: GPL-2.0-or-later
#
# Record what real guests do: redis, a compile, a database scan, a key-value store, each in an emulated
# guest (TCG) whose accesses are sampled, into $BUILD/cache/traces/NAME.vmtrace. The recordings beside this
# script were made by it, and are for tests and benchmarks that replay. What an emulated guest samples are all
# its accesses, not those that miss a cache: they are more concentrated than what a CPU's sampling would see.
#
# Programs of the guests come from Debian packages: what this machine has, else fetched with apt-get and
# unpacked below the cache; nothing is installed. A guest has 1 GiB and is watched, not tiered. Memory on
# this machine: 1.5 GiB. Time: about three minutes a guest.
# Usage: record.sh [NAME ...]. Environment: SECONDS_EACH (75), GRANULE (256K), PERIOD (250), SOURCES.
# Exit: 0 ok, 1 failed, 3 something is missing.
set -euo pipefail

BUILD=${BUILD:-build}
SRC=$(dirname "$0")
CACHE=$BUILD/cache/traces
ROOT=$CACHE/packages
EACH=${SECONDS_EACH:-75}
GRANULE=${GRANULE:-256K}
PERIOD=${PERIOD:-250}
SOURCES=${SOURCES:-sample}
READY_S=240
PACKAGES='redis-server redis-tools memcached libjemalloc2 liblzf1 libevent-2.1-7 liblua5.1-0 lua-bitop
    lua-cjson libatomic1 libsasl2-2'

die() {
    local code=$1
    shift
    echo "record.sh: $*" >&2
    exit "$code"
}

fetch() {
    [ -x "$ROOT/usr/bin/redis-server" ] && [ -x "$ROOT/usr/bin/memcached" ] && return
    local debs
    debs=$(realpath -m "$CACHE/debs")
    mkdir -p "$debs" "$ROOT"
    # shellcheck disable=SC2086  # a word per package
    (cd "$debs" && apt-get -q download $PACKAGES) || die 3 "the guests' packages cannot be fetched"
    for deb in "$debs"/*.deb; do dpkg-deb -x "$deb" "$ROOT"; done
}

# Where a program is: in the packages, or on this machine.
find_program() {
    local at
    at=$(find "$ROOT/usr/bin" -name "$1" -print -quit 2>/dev/null)
    [ -n "$at" ] || at=$(PATH=$PATH:/usr/sbin command -v "$1") || die 3 "'$1' is missing"
    echo "$at"
}

# add ROOT PROGRAM [AS]: puts a program and its libraries in.
add() {
    local to=$1 program=$2 as=${3:-usr/bin/${2##*/}} library
    install -D -m 755 "$program" "$to/$as"
    LD_LIBRARY_PATH=$(realpath "$ROOT")/usr/lib/x86_64-linux-gnu ldd "$program" |
        awk '/=> \// { print $3 } /^\t\/lib/ { print $1 }' | while read -r library; do
        case $library in
        */ld-linux*) install -D -m 755 "$library" "$to/lib64/${library##*/}" ;;
        *) install -D -m 644 "$library" "$to/usr/lib/x86_64-linux-gnu/${library##*/}" ;;
        esac
    done
}

fill_redis() { add "$1" "$(find_program redis-server)"; add "$1" "$(find_program redis-cli)"; }
fill_kv() { add "$1" "$(find_program memcached)"; }
fill_scan() { add "$1" "$(find_program sqlite3)"; }
fill_compile() {
    add "$1" "$(gcc -print-prog-name=cc1)" usr/libexec/cc1
    add "$1" "$(find_program as)"
    mkdir -p "$1/src" "$1/usr/include" "$1/usr/lib/gcc/x86_64-linux-gnu/12"
    cp -r common vmm include "$1/src"
    cp -r "$(gcc -print-file-name=include)" "$1/usr/lib/gcc/x86_64-linux-gnu/12/"
    cp -r /usr/include/*.h /usr/include/{x86_64-linux-gnu,linux,asm-generic} "$1/usr/include/"
}

# The test guest's initramfs and this one's behind it: the kernel unpacks both.
make_initrd() {
    local name=$1 tmp
    tmp=$(mktemp -d "$CACHE/root.XXXXXX")
    install -D -m 755 "$SRC/guest/init" "$tmp/trace-init"
    install -m 644 "$SRC/guest/$name" "$tmp/load"
    "fill_$name" "$tmp"
    (cd "$tmp" && find . -print0 | cpio --null -o -H newc -R 0:0 --quiet) >"$CACHE/more.cpio"
    cat "$BUILD/cache/initrd.cpio" "$CACHE/more.cpio" >"$CACHE/$name.cpio"
    rm -rf "$tmp" "$CACHE/more.cpio"
}

started=()
stop_all() {
    for pid in "${started[@]}"; do
        kill "$pid" 2>/dev/null || true
        wait "$pid" 2>/dev/null || true
    done
    started=()
}
trap stop_all EXIT

wait_for() {
    local what=$1 seconds=$2
    shift 2
    for ((i = 0; i < seconds * 5; i++)); do
        if "$@" 2>/dev/null; then return; fi
        sleep 0.2
    done
    die 1 "$what did not come within $seconds s; see $run"
}

start_daemon() {
    printf '[vm default]\nsources = %s\nsample-period = %s\n' "$SOURCES" "$PERIOD" >"$run/vmtierd.conf"
    "$BUILD/vmtierd" --config "$run/vmtierd.conf" --mode observe --granule "$GRANULE" --quota 25% \
        --vmm-socket "$run/vmm.sock" --qmp-socket "$run/qmp.sock" >"$run/vmtierd.log" 2>&1 &
    started+=($!)
    wait_for vmtierd 20 test -S "$run/qmp.sock"
}

start_guest() {
    qemu-system-x86_64 -nodefaults -no-user-config -display none -accel tcg -smp 1 -m 1G -no-reboot \
        -machine q35,memory-backend=ram0 -object memory-backend-memfd,id=ram0,size=1G,share=on \
        -kernel "$BUILD/cache/kernel/vmlinuz" -initrd "$CACHE/$1.cpio" \
        -append "console=ttyS0 panic=-1 quiet rdinit=/trace-init" -serial "file:$run/console" \
        -plugin "$BUILD/vmtier-qemu.so,socket=$run/vmm.sock,vm=$1" >"$run/qemu.log" 2>&1 &
    started+=($!)
}

record() {
    local name=$1
    echo "record.sh: $name"
    run=$(mktemp -d /tmp/vmtier-traces-XXXXXX)
    make_initrd "$name"
    start_daemon
    start_guest "$name"
    wait_for "the load of $name" $READY_S grep -q 'TRACE READY' "$run/console"
    "$BUILD/vmtier" --socket "$run/qmp.sock" record "$name" -o "$CACHE/$name.vmtrace" \
        --seconds "$EACH"
    stop_all
    rm -rf "$CACHE/$name.cpio" "$run"
}

[ -s "$BUILD/cache/initrd.cpio" ] || die 3 "there is no test guest: run 'make guest'"
[ -x "$BUILD/vmtierd" ] || die 3 "vmtierd is not built"
mkdir -p "$CACHE"
fetch
[ $# -gt 0 ] || set -- redis compile scan kv
for name in "$@"; do
    case $name in redis | compile | scan | kv) ;; *) die 1 "there is no guest '$name'" ;; esac
    record "$name"
done
