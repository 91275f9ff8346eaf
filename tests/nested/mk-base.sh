#!/bin/bash
# SPDX-License-Identifier: GPL-2.0-or-later
#
# Build what stays the same of L1's initramfs, $BUILD/nested/base.cpio: busybox, bash, the system's QEMU
# with its firmware, libvirtd if it is installed, all their libraries, and KVM's modules, taken from the kernel that
# tests/vm/fetch-kernel.sh left behind. What is built here is added at each boot (run-l1).
#
# It is not compressed, as unpacking takes an emulated machine longer than reading. Nothing is done if it
# is newer than all it is made of. Needs no root. Exit: 0 ok, 1 failed, 3 something is missing.
set -eu

BUILD=${BUILD:-build}
HERE=$(dirname "$0")
KERNEL=$BUILD/cache/kernel
BASE=$BUILD/nested/base.cpio
QEMU=qemu-system-x86_64
MODULES='kvm_amd'
FIRMWARE='bios-256k.bin bios-microvm.bin linuxboot_dma.bin pvh.bin multiboot_dma.bin kvmvapic.bin'
# Taken along where they are installed.
EXTRA='numactl migratepages numastat strace gdb'
# What tests/libvirt/ns-init.sh wants, beyond busybox.
LIBVIRT='libvirtd virsh unshare mount setpriv cp'

# shellcheck source=tests/nested/tree.sh
. "$HERE/tree.sh"
# shellcheck source=tests/vm/modules.sh
. "$HERE/../vm/modules.sh"

die() {
    code=$1
    shift
    echo "mk-base: $*" >&2
    exit "$code"
}

need() {
    PATH=$PATH:/usr/sbin:/sbin
    [ -s "$KERNEL/version" ] || die 3 "$KERNEL is empty: run tests/vm/fetch-kernel.sh first"
    for tool in $QEMU busybox bash cpio xz depmod ldd; do
        command -v "$tool" >/dev/null || die 3 "'$tool' is missing: run 'make deps'"
    done
}

up_to_date() {
    [ -s "$BASE" ] &&
        [ -z "$(find "$HERE/init" "$HERE/tree.sh" "$HERE/../vm/modules.sh" "$0" "$KERNEL/version" "$(command -v $QEMU)" \
            -newer "$BASE" 2>/dev/null)" ]
}

add_modules() {
    local dir=lib/modules/$version module file

    for module in $MODULES; do
        for file in $(module_files "$module"); do
            add "$KERNEL/modules/$file" "$dir/$file"
        done
    done
    finish_modules "$root"
}

add_qemu() {
    local file place

    add_program "$(command -v $QEMU)" usr/bin/$QEMU
    for file in /usr/lib/*/qemu/accel-tcg-x86_64.so; do
        [ ! -e "$file" ] || add_program "$file"
    done
    for file in $FIRMWARE; do
        for place in /usr/share/seabios /usr/share/qemu; do
            [ ! -e "$place/$file" ] || add "$place/$file" "usr/share/qemu/$file"
        done
    done
}

add_programs() {
    local program

    add_program "$(command -v busybox)" bin/busybox
    add_program "$(command -v bash)" bin/bash
    for program in $EXTRA; do
        ! program=$(command -v "$program") || add_program "$program" "usr/bin/$(basename "$program")"
    done
}

# libvirtd with the one driver that is wanted here, its schemas, and the user that it starts QEMU as.
add_libvirt() {
    local program file

    command -v libvirtd >/dev/null || return 0
    for program in $LIBVIRT; do
        program=$(command -v "$program")
        add_program "$program"
    done
    for file in /usr/lib/*/libvirt/connection-driver/libvirt_driver_qemu.so; do
        add_program "$file"
    done
    mkdir -p "$root"/usr/share/libvirt "$root"/var/{lib,log,cache}/libvirt
    cp -rL /usr/share/libvirt/{cpu_map,schemas} "$root/usr/share/libvirt"
    mkdir -p "$root/etc/libvirt/qemu/networks/autostart"
    grep "^libvirt-qemu:" /etc/passwd >>"$root/etc/passwd"
    grep -E '^(root|kvm|libvirt-qemu|libvirt):' /etc/group >"$root/etc/group"
}

need
if up_to_date; then
    exit 0
fi
version=$(cat "$KERNEL/version")
mkdir -p "$BUILD/nested"
tmp=$(mktemp -d "$BUILD/nested/base.XXXXXX")
trap 'rm -rf "$tmp"' EXIT
trap 'exit 1' INT TERM HUP
root=$tmp/root
mkdir -p "$root"/{dev,proc,sys,etc,tmp,run,top,out,var}
echo 'root:x:0:0:root:/:/bin/sh' >"$root/etc/passwd"
add_programs
add_qemu
add_libvirt
add_modules
install -m 755 "$HERE/init" "$root/init"
pack >"$tmp/cpio"
mv "$tmp/cpio" "$BASE"
echo "mk-base: $BASE, $(($(wc -c <"$BASE") >> 20)) MiB"
