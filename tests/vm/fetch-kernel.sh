#!/bin/sh
# SPDX-License-Identifier: GPL-2.0-or-later
#
# Fetch Debian's current 6.12 cloud kernel for the test guests, without installing it.
#
# The ABI number in the package's name changes with every update, so it is read from the
# metapackage's dependency. What is left behind in $BUILD/cache/kernel:
#     vmlinuz     the kernel image
#     version     its release name (one line)
#     modules/    what would be /lib/modules/<version>, with modules.dep
#
# Nothing is done if the cache already holds a kernel; `--refresh` looks for a newer one.
# Needs no root. Exit: 0 ok, 1 could not be fetched, 2 usage, 3 a tool or apt's lists are missing.
set -eu

# The first name is Debian 12's, the second Debian 13's, where 6.12 is the default kernel.
METAPACKAGES='linux-image-6.12-cloud-amd64 linux-image-cloud-amd64'
BUILD=${BUILD:-build}
KERNEL=$BUILD/cache/kernel

die() {
    code=$1
    shift
    echo "fetch-kernel: $*" >&2
    exit "$code"
}

need_tools() {
    PATH=$PATH:/usr/sbin:/sbin
    for tool in apt-get apt-cache dpkg xz depmod; do
        command -v "$tool" >/dev/null || die 3 "'$tool' is missing: run 'make deps'"
    done
}

# Print the kernel package the metapackage stands for.
resolve() {
    for meta in $METAPACKAGES; do
        apt-cache depends "$meta" 2>/dev/null |
            sed -n 's/^ *Depends: \(linux-image-6\.12\.[^ ]*-cloud-amd64\)$/\1/p'
    done | head -n 1
}

# The signed package and its unsigned twin hold the same kernel; one may be missing for a while.
download() {
    for name in "$1" "$1-unsigned"; do
        if (cd "$2" && apt-get -qq -o APT::Sandbox::User=root download "$name") 2>"$2/log"; then
            return 0
        fi
    done
    cat "$2/log" >&2
    return 1
}

# Debian 13 ships usr/lib/modules, Debian 12 lib/modules.
unpack() {
    dpkg -x "$1"/linux-image-*.deb "$1/root"
    version=$(cd "$1"/root/boot && echo vmlinuz-*)
    version=${version#vmlinuz-}
    [ -d "$1/root/lib/modules" ] || ln -s usr/lib "$1/root/lib"
    depmod -b "$1/root" "$version"
    mkdir "$1/new"
    mv "$1/root/boot/vmlinuz-$version" "$1/new/vmlinuz"
    mv "$1/root/lib/modules/$version" "$1/new/modules"
    echo "$package" >"$1/new/package"
    echo "$version" >"$1/new/version"
}

refresh=no
case "${1-}" in
'') ;;
--refresh) refresh=yes ;;
*) die 2 "usage: fetch-kernel.sh [--refresh]   (environment: BUILD)" ;;
esac

if [ "$refresh" = no ] && [ -s "$KERNEL/version" ]; then
    echo "fetch-kernel: $(cat "$KERNEL/version") (cached)"
    exit 0
fi

need_tools
package=$(resolve)
[ -n "$package" ] || die 3 "apt knows none of: $METAPACKAGES." \
    "Run 'apt-get update' (as root), and see that the security archive is among apt's sources."
if [ -s "$KERNEL/version" ] && [ "$(cat "$KERNEL/package")" = "$package" ]; then
    echo "fetch-kernel: $(cat "$KERNEL/version") is the current one"
    exit 0
fi

mkdir -p "$BUILD/cache"
tmp=$(mktemp -d "$BUILD/cache/kernel.XXXXXX")
trap 'rm -rf "$tmp"' EXIT
trap 'exit 1' INT TERM HUP
download "$package" "$tmp" || die 1 "could not download $package (nor its -unsigned twin):" \
    "run 'apt-get update' (as root) if apt's lists are old, or check the network"
unpack "$tmp"
rm -rf "$KERNEL"
mv "$tmp/new" "$KERNEL"
echo "fetch-kernel: $(cat "$KERNEL/version") from $package"
