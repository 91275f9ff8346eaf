#!/bin/sh
# SPDX-License-Identifier: GPL-2.0-or-later
#
# Install those of the packages listed in a file that are missing, with apt.
#
# The file has one package per line; # starts a comment; "a | b" is content with either and installs
# the first that apt knows. Nothing is touched if nothing is missing. Without the rights to install,
# it says what an administrator has to run.
# Exit: 0 all is there, 1 it could not be installed, 2 usage, 3 no rights or no apt.
set -eu

if [ $# != 1 ] || ! [ -r "$1" ]; then
    echo "usage: deps.sh FILE" >&2
    exit 2
fi

is_installed() {
    [ "$(dpkg-query -W -f '${db:Status-Status}' "$1" 2>/dev/null)" = installed ]
}

has_candidate() {
    apt-cache policy "$1" 2>/dev/null | grep -q 'Candidate: [^(]'
}

# Print the packages of the file that are missing, one alternative each.
list_missing() {
    sed 's/#.*//; s/|/ /g; /^[[:space:]]*$/d' "$1" | while read -r alternatives; do
        found=
        for package in $alternatives; do
            if is_installed "$package"; then found=yes; fi
        done
        [ -n "$found" ] || echo "$alternatives"
    done
}

choose() {
    while read -r alternatives; do
        chosen=${alternatives%% *}
        for package in $alternatives; do
            if has_candidate "$package"; then
                chosen=$package
                break
            fi
        done
        echo "$chosen"
    done
}

# apt's lists are also what the test kernel is looked up in.
have_lists() {
    for list in /var/lib/apt/lists/*Packages*; do
        if [ -e "$list" ]; then return 0; fi
    done
    return 1
}

missing=$(list_missing "$1")
if [ -z "$missing" ] && { have_lists || ! command -v apt-get >/dev/null; }; then
    echo "deps: nothing is missing"
    exit 0
fi
if ! command -v apt-get >/dev/null; then
    echo "deps: there is no apt-get here. Install what these Debian packages stand for:" >&2
    echo "$missing" | sed 's/^/    /' >&2
    exit 3
fi

as_root=
if [ "$(id -u)" != 0 ]; then
    as_root=sudo
    if [ -z "$missing" ] && ! command -v sudo >/dev/null; then
        echo "deps: nothing is missing but apt's lists: the test kernel needs 'apt-get update' (as root)"
        exit 0
    fi
    if ! command -v sudo >/dev/null; then
        echo "deps: not root, and there is no sudo. Have an administrator run:" >&2
        echo "    apt-get update && apt-get install $(echo "$missing" | choose | tr '\n' ' ')" >&2
        exit 3
    fi
fi

apt() {
    echo "deps: $as_root apt-get $*"
    # shellcheck disable=SC2086  # empty for root
    $as_root env DEBIAN_FRONTEND=noninteractive apt-get -q -y -o DPkg::Lock::Timeout=120 "$@"
}

# An archive of somebody else's that does not answer need not stop us; a missing package does below.
apt update || echo "deps: apt-get update failed; going on with the lists there are" >&2
[ -n "$missing" ] || exit 0
# shellcheck disable=SC2046  # one word per package
apt install --no-install-recommends $(echo "$missing" | choose) || {
    echo "deps: could not install what is missing: see above" >&2
    exit 1
}
