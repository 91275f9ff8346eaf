#!/bin/bash
# SPDX-License-Identifier: GPL-2.0-or-later
#
# cppcheck over all C sources. Its "gtk" library knows most of GLib, cppcheck.cfg some that it does
# not; json-glib, cairo and ncurses are left unknown. One finding at one place is silenced by a comment there:
# // cppcheck-suppress id ; reason
#
# timeout: 300
set -u
. tests/lint/common

# Print the name of a library's configuration without what is wrong in it: mmap() may well get fd -1
# and its memory is not lost with the pointer; accept4() takes NULL; close() of -1 is harmless.
corrected() {
    local from

    from=$(find /usr/share/cppcheck /usr/lib -path "*cppcheck/cfg/$1.cfg" 2>/dev/null | head -n 1)
    [ -n "$from" ] || { echo "$1" && return; }
    sed -e '/<alloc init="true">mmap/d' \
        -e '/<function name="mmap/,/<\/function>/s|<valid>0:</valid>||' \
        -e '/<function name="close"/,/<\/function>/s|<valid>0:</valid>||' \
        -e '/<function name="accept4"/,/<\/function>/s|<not-null/>||' "$from" >"$BUILD/lint/$1.cfg"
    echo "$BUILD/lint/$1.cfg"
}

run() {
    local cache list

    # cppcheck notices that a file has changed, but not that its configuration has.
    cache=$BUILD/lint/cppcheck-$(cat tests/lint/cppcheck.* | sha256sum | cut -c1-12)
    mkdir -p "$cache"
    list=$(mktemp)
    c_files >"$list"
    cppcheck --quiet --error-exitcode=1 --std=c11 --enable=warning,style,performance,portability \
        --library="$(corrected posix)" --library="$(corrected gnu)" --library=gtk \
        --library=tests/lint/cppcheck.cfg --cppcheck-build-dir="$cache" -j "$LINT_JOBS" \
        --inline-suppr --suppressions-list=tests/lint/cppcheck.suppress \
        -D_GNU_SOURCE -D__x86_64__ -D__linux__ -Iinclude -I. --file-list="$list"
    local status=$?
    rm -f "$list"
    return $status
}

needs cppcheck
check "cppcheck: $(c_files | wc -l) files" run
