#!/bin/bash
# SPDX-License-Identifier: GPL-2.0-or-later
#
# Man pages: no warnings, and the sections that readers look for.
set -u
. tests/lint/common

pages() {
    files -path './man/*.[1-9]'
}

render() {
    local said

    if command -v mandoc >/dev/null; then
        mandoc -T lint -W warning "$1"
    elif command -v groff >/dev/null; then
        said=$(LC_ALL=C.UTF-8 groff -mandoc -Tutf8 -ww -z "$1" 2>&1)
        [ -z "$said" ] || { echo "$said" && false; }
    fi
}

has_sections() {
    local section status=0

    for section in NAME SYNOPSIS DESCRIPTION 'SEE ALSO'; do
        grep -qE "^\.S[Hh] \"?$section\"?\$" "$1" && continue
        echo "$1: has no section $section"
        status=1
    done
    return $status
}

run() {
    local status=0

    while read -r page; do
        render "$page" || status=1
        has_sections "$page" || status=1
    done < <(pages)
    return $status
}

check "man pages: $(pages | wc -l)" run
