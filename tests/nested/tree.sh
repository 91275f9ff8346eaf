# SPDX-License-Identifier: GPL-2.0-or-later
# shellcheck shell=bash
#
# Sourced: making a root file system for an emulated machine, in the directory $root, out of installed files.

# add FILE [PLACE]: copies it, as it is called here, into the root. What is there stays.
add() {
    local to=$root/${2:-$1}

    [ -e "$to" ] && return
    mkdir -p "$(dirname "$to")" && cp -L "$1" "$to"
}

# A program, or a library that is loaded by name, with all that it is linked with.
add_program() {
    local library

    add "$1" "${2:-$1}" || return
    while read -r library; do
        add "$library" || return
    done < <(ldd "$1" 2>/dev/null | grep -oE '/[^ ]+\.so[^ ]*')
}

# Prints the root as an archive the kernel unpacks; several may follow each other in one file.
pack() {
    (cd "$root" && find . -print0 | cpio --null -o -H newc -R 0:0 --quiet)
}
