#!/bin/bash
# SPDX-License-Identifier: GPL-2.0-or-later
#
# `make install-libvirt` into a directory: what is there then, whether its paths are right, and what it does:
# the hook has nobody to ask and lets domains start, the schema takes what the man page shows, and
# onDefineDomain is called as KubeVirt's sidecar calls it. uninstall leaves nothing but the configuration.
#
# timeout: 120
set -u

DOMAIN=tests/libvirt/domains/kubevirt.xml

# shellcheck source=tests/install
. tests/install

share=$root/opt/vt/share/vmtier
hook=$root/etc/libvirt/hooks/qemu.d/50-vmtier

# --- the hook -----------------------------------------------------------------------------------------

# The program is where the hook looks for it, under another root.
hook_runs_it() {
    grep -qx 'vmtier=/opt/vt/bin/vmtier' "$hook" || return 1
    sed "s|^vmtier=/|vmtier=$root/|" "$hook" >"$dir/hook"
    chmod 755 "$dir/hook"
    VMTIER_SOCKET=$dir/none "$dir/hook" web1 "$1" begin - <"$DOMAIN"
}

# Without the program, too: it may have been removed by itself.
hook_without_program() {
    env PATH=/usr/bin:/bin "$hook" web1 prepare begin - <"$DOMAIN"
}

# --- the schema ---------------------------------------------------------------------------------------

# The example at the top of the man page.
example() {
    man_text=$(sed -n '/^<metadata>/,/^<\/metadata>/p' man/vmtier-domain.5)
    grep -v '</*metadata>' <<<"$man_text"
}

schema_takes_example() {
    example >"$dir/example.xml" && grep -q '<interleave' "$dir/example.xml" &&
        xmllint --noout --relaxng "$share/vmtier-tiering.rng" "$dir/example.xml"
}

schema_refuses() {
    example | sed 's/<dram /<dramm /' >"$dir/wrong.xml"
    ! xmllint --noout --relaxng "$share/vmtier-tiering.rng" "$dir/wrong.xml" 2>"$dir/why" &&
        grep dramm "$dir/why"
}

# --- KubeVirt -----------------------------------------------------------------------------------------

# vmi ANNOTATIONS: as JSON.
vmi() {
    echo "{\"apiVersion\": \"kubevirt.io/v1\", \"kind\": \"VirtualMachineInstance\", \"metadata\": {\"name\": \"testvm\"," \
        "\"annotations\": {\"hooks.kubevirt.io/hookSidecars\": \"[]\", $1}}, \"spec\": {}}"
}

# define ANNOTATIONS DOMAIN: as the sidecar-shim does; what it prints is in $dir/defined.
define() {
    PATH=$root/opt/vt/bin:$PATH "$share/onDefineDomain" --vmi "$(vmi "$1")" --domain "$2" >"$dir/defined"
}

sidecar_defines() {
    define '"vmtier.org/dram-max": "2Gi", "vmtier.org/required": "true"' "$(cat $DOMAIN)" &&
        grep -qF "max='2Gi'" "$dir/defined" && grep -qF "required='yes'" "$dir/defined" &&
        grep -qF "vmtier-qemu.so,socket=/run/vmtier/vmm.sock,required=on" "$dir/defined"
}

# virt-launcher may ask more than once, with what the last answer was.
sidecar_again() {
    cp "$dir/defined" "$dir/first"
    define '"vmtier.org/dram-max": "2Gi", "vmtier.org/required": "true"' "$(cat "$dir/first")" &&
        cmp "$dir/first" "$dir/defined"
}

sidecar_undone() {
    "$root/opt/vt/bin/vmtier" domxml --remove <"$dir/first" >"$dir/back" &&
        cmp "$dir/back" <(printf %s "$(cat $DOMAIN)")
}

sidecar_refuses() {
    ! define '"vmtier.org/dram-maximum": "2Gi"' "$(cat $DOMAIN)" 2>"$dir/why" &&
        grep 'vmtier.org/dram-maximum' "$dir/why" && [ ! -s "$dir/defined" ]
}

sidecar_refuses_device() {
    ! define '"vmtier.org/mode": "on"' "$(sed 's|<devices>|<devices><hostdev type="pci"/>|' $DOMAIN)" 2>"$dir/why" &&
        grep "<hostdev type='pci'>: VFIO" "$dir/why" && [ ! -s "$dir/defined" ]
}

# --- all ------------------------------------------------------------------------------------------------

nothing_is_left() {
    installs /opt/vt uninstall && [ "$(find "$root" -type f)" = "$root/etc/vmtier/vmtierd.conf" ]
}

check 'make install-libvirt' installs /opt/vt install-libvirt
check 'the hook' has 755 "$hook"
check 'rules for AppArmor' has 644 "$root/etc/apparmor.d/abstractions/vmtier"
check 'more of them' has 644 "$share/apparmor/libvirtd-vmtier"
check 'the schema' has 644 "$share/vmtier-tiering.rng"
check 'the hook of KubeVirt' has 755 "$share/onDefineDomain"
if [ -e "$BUILD/vmtier-libvirt.so" ]; then
    check 'the module' has 644 "$root/opt/vt/lib/vmtier/vmtier-libvirt.so"
else
    point ok "- the module # SKIP there is no libvirt to build it with: install libvirt-dev"
fi
check 'nobody to ask: a domain starts' hook_runs_it prepare
check 'nobody to ask: a domain goes on' hook_runs_it reconnect
check 'no program: a domain starts' hook_without_program
if command -v xmllint >/dev/null; then
    check 'the schema takes the example of the man page' schema_takes_example
    check 'the schema refuses what is misspelt' schema_refuses
else
    point ok '- the schema # SKIP there is no xmllint: install libxml2-utils'
fi
check 'KubeVirt: a domain gets what its annotations say' sidecar_defines
check 'KubeVirt: asked again, the answer is the same' sidecar_again
check 'KubeVirt: it can be undone' sidecar_undone
check 'KubeVirt: an annotation that there is not is named' sidecar_refuses
check 'KubeVirt: a device that is in the way is named' sidecar_refuses_device
check 'uninstalling leaves only the configuration' nothing_is_left
echo "1..$points"
