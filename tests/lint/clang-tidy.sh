#!/bin/bash
# SPDX-License-Identifier: GPL-2.0-or-later
#
# clang-tidy over all C sources; .clang-tidy says which checks and why not others.
#
# A file that passed is not looked at again until it, a header of the project that it includes, the
# configuration or clang-tidy changes: build/lint/tidy/ has an empty file named by the hash of these.
#
# timeout: 1200
set -u
. tests/lint/common

# Print what the result of a file depends on, as one hash.
key_of() {
    {
        echo "$FLAGS $VERSION"
        # shellcheck disable=SC2046,SC2086  # lists of words
        cat .clang-tidy "$0" "$1" $(${CC:-cc} $FLAGS -MM "$1" | tr -d '\\\n' | sed 's/^[^:]*://')
    } 2>/dev/null | sha256sum | cut -d' ' -f1
}

# The analyzer does not see that g_autofree and g_autoptr free; asan looks for leaks there.
checks_of() {
    case $1 in
    host/* | tests/* | bench/*) echo --checks=-clang-analyzer-unix.Malloc ;;
    *) echo --checks= ;;
    esac
}

tidy_one() {
    local key out

    key=$BUILD/lint/tidy/$(key_of "$1")
    [ ! -e "$key" ] || return 0
    # shellcheck disable=SC2086  # a list of words
    if out=$(clang-tidy --quiet "$(checks_of "$1")" "$1" -- $FLAGS 2>/dev/null); then
        : >"$key"
    else
        printf '%s\n' "${out:-$1: clang-tidy failed without a word}"
        return 1
    fi
}

run() {
    mkdir -p "$BUILD/lint/tidy"
    c_files | xargs -P "$LINT_JOBS" -n 1 "$0" --one
}

FLAGS="$(c_flags) -Wall -Wextra"
VERSION=$(clang-tidy --version 2>/dev/null | tr -d '\n')
if [ "${1-}" = --one ]; then
    tidy_one "$2"
    exit
fi
needs clang-tidy
check "clang-tidy: $(c_files | wc -l) files" run
