#!/bin/bash
# SPDX-License-Identifier: GPL-2.0-or-later
#
# A libvirtd of its own for tests, without systemd: pid 1 of private namespaces.
#
#     unshare --mount --pid --fork --net --ipc --uts --kill-child -- ns-init.sh DIR BUILD NAME
#
# DIR gets everything libvirtd writes; its socket is DIR/s/libvirt-sock, usable from outside. QEMU runs as
# libvirt's user with its sandbox, and sees BUILD as /run/vt/build, as the way there may be closed to it, and
# the directory above DIR, where the daemon's sockets are, as /run/vmtier.
# Commands are read from stdin: each a line for the shell, answered by "done STATUS".
set -e
W=$1 BUILD=$2 NAME=$3
PATH=$PATH:/usr/sbin:/sbin

mount --make-rprivate /
mkdir -p "$W"/{s,etc,lib,log} "$BUILD/libvirt-cache" /var/cache/libvirt
[ -d "$W/etc/libvirt" ] || cp -a /etc/libvirt "$W/etc/"
rm -rf "$W"/etc/libvirt/qemu/networks/autostart/* "$W"/etc/libvirt/hooks
mkdir -p "$W/etc/libvirt/hooks/qemu.d"
sed "s|@bindir@|$BUILD|" libvirt-hooks/50-vmtier >"$W/etc/libvirt/hooks/qemu.d/50-vmtier"
chmod 755 "$W/etc/libvirt/hooks/qemu.d/50-vmtier"
mount --bind "$W/etc/libvirt" /etc/libvirt
mount --bind "$W/lib" /var/lib/libvirt
mount --bind "$W/log" /var/log/libvirt
mount --bind "$BUILD/libvirt-cache" /var/cache/libvirt   # what QEMU can do: seconds to find out
mount -t tmpfs -o mode=755 run /run
mkdir -p /run/libvirt /run/lock /run/vt/build
mount --rbind "$BUILD" /run/vt/build
lab=$(dirname "$W")
ln -s "/run/vt/build/${lab#"$BUILD"/}" /run/vmtier
# One that root alone may use has libvirt ask QEMU anew, each time, what it can do: seconds.
if [ -e /dev/kvm ]; then
    mknod -m 666 /run/kvm c 10 232
    mount --bind /run/kvm /dev/kvm
fi
mount -t tmpfs -o ro cgroup /sys/fs/cgroup      # libvirt uses none then
mount -t proc proc /proc
ip link set lo up 2>/dev/null || true
hostname "$NAME"
cat >/etc/libvirt/libvirtd.conf <<END
auth_unix_ro = "none"
auth_unix_rw = "none"
unix_sock_group = "root"
host_uuid = "$(cat /proc/sys/kernel/random/uuid)"
unix_sock_dir = "$W/s"
log_outputs = "4:file:/var/log/libvirt/libvirtd.log"
END
cat >/etc/libvirt/qemu.conf <<END
security_driver = "none"
cgroup_controllers = [ ]
stdio_handler = "file"
seccomp_sandbox = 1
namespaces = [ "mount" ]
remember_owner = 0
END

start() {
    libvirtd -d -p /run/libvirtd.pid
}
pid() {
    cat /run/libvirtd.pid
}
gone() {
    while kill -0 "$1" 2>/dev/null; do sleep 0.05; done
}
# crash: as if it had been killed; stop: as it is asked to.
crash() {
    local p
    p=$(pid)
    kill -9 "$p"
    gone "$p"
}
stop() {
    local p
    p=$(pid)
    kill "$p"
    gone "$p"
}

# A libvirtd of a user's own, who is a number: its files are below /run/session.
as_user() {
    local user=$1
    shift
    (cd / && setpriv --reuid "$user" --regid "$user" --clear-groups env HOME=$S XDG_RUNTIME_DIR=$S/run \
        XDG_CONFIG_HOME=$S/cfg XDG_CACHE_HOME=$S/cache XDG_DATA_HOME=$S/data "$@")
}
session_begin() {
    mkdir -p $S/run $S/cfg/libvirt $S/cache $S/data
    echo 'stdio_handler = "file"' >$S/cfg/libvirt/qemu.conf
    chown -R "$1" $S
    as_user "$1" libvirtd -d -p $S/libvirtd.pid
}
session_virsh() {
    local user=$1
    shift
    as_user "$user" virsh -q -c qemu:///session "$@"
}
session_end() {
    kill "$(cat $S/libvirtd.pid)"
}
S=/run/session

set +e
start
echo "done $?"
while read -r line; do
    eval "$line"
    echo "done $?"
done
