#!/bin/bash
# SPDX-License-Identifier: GPL-2.0-or-later
#
# What is shipped for AppArmor, put where it says it goes, in a copy of this system's rules: the profile of
# a VM and the one of libvirtd are compiled with it, and our rules are in them. Nothing is loaded: whether
# a kernel with AppArmor lets QEMU do all it needs is not what this shows.
set -u

ETC=/etc/apparmor.d
LIB=/opt/lib
BIN=/opt/bin
PATH=$PATH:/usr/sbin:/sbin

# shellcheck source=tests/tap
. tests/tap

skip() {
    echo "1..0 # SKIP $1"
    exit 0
}

# check NAME PROFILE RULE...: it compiles, and has these rules.
check() {
    local name=$1 profile=$2 rule result=ok
    shift 2
    if ! apparmor_parser --base "$dir" --skip-kernel-load --skip-cache "$profile" >"$dir.log" 2>&1; then
        result="not ok"
        sed 's/^/# /' "$dir.log"
    fi
    point "$result" "- $name: compiles"
    apparmor_parser --base "$dir" --preprocess "$profile" >"$dir.text" 2>/dev/null
    for rule; do
        if grep -qF -- "$rule" "$dir.text"; then
            point ok "- $name: $rule"
        else
            point "not ok" "- $name: $rule"
        fi
    done
}

command -v apparmor_parser >/dev/null || skip "there is no apparmor_parser here: install apparmor"
[ -e $ETC/abstractions/libvirt-qemu ] || skip "libvirt has no rules for AppArmor here"

dir=$(mktemp -d)
trap 'rm -rf "$dir" "$dir.log" "$dir.text"' EXIT
cp -r $ETC/. "$dir"
mkdir -p "$dir/local/abstractions"
sed "s|@libdir@|$LIB|g" libvirt-hooks/apparmor/vmtier >"$dir/abstractions/vmtier"
echo 'include <abstractions/vmtier>' >"$dir/local/abstractions/libvirt-qemu"
sed "s|@bindir@|$BIN|g" libvirt-hooks/apparmor/libvirtd-vmtier >"$dir/local/usr.sbin.libvirtd"
cat >"$dir/libvirt/libvirt-vm" <<'END'
#include <tunables/global>
profile libvirt-f4e2e487-49a8-4d8c-80f6-27b170b66f77 flags=(attach_disconnected) {
  #include <abstractions/libvirt-qemu>
}
END
check "a VM's profile" "$dir/libvirt/libvirt-vm" "$LIB/vmtier/vmtier-qemu.so mr," "run/vmtier/vmm.sock rw," \
    "userfaultfd rw,"
[ ! -e "$dir/usr.sbin.libvirtd" ] || check "libvirtd's profile" "$dir/usr.sbin.libvirtd" "$BIN/vmtier PUx,"
echo "1..$points"
