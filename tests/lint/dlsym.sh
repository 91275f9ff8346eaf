#!/bin/bash
# SPDX-License-Identifier: GPL-2.0-or-later
#
# QEMU's symbols are bound in one place: only vmm/qemu.c (and vmm/qemu-*.c) calls dlsym() or names
# a function or variable of QEMU. The names are taken from there, so the list is never stale.
#
# Symbols of libraries are no matter: vmm/got.c looks up what it hooks, and the fence looks for
# libaio's and liburing's io_*.
set -u
. tests/lint/common

# What a plugin exports has to have QEMU's name for it, g_free() is GLib's.
ALLOWED='^(qemu_plugin_version|qemu_plugin_install|g_free)$'

binders() {
    files \( -path './vmm/qemu.c' -o -path './vmm/qemu-*.c' \)
}

others() {
    comm -23 <(files -name '*.[ch]' \( -path './vmm/*' -o -path './common/*' -o -path './host/*' \)) <(binders)
}

# F(type, name, (arguments)) rows of the tables, and names given to find() and dlsym().
names() {
    binders | tr '\n' '\0' | xargs -0 sed -nE \
        -e 's/^ *F\(.*[ ,*]([a-z_][a-z0-9_]*), \(.*/\1/p' \
        -e 's/.*(find|dlsym)\(([A-Z_]+, )?"([A-Za-z_0-9]+)"\).*/\3/p' | grep -vE "$ALLOWED" | sort -u
}

run() {
    local complaints list

    list=$(names)
    [ -n "$list" ] || [ -z "$(binders)" ] || { echo "vmm/qemu.c: no symbol found: has its table another form?" && return 1; }
    complaints=$(
        others | tr '\n' '\0' | xargs -0 grep -nE '\b(dlsym|dlvsym)\(' | grep -vE '"io_[a-z_]+"|^vmm/got\.c:' | sed 's/$/: only vmm\/qemu.c may/'
        others | tr '\n' '\0' | xargs -0 grep -nwFf <(echo "${list:-no symbols}") | grep -vE '^[^:]+:[0-9]+: *(/?\*|//)' |
            sed 's/$/: a symbol of QEMU, only for vmm\/qemu.c/'
    )
    [ -z "$complaints" ] || { echo "$complaints" && false; }
}

check "dlsym: QEMU's $(names | wc -l) symbols are used in vmm/qemu*.c only" run
