#!/bin/sh
# SPDX-License-Identifier: GPL-2.0-or-later
#
# Fetch QEMU 10 from Debian 12's backports and unpack it beside the system's own, for tests only.
#
# apt is given a directory of its own ($BUILD/cache/qemu10/apt: sources, lists, cache), so neither
# the system's sources nor its packages change. The archive's address is the one the system's own
# apt uses. What would have to be installed is asked of apt and unpacked with `dpkg -x`:
#     $BUILD/cache/qemu10/root                  the packages' files
#     $BUILD/cache/qemu10/qemu-system-x86_64    runs what is in there
# On a system whose own QEMU is 10 or later, that wrapper runs the system's QEMU.
#
# Nothing is done if the wrapper is there; `--refresh` fetches anew. Needs no root.
# Exit: 0 ok, 1 could not be fetched, 2 usage, 3 a tool or apt's sources are missing.
set -eu

PACKAGES='qemu-system-x86'
BUILD=${BUILD:-build}
HOME_DIR=$BUILD/cache/qemu10
WRAPPER=$HOME_DIR/qemu-system-x86_64

die() {
    code=$1
    shift
    echo "fetch-qemu10: $*" >&2
    exit "$code"
}

major_of() {
    "$1" --version 2>/dev/null | sed -n 's/^QEMU emulator version \([0-9]*\)\..*/\1/p'
}

# Print "URI release" of each archive that the system's apt has of Debian itself.
debian_archives() {
    # shellcheck disable=SC2016
    apt-get indextargets --format '$(ORIGIN) $(REPO_URI) $(RELEASE) $(COMPONENT)' \
        'Created-By: Packages' | sed -n 's/^Debian \(.*\) main$/\1/p' | sort -u
}

# The system's Debian archives, for libraries, and backports from the one that has the release.
write_sources() {
    debian_archives | sed 's/^/deb /; s/$/ main/' >"$1"
    uri=$(debian_archives | awk -v release="$codename" '$2 == release { print $1; exit }')
    [ -n "$uri" ] || die 3 "apt has no archive of Debian '$codename':" \
        "run 'apt-get update' (as root) and see that $codename main is among apt's sources"
    echo "deb $uri $codename-backports main" >>"$1"
}

# Hooks of the system's apt configuration are for the system's own packages: none is run here.
write_apt_conf() {
    cat >"$1/apt.conf" <<CONF
Dir::Etc::SourceList "$1/sources.list";
Dir::Etc::SourceParts "/dev/null";
Dir::Etc::Preferences "/dev/null";
Dir::Etc::PreferencesParts "/dev/null";
Dir::State "$1/state";
Dir::State::status "/var/lib/dpkg/status";
Dir::Cache "$1/cache";
APT::Sandbox::User "root";
APT::Get::List-Cleanup "false";
Acquire::Languages "none";
Acquire::IndexTargets::deb::DEP-11::DefaultEnabled "false";
Debug::NoLocking "true";
#clear APT::Update::Pre-Invoke;
#clear APT::Update::Post-Invoke;
#clear APT::Update::Post-Invoke-Success;
CONF
}

private_apt() {
    mkdir -p "$apt/state/lists/partial" "$apt/cache/archives/partial"
    write_sources "$apt/sources.list"
    write_apt_conf "$apt"
    apt-get -qq -c "$apt/apt.conf" update ||
        die 1 "could not read the package lists of: $(cat "$apt/sources.list")"
}

# Print "package=version" for all that installing would bring in.
needed() {
    # shellcheck disable=SC2086
    apt-get -c "$apt/apt.conf" -qq -s -t "$codename-backports" --no-install-recommends \
        install $PACKAGES | sed -n 's/^Inst \([^ ]*\) \(\[[^]]*\] \)\{0,1\}(\([^ ]*\) .*/\1=\3/p'
}

unpack() {
    mkdir -p "$new/root" "$new/debs"
    needed >"$new/packages"
    [ -s "$new/packages" ] ||
        die 1 "apt finds nothing to install for $PACKAGES in $codename-backports"
    (cd "$new/debs" && xargs apt-get -qq -c "$apt/apt.conf" download) <"$new/packages" ||
        die 1 "could not download: $(tr '\n' ' ' <"$new/packages")"
    for deb in "$new"/debs/*.deb; do
        dpkg -x "$deb" "$new/root"
    done
    rm -rf "$new/debs"
}

# Libraries, modules (the accelerators are modules) and firmware are all looked for in the root.
write_wrapper() {
    cat >"$1" <<'WRAPPER'
#!/bin/sh
root=$(dirname "$(readlink -f "$0")")/root
lib=$root/usr/lib/x86_64-linux-gnu
export LD_LIBRARY_PATH="$lib${LD_LIBRARY_PATH:+:$LD_LIBRARY_PATH}"
export QEMU_MODULE_DIR="$lib/qemu"
exec "$root/usr/bin/qemu-system-x86_64" -L "$root/usr/share/qemu" -L "$root/usr/share/seabios" \
    -L "$root/usr/lib/ipxe/qemu" "$@"
WRAPPER
    chmod 755 "$1"
}

use_system() {
    mkdir -p "$HOME_DIR"
    printf '#!/bin/sh\nexec %s "$@"\n' "$(command -v qemu-system-x86_64)" >"$WRAPPER"
    chmod 755 "$WRAPPER"
    echo "fetch-qemu10: the system's own QEMU is version $1"
}

refresh=no
case "${1-}" in
'') ;;
--refresh) refresh=yes ;;
*) die 2 "usage: fetch-qemu10.sh [--refresh]   (environment: BUILD)" ;;
esac

if [ "$refresh" = no ] && [ -x "$WRAPPER" ]; then
    echo "fetch-qemu10: $WRAPPER (cached)"
    exit 0
fi
system=$(major_of qemu-system-x86_64 || true)
if [ "${system:-0}" -ge 10 ]; then
    use_system "$system"
    exit 0
fi
for tool in apt-get dpkg xargs; do
    command -v "$tool" >/dev/null || die 3 "'$tool' is missing: this needs a Debian system"
done
# shellcheck source=/dev/null
codename=$(. /etc/os-release && echo "${VERSION_CODENAME-}")

mkdir -p "$BUILD/cache"
new=$(cd "$BUILD/cache" && mktemp -d "$PWD/qemu10.XXXXXX")
trap 'rm -rf "$new"' EXIT
trap 'exit 1' INT TERM HUP
apt=$new/apt
mkdir -p "$apt"
private_apt
unpack
write_wrapper "$new/qemu-system-x86_64"
major=$(major_of "$new/qemu-system-x86_64" || true)
[ "${major:-0}" -ge 10 ] || die 1 "what was unpacked does not run:" \
    "$("$new/qemu-system-x86_64" --version 2>&1 | head -n 3)"
rm -rf "$apt" "$HOME_DIR"
chmod 755 "$new"
mv "$new" "$HOME_DIR"
echo "fetch-qemu10: $("$WRAPPER" --version | head -n 1), $(du -sm "$HOME_DIR" | cut -f1) MB"
