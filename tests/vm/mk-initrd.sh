#!/bin/sh
# SPDX-License-Identifier: GPL-2.0-or-later
#
# Build the test guest's initramfs, $BUILD/cache/initrd.cpio: busybox, guest/init, the workload, the
# agent if it is built, and the modules a test may need, taken from the kernel that fetch-kernel.sh left behind.
#
# The workload is compiled here too ($BUILD/tests/workload, static, $CC). Nothing is done if the
# initramfs is newer than all it is made of. Needs no root.
# Exit: 0 ok, 1 failed, 3 something is missing.
set -eu

# Those that the kernel has built in are left out by themselves.
MODULES='virtio_pci virtio_blk virtio_balloon virtio_mem virtio_console'
# Only loaded by who asks: vmt.button.
LATER='button evdev'
BUILD=${BUILD:-build}
SRC=$(dirname "$0")
KERNEL=$BUILD/cache/kernel
WORKLOAD=$BUILD/tests/workload
AGENT=$BUILD/vmtier-agent
INITRD=$BUILD/cache/initrd.cpio

# shellcheck source=tests/vm/modules.sh
. "$SRC/modules.sh"

die() {
    code=$1
    shift
    echo "mk-initrd: $*" >&2
    exit "$code"
}

need() {
    PATH=$PATH:/usr/sbin:/sbin
    [ -s "$KERNEL/version" ] || die 3 "$KERNEL is empty: run fetch-kernel.sh first"
    for tool in "${CC:-cc}" cpio xz depmod busybox; do
        command -v "$tool" >/dev/null || die 3 "'$tool' is missing: run 'make deps'"
    done
    busybox=$(command -v busybox)
}

up_to_date() {
    [ -s "$INITRD" ] && [ -s "$WORKLOAD" ] &&
        [ -z "$(find "$SRC/guest" "$SRC/modules.sh" "$0" "$KERNEL/version" "$AGENT" -type f -newer "$INITRD" 2>/dev/null)" ]
}

build_workload() {
    mkdir -p "$(dirname "$WORKLOAD")"
    "${CC:-cc}" -std=gnu11 -O2 -fno-tree-vectorize -Wall -Wextra -Werror -static -pthread \
        -o "$WORKLOAD" "$SRC"/guest/*.c -lm
}

add_modules() {
    dir=$1/lib/modules/$version
    mkdir -p "$dir"
    for module in $MODULES $LATER; do
        files=$(module_files "$module")
        case " $LATER " in
        *" $module "*) ;;
        *) [ -z "$files" ] || echo "$module" >>"$1/etc/modules" ;;
        esac
        for file in $files; do
            mkdir -p "$dir/$(dirname "$file")"
            cp "$KERNEL/modules/$file" "$dir/$file"
        done
    done
    finish_modules "$1"
}

need
if up_to_date; then
    echo "mk-initrd: $INITRD is up to date"
    exit 0
fi
version=$(cat "$KERNEL/version")
tmp=$(mktemp -d "$BUILD/cache/initrd.XXXXXX")
trap 'rm -rf "$tmp"' EXIT
trap 'exit 1' INT TERM HUP

build_workload
mkdir -p "$tmp/root/bin" "$tmp/root/etc" "$tmp/root/dev" "$tmp/root/proc" "$tmp/root/sys"
install -m 755 "$busybox" "$tmp/root/bin/busybox"
install -m 755 "$WORKLOAD" "$tmp/root/bin/workload"
install -m 755 "$SRC/guest/init" "$tmp/root/init"
[ ! -x "$AGENT" ] || install -m 755 "$AGENT" "$tmp/root/bin/vmtier-agent"
: >"$tmp/root/etc/modules"
add_modules "$tmp/root"
(cd "$tmp/root" && find . -print0 | cpio --null -o -H newc -R 0:0 --quiet) >"$tmp/cpio"
mv "$tmp/cpio" "$INITRD"
modules=$(tr '\n' ' ' <"$tmp/root/etc/modules")
echo "mk-initrd: $INITRD, $(wc -c <"$INITRD") bytes, modules: $modules"
