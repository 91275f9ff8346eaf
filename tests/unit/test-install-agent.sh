#!/bin/bash
# SPDX-License-Identifier: GPL-2.0-or-later
#
# `make install-agent` into a directory: what is there then, whether systemd understands it, and that
# uninstall-agent leaves nothing but the configuration.
#
# timeout: 120
set -u

# shellcheck source=tests/install
. tests/install

static_program() {
    [ "$("$root/usr/sbin/vmtier-agent" --version | cut -d' ' -f1)" = vmtier-agent ] &&
        ! readelf -l "$root/usr/sbin/vmtier-agent" | grep INTERP
}

# What is commented out in the configuration is the default, and all of it can be read.
config_is_read() {
    sed 's/^#\([a-z]* =\)/\1/' "$root/etc/vmtier/vmtier-agent.conf" >"$dir/conf"
    grep -q '^cpu = ' "$dir/conf" && ! "$root/usr/sbin/vmtier-agent" --config "$dir/conf" nothing 2>"$dir/why" &&
        grep "there is no 'nothing'" "$dir/why"
}

unit_is_good() {
    sed "s|^ExecStart=/usr/sbin|ExecStart=$root/usr/sbin|" "$root/usr/lib/systemd/system/vmtier-agent.service" \
        >"$dir/vmtier-agent.service"
    grep -q "^ExecStart=$root/usr/sbin/vmtier-agent" "$dir/vmtier-agent.service" || return 1
    systemd-analyze verify --man=no "$dir/vmtier-agent.service" 2>"$dir/complaints"
    ! grep vmtier-agent "$dir/complaints"
}

rules_are_good() {
    udevadm verify "$root/usr/lib/udev/rules.d/60-vmtier-agent.rules"
}

user_is_made() {
    systemd-sysusers --dry-run --cat-config --root="$root" | grep '^u vmtier-agent'
}

nothing_is_left() {
    installs /usr uninstall-agent && [ "$(find "$root" -type f)" = "$root/etc/vmtier/vmtier-agent.conf" ]
}

# tool TOOL WHAT COMMAND: skipped where the tool is not there, or too old for it.
tool() {
    local tool=$1 what=$2

    shift 2
    if command -v "${tool%% *}" >/dev/null && { [ "$tool" = "${tool%% *}" ] || $tool --help >/dev/null 2>&1; }; then
        check "$what" "$@"
    else
        point ok "- $what # SKIP there is no $tool"
    fi
}

check 'make install-agent' installs /usr install-agent
check 'the program' has 755 "$root/usr/sbin/vmtier-agent"
check 'the unit' has 644 "$root/usr/lib/systemd/system/vmtier-agent.service"
check 'the rules of udev' has 644 "$root/usr/lib/udev/rules.d/60-vmtier-agent.rules"
check 'the user' has 644 "$root/usr/lib/sysusers.d/vmtier-agent.conf"
check 'the configuration' has 644 "$root/etc/vmtier/vmtier-agent.conf"
check 'the man page' has 644 "$root/usr/share/man/man8/vmtier-agent.8"
check 'the completion' has 644 "$root/usr/share/bash-completion/completions/vmtier-agent"
tool readelf 'the program needs no library' static_program
check 'the configuration can be read' config_is_read
tool systemd-analyze 'systemd understands the unit' unit_is_good
tool 'udevadm verify' 'udev understands its rules' rules_are_good
tool systemd-sysusers 'systemd understands the user' user_is_made
echo "cpu = 9" >"$root/etc/vmtier/vmtier-agent.conf"
check 'installing it again' installs /usr install-agent
check 'keeps the configuration' grep -q 'cpu = 9' "$root/etc/vmtier/vmtier-agent.conf"
check 'uninstalling leaves only that' nothing_is_left
echo "1..$points"
