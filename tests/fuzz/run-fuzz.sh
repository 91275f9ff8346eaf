#!/bin/bash
# SPDX-License-Identifier: GPL-2.0-or-later
#
# Run every fuzz target, or those in $FUZZ_ONLY, for $FUZZ_SECONDS (20) on its corpus, as many at a
# time as there are processors; one TAP point each.
#
# Seeds are in tests/fuzz/corpus/NAME/ and never written to: what the engine finds goes to
# $BUILD/fuzz/corpus/NAME/. An input that crashes is left in $BUILD/fuzz/ under the name that the
# log gives; once it is mended, add that input to the seeds: it is the regression test.
#
# timeout: 900
set -u

BUILD=${BUILD:-build}
SECONDS_EACH=${FUZZ_SECONDS:-20}

targets() {
    find "$BUILD/fuzz/tests/fuzz" -maxdepth 1 -type f -executable -name 'fuzz-*' 2>/dev/null | sort |
        while read -r program; do
            case " ${FUZZ_ONLY:-${program##*/}} " in
                *" ${program##*/} "*) echo "$program" ;;
            esac
        done
}

fuzz() {
    local name=$1 found=$BUILD/fuzz/corpus/$1 seeds=tests/fuzz/corpus/$1

    mkdir -p "$found"
    set -- -max_total_time="$SECONDS_EACH" -timeout=10 -rss_limit_mb=2048 -print_final_stats=1 \
        -artifact_prefix="$BUILD/fuzz/$name-" "$found"
    [ ! -d "$seeds" ] || set -- "$@" "$seeds"
    "$BUILD/fuzz/tests/fuzz/$name" "$@" >"$BUILD/fuzz/$name.log" 2>&1
    echo $? >"$BUILD/fuzz/$name.status"
}

if [ "${1-}" = --one ]; then
    fuzz "${2##*/}"
    exit 0
fi

mapfile -t programs < <(targets)
[ ${#programs[@]} -gt 0 ] || {
    echo "1..0 # SKIP no fuzz target is built: run 'make fuzz'"
    exit 0
}
echo "1..${#programs[@]}"
rm -f "$BUILD"/fuzz/fuzz-*.status
printf '%s\0' "${programs[@]}" | xargs -0 -P "$(nproc)" -n 1 "$0" --one
for i in "${!programs[@]}"; do
    name=${programs[i]##*/}
    if [ "$(cat "$BUILD/fuzz/$name.status" 2>/dev/null)" = 0 ]; then
        echo "ok $((i + 1)) - $name"
        grep -E 'number_of_executed_units|inputs$' "$BUILD/fuzz/$name.log" | sed 's/^/# /'
    else
        echo "not ok $((i + 1)) - $name"
        tail -n 60 "$BUILD/fuzz/$name.log" | sed 's/^/# /'
    fi
done
