#!/bin/bash
# SPDX-License-Identifier: GPL-2.0-or-later
#
# What only two NUMA nodes can show of the mover "numa": a machine with two is booted, and the tests that
# move pages run in it, from move_pages(2) up to a daemon and a QEMU without the plugin.
#
# The machine is the test guests' kernel and initramfs; what it needs besides is appended: the programs
# built here, the system's QEMU, and all their libraries. It is emulated, and so is the VM in it: one may
# ask what it does, not how fast.
#
# timeout: 420
set -u

BUILD=${BUILD:-build}
KERNEL=$BUILD/cache/kernel/vmlinuz
INITRD=$BUILD/cache/initrd.cpio
PROGRAMS="vmtierd vmtier vmtier-qemu.so tests/rom.bin tests/unit/test-numa-real tests/vm/test-numa-move"
SHARE=/usr/share
FIRMWARE="$SHARE/qemu/kvmvapic.bin $SHARE/seabios/kvmvapic.bin"
BOOT_TIMEOUT=400

# shellcheck source=tests/tap
. tests/tap
# shellcheck source=tests/nested/tree.sh
. tests/nested/tree.sh

# Ends with one failed point, and the log.
die() {
    echo "# $1"
    [ -z "${2:-}" ] || sed 's/^/# /' "$2" | tail -n 60
    point "not ok" "/numa-nodes/machine"
    echo "1..$points"
    exit 1
}

make_root() {
    local program module file

    for program in $PROGRAMS; do
        [ -e "$BUILD/$program" ] || die "$BUILD/$program is missing: run make"
        add_program "$BUILD/$program" "top/build/$program"
    done
    add_program "$(command -v qemu-system-x86_64)" usr/bin/qemu-system-x86_64
    for module in /usr/lib/*/qemu/accel-tcg-x86_64.so; do
        add_program "$module"
    done
    for file in $FIRMWARE; do
        [ ! -e "$file" ] || add "$file" "usr/share/qemu/$(basename "$file")"
    done
    write_init >"$root/init"
    chmod 755 "$root/init"
    mkdir -p "$root/tmp" "$root/run" "$root/etc"
    echo 'root:x:0:0:root:/:/bin/sh' >"$root/etc/passwd"
}

# Everything is printed to the console, each program's end after "@@".
write_init() {
    cat <<END
#!/bin/busybox sh
/bin/busybox --install -s /bin
export PATH=/bin:/usr/bin HOME=/ LC_ALL=C
mount -t proc proc /proc
mount -t sysfs sys /sys
mount -t devtmpfs dev /dev
mkdir -p /dev/shm && mount -t tmpfs shm /dev/shm
mount -t tmpfs tmp /tmp
ip link set lo up
mount -t cgroup2 cgroup /sys/fs/cgroup
echo 0 >/proc/sys/kernel/numa_balancing
echo 16 >/sys/devices/system/node/node0/hugepages/hugepages-2048kB/nr_hugepages
export NUMA_LAB=1
cd /top
echo "@@ nodes \$(cat /sys/devices/system/node/has_memory)"
build/tests/unit/test-numa-real --tap
echo "@@ test-numa-real \$?"
build/tests/vm/test-numa-move --tap
echo "@@ test-numa-move \$?"
poweroff -f
END
}

boot() {
    timeout "$BOOT_TIMEOUT" qemu-system-x86_64 -nodefaults -no-user-config -display none -no-reboot \
        -serial stdio -accel tcg,thread=multi -machine q35 -cpu max -smp 2 -m 2G \
        -object memory-backend-ram,id=m0,size=1G -object memory-backend-ram,id=m1,size=1G \
        -numa node,nodeid=0,cpus=0-1,memdev=m0 -numa node,nodeid=1,memdev=m1 \
        -numa dist,src=0,dst=1,val=20 \
        -kernel "$KERNEL" -initrd "$dir/initrd" -append "console=ttyS0 panic=-1 no_timer_check quiet" \
        </dev/null 2>&1 | tr -d '\r'
}

# The points of the tests in there, with numbers of our own; a skipped one means that it does not have
# two nodes after all, or that what it needs is missing.
report() {
    local line

    while read -r line; do
        case $line in
        "ok "*"# SKIP"*"two NUMA nodes") ;;
        "ok "*"# SKIP"*) point "not ok" "${line#ok * }" ;;
        "ok "*) point ok "${line#ok * }" ;;
        "not ok "*) point "not ok" "${line#not ok * }" ;;
        esac
    done < <(grep -E '^(not )?ok [0-9]+ ' "$1")
}

ended_well() {
    if grep -qx "@@ $1 0" "$dir/console"; then
        point ok "/numa-nodes/$1"
    else
        point "not ok" "/numa-nodes/$1"
        sed 's/^/# /' "$dir/console" | tail -n 100
    fi
}

[ -s "$KERNEL" ] || die "$KERNEL is missing: run tests/vm/fetch-kernel.sh"
[ -s "$INITRD" ] || die "$INITRD is missing: run tests/vm/mk-initrd.sh"
mkdir -p "$BUILD/tests/run"
dir=$(mktemp -d "$BUILD/tests/run/numa-nodes.XXXXXX")
trap 'rm -rf "$dir"' EXIT
root=$dir/root
mkdir "$root"
make_root
{
    cat "$INITRD"
    pack
} >"$dir/initrd"
boot >"$dir/console"
grep -q '^@@ nodes 0-1$' "$dir/console" || die "the machine did not come up with two nodes" "$dir/console"
report "$dir/console"
ended_well test-numa-real
ended_well test-numa-move
echo "1..$points"
