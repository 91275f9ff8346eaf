#!/bin/bash
# SPDX-License-Identifier: GPL-2.0-or-later
#
# Build a small kernel for L1 that tracks idle pages, as none of Debian's does, from Debian's linux-source-6.12:
# $BUILD/cache/lab-kernel/vmlinuz, for LAB_KERNEL=. Takes 8 minutes of CPU time and 2 GiB of disk meanwhile, so
# nothing asks for it by itself. What the build needs beyond gcc and make is fetched as well, and not installed.
#
# Nothing is done if it is there and was built with this kernel.config. Needs no root. JOBS: of make (2).
# Exit: 0 ok, 1 failed, 3 something is missing.
set -eu

BUILD=${BUILD:-build}
JOBS=${JOBS:-2}
CONFIG=$(dirname "$0")/kernel.config
KERNEL=$BUILD/cache/lab-kernel
SOURCE=linux-source-6.12
# The second name of a library is Debian 13's.
TOOLS='flex bison m4 libelf-dev libelf1|libelf1t64'

die() {
    code=$1
    shift
    echo "mk-kernel: $*" >&2
    exit "$code"
}

need_tools() {
    for tool in apt-get apt-cache dpkg tar xz gcc make bc perl; do
        command -v "$tool" >/dev/null || die 3 "'$tool' is missing"
    done
}

# download A|B: the first of these that apt knows.
download() {
    local name

    for name in ${1//|/ }; do
        if apt-cache show "$name" >/dev/null 2>&1; then
            (cd "$tmp" && apt-get -qq -o APT::Sandbox::User=root download "$name") ||
                die 1 "could not download $name: run 'apt-get update' (as root) if apt's lists are old"
            return
        fi
    done
    die 3 "apt does not know $1. Run 'apt-get update' (as root), and see that the security archive is among its sources."
}

unpack() {
    local package

    for package in $SOURCE $TOOLS; do
        download "$package"
    done
    for package in "$tmp"/*.deb; do
        dpkg -x "$package" "$tmp/tools"
    done
    mkdir "$tmp/source" "$tmp/objects"
    tar x -f "$tmp/tools/usr/src/$SOURCE.tar.xz" -C "$tmp/source" --strip-components=1
}

# The kernel's make, with those tools.
kernel_make() {
    local tools=$tmp/tools/usr libraries

    libraries=$tools/lib/$(gcc -print-multiarch)
    PATH=$tools/bin:$PATH BISON_PKGDATADIR=$tools/share/bison M4=$tools/bin/m4 LD_LIBRARY_PATH=$libraries \
        make -s -C "$tmp/source" O="$tmp/objects" HOSTCFLAGS="-I$tools/include" HOSTLDFLAGS="-L$libraries" "$@"
}

# What was asked for and is not there is said, and a failure where it is what the kernel is for.
check_config() {
    grep '^CONFIG_' "$CONFIG" | grep -vxFf "$tmp/objects/.config" | sed 's/^/mk-kernel: not taken: /'
    grep -qx CONFIG_IDLE_PAGE_TRACKING=y "$tmp/objects/.config" || die 1 "this kernel would not track idle pages"
}

if [ -s "$KERNEL/vmlinuz" ] && cmp -s "$CONFIG" "$KERNEL/kernel.config"; then
    echo "mk-kernel: $KERNEL/vmlinuz (cached)"
    exit 0
fi
need_tools
mkdir -p "$BUILD/cache"
tmp=$(cd "$BUILD/cache" && mktemp -d "$PWD/lab-kernel.XXXXXX")
trap 'rm -rf "$tmp"' EXIT
trap 'exit 1' INT TERM HUP
config=$(realpath "$CONFIG")
unpack
kernel_make KCONFIG_ALLCONFIG="$config" allnoconfig >/dev/null
check_config
kernel_make -j"$JOBS" bzImage
rm -rf "$KERNEL"
mkdir "$KERNEL"
cp "$CONFIG" "$KERNEL/kernel.config"
mv "$tmp/objects/arch/x86/boot/bzImage" "$KERNEL/vmlinuz"
echo "mk-kernel: $KERNEL/vmlinuz, $(($(wc -c <"$KERNEL/vmlinuz") >> 10)) KiB"
