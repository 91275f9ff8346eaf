#!/bin/bash
# SPDX-License-Identifier: GPL-2.0-or-later
#
# Everything that needs two NUMA nodes and a real KVM: L1 is booted once, the tests for it run in it one after
# the other, and their points are told on. A test is a program tests/nested/test-*.c.
#
# LAB_KERNEL=FILE is booted instead of the test guest's kernel; kvm_amd has to be built into it (mk-kernel.sh).
# T=WORD: only tests with WORD in their name.
#
# The limits are for a machine that is ten times slower than one that has nothing else to do.
#
# timeout: 2100
set -u

BUILD=${BUILD:-build}
LIMIT=1800

# shellcheck source=tests/tap
. tests/tap

die() {
    echo "# $1"
    point "not ok" "/nested/machine"
    echo "1..$points"
    exit 1
}

# Points with numbers of our own, each program's end as one more, all else as comments.
relay() {
    local line end=none

    while read -r line; do
        case $line in
        "ok "*) point ok "${line#ok * }" ;;
        "not ok "*) point "not ok" "${line#not ok * }" ;;
        "@@ kernel 0") point ok "/nested/kernel-content" && end=good ;;
        "@@ kernel "*) point "not ok" "/nested/kernel-content" && end=good ;;
        "@@ "*) ended "${line#@@ }" ;;
        "1.."*) ;;
        *) echo "# ${line#\# }" ;;
        esac
    done
    [ $end = good ] || point "not ok" "/nested/end"
    echo "1..$points"
}

# "NAME STATUS SECONDS"
ended() {
    local name status seconds

    read -r name status seconds <<<"$1"
    echo "# $name: $seconds s"
    [ "$status" = 0 ] || point "not ok" "/nested/$name ended with status $status"
}

selected=()
for program in "$BUILD"/tests/nested/test-*; do
    if [ -x "$program" ] && [[ $program = *"${T:-}"* || nested = *"${T:-}"* ]]; then
        selected+=("$program")
    fi
done
[ ${#selected[@]} -gt 0 ] || die "there is no test to run: run make"
# For libvirt's.
files=(tests/libvirt/ns-init.sh libvirt-hooks/50-vmtier)
options=()
[ -z "${LAB_KERNEL:-}" ] || options=(-k "$LAB_KERNEL")
"$(dirname "$0")/run-l1" -p 1 -t $LIMIT "${options[@]}" "$(dirname "$0")/in-l1" "${selected[@]}" "${files[@]}" 2>&1 | relay
