#!/bin/bash
# SPDX-License-Identifier: GPL-2.0-or-later
#
# Lengths of functions and C files. A function's are the lines from its opening to its closing
# brace, which stands in the first column. Printed: median, p90 and maximum; too long is what is
# above the limits here.
set -u
. tests/lint/common

FUNCTION_MEDIAN=15
FUNCTION_MAX=100
FILE_MAX=600

# "lines name file:line" of each function. A heading is a line from the first column with a "(",
# that may go on; what ends with "};" is a table.
functions() {
    # shellcheck disable=SC2016  # $0 is for awk
    c_files | tr '\n' '\0' | xargs -0 awk '
        FNR == 1 { heading = ""; open = 0 }
        !open && /^[A-Za-z_].*\(/ { heading = $0 }
        !open && /^[A-Za-z_].*;$/ { heading = "" }
        !open && heading != "" && /\{$/ { open = FNR }
        open && /^\}/ {
            if ($0 == "}") {
                name = heading
                gsub(/__attribute__\(\([^)]*\)*/, "", name)
                sub(/\(.*/, "", name)
                sub(/.*[ *]/, "", name)
                print FNR - open + 1, name, FILENAME ":" open
            }
            open = 0
            heading = ""
        }'
}

file_lengths() {
    c_files | tr '\n' '\0' | xargs -0 wc -l | awk '$2 != "total" { print $1, $2 }'
}

# Numbers on stdin, sorted -> "median p90 max".
spread() {
    sort -n | awk '{ v[NR] = $1 }
        END { if (NR) print v[int((NR + 1) / 2)], v[int(NR * 0.9 + 0.999)], v[NR]; else print 0, 0, 0 }'
}

run() {
    local all files median p90 max fmedian fp90 fmax status=0

    all=$(functions)
    files=$(file_lengths)
    read -r median p90 max < <(awk 'NF { print $1 }' <<<"$all" | spread)
    read -r fmedian fp90 fmax < <(awk 'NF { print $1 }' <<<"$files" | spread)
    echo "functions: $(wc -l <<<"$all"), lines: median $median, p90 $p90, max $max"
    echo "files: $(wc -l <<<"$files"), lines: median $fmedian, p90 $fp90, max $fmax"
    echo "longest functions:"
    sort -rn <<<"$all" | head -n 5 | sed 's/^/    /'
    [ "$median" -le $FUNCTION_MEDIAN ] || { echo "the median function has more than $FUNCTION_MEDIAN lines" && status=1; }
    awk -v max=$FUNCTION_MAX 'NF && $1 > max { print $3 ": " $2 "() has " $1 " lines, more than " max; bad = 1 }
        END { exit bad }' <<<"$all" || status=1
    awk -v max=$FILE_MAX 'NF && $1 > max { print $2 ": " $1 " lines, more than " max; bad = 1 }
        END { exit bad }' <<<"$files" || status=1
    return $status
}

check "lengths of functions and files" run
