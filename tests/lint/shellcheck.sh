#!/bin/bash
# SPDX-License-Identifier: GPL-2.0-or-later
#
# Runs shellcheck over every file that is a shell script by its first line, and those that are sourced.
set -u
. tests/lint/common

# Busybox's sh is checked as a POSIX shell, or what shellcheck calls dash where it has local.
scripts() {
    files -size -200k | while read -r file; do
        case $(head -c 60 "$file" | head -n 1 | tr -d '\0') in
        '#!'*sh) echo "$file" ;;
        esac
    done
    printf '%s\n' tests/lint/common tests/tap tests/install
    files -path './completion/*'
}

dialect() {
    if head -n 1 "$1" | grep -q busybox; then
        echo --shell=dash
    elif head -n 1 "$1" | grep -q '^#!'; then
        echo --norc
    else
        echo --shell=bash
    fi
}

run() {
    local status=0

    while read -r file; do
        shellcheck --external-sources "$(dialect "$file")" "$file" || status=1
    done < <(scripts | sort -u)
    return $status
}

needs shellcheck
check "shellcheck: $(scripts | sort -u | wc -l) scripts" run
