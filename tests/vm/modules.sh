# SPDX-License-Identifier: GPL-2.0-or-later
# shellcheck shell=sh
#
# Sourced: modules of the kernel that fetch-kernel.sh left in $KERNEL, whose release is $version, for an initramfs.

# Print the file of module $1 (a name without .ko) and of all it depends on.
module_files() {
    awk -F: -v name="$1" '
        { base = $1; sub(/.*\//, "", base); sub(/\.ko.*/, "", base); gsub(/-/, "_", base)
          if (base == name) print $1 $2 }' "$KERNEL/modules/modules.dep"
}

# The modules have been copied into the root $1: busybox loads no compressed ones, so they are unpacked there
# and modules.dep is made anew.
finish_modules() {
    find "$1/lib/modules/$version" -name '*.ko.xz' -exec xz -d -f {} +
    cp "$KERNEL"/modules/modules.builtin* "$KERNEL/modules/modules.order" "$1/lib/modules/$version"
    depmod -b "$1" "$version"
}
