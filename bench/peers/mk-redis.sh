#!/bin/bash
# SPDX-License-Identifier: GPL-2.0-or-later
#
# What the guest that runs redis has besides the test guest's initramfs, as an archive in FILE: Debian's redis-server and
# redis-cli, fetched with apt-get and unpacked below $BUILD/cache, and guest-redis as /peers-init. Nothing is installed.
# Usage: mk-redis.sh FILE. Exit: 0 ok, 1 failed, 3 something is missing.
set -eu

BUILD=${BUILD:-build}
HERE=$(dirname "$0")
CACHE=$BUILD/cache/redis
PACKAGES='redis-server redis-tools libjemalloc2 liblzf1 liblua5.1-0 lua-bitop lua-cjson libatomic1'

# shellcheck source=tests/nested/tree.sh
. "$HERE/../../tests/nested/tree.sh"

fetch() {
    [ ! -x "$CACHE/root/usr/bin/redis-check-rdb" ] || return 0
    rm -rf "$CACHE"
    mkdir -p "$CACHE/debs" "$CACHE/root"
    # shellcheck disable=SC2086  # a word per package
    (cd "$CACHE/debs" && apt-get -q -o APT::Sandbox::User=root download $PACKAGES >log 2>&1) || {
        echo "mk-redis: the packages cannot be fetched; see $CACHE/debs/log" >&2
        exit 3
    }
    for deb in "$CACHE"/debs/*.deb; do dpkg-deb -x "$deb" "$CACHE/root"; done
}

# add_program() takes a library from where it was found, which for the packages' own is not where it goes.
add_redis() {
    local lib=usr/lib/x86_64-linux-gnu file program=$CACHE/root/usr/bin/redis-check-rdb

    add "$program" usr/bin/redis-server
    add "$CACHE/root/usr/bin/redis-cli" usr/bin/redis-cli
    for file in "$CACHE/root/$lib"/*.so*; do add "$file" "$lib/${file##*/}"; done
    for program in "$program" "$CACHE/root/usr/bin/redis-cli"; do
        LD_LIBRARY_PATH=$(realpath "$CACHE")/root/$lib ldd "$program" | grep -oE '/[^ ]+\.so[^ ]*' | grep -v "$CACHE" |
            while read -r file; do add "$file"; done
    done
}

fetch
root=$(mktemp -d "$CACHE/tree.XXXXXX")
trap 'rm -rf "$root"' EXIT
add_redis
install -m 755 "$HERE/guest-redis" "$root/peers-init"
mkdir -p "$(dirname "$1")"
pack >"$1"
