#!/bin/bash
# SPDX-License-Identifier: GPL-2.0-or-later
#
# Run all twelve cases of tests/vm/test-dma.c, N at a time, SECONDS each, and sum them up.
#
#     tests/long/run-dma.sh [-j N] [-s SECONDS] [CASE]...
#
# N is 2 and SECONDS 600 unless given: an hour in all. Build first, and have the test guest and QEMU 10
# (make guest). Each case that ends adds a line to $BUILD/long/dma.jsonl; its log is
# $BUILD/long/dma-CASE.log. $LOCK names a file to flock for each case, for machines that are shared.
# Exit: 0 all is right, 1 something is not, 2 usage.
set -u

BUILD=${BUILD:-build}
LOCK=${LOCK:-/dev/null}
PROGRAM=$BUILD/tests/vm/test-dma
jobs=2
seconds=600

die() {
    echo "run-dma: $*" >&2
    exit 2
}

list_cases() {
    VMTIER_DMA_ALL=1 "$PROGRAM" -l | sed -n 's|^/dma/||p' | grep -v '^without-fence$'
}

run_case() {
    local log=$BUILD/long/dma-$1.log

    if flock "$LOCK" env VMTIER_DMA_ALL=1 VMTIER_DMA_SECONDS="$seconds" \
        "$PROGRAM" --tap -p "/dma/$1" >"$log" 2>&1; then
        echo "ok   $1"
    else
        echo "FAIL $1: see $log"
    fi
}

# The lines that this run has added. Each is one flat object.
summarize() {
    tail -n "+$(($1 + 1))" "$BUILD/long/dma.jsonl" | tr -d '{}"' | awk -F', ' '
        {
            for (i = 1; i <= NF; i++) {
                split($i, pair, ": ")
                v[pair[1]] = pair[2]
            }
            bad = v["bad"] + v["pages_bad"]
            printf "%-26s QEMU %-7s %5d s %9d reads %10d sectors %9d granules moved %6d deferred %d bad" \
                " %d stalls; held p50 %d p99 %d max %d us\n", v["case"], v["qemu"], v["seconds"],
                v["operations"], v["sectors"], v["granules_moved"], v["deferred"], bad, v["stalls"],
                v["hold_p50_us"], v["hold_p99_us"], v["hold_max_us"]
            sectors += v["sectors"]
            moved += v["granules_moved"]
            all_bad += bad
        }
        END { printf "%d cases, %.0f sectors checked, %.0f granules moved, %d bad\n", NR, sectors, moved, all_bad }'
}

while getopts j:s: option; do
    case $option in
    j) jobs=$OPTARG ;;
    s) seconds=$OPTARG ;;
    *) die "usage: run-dma.sh [-j N] [-s SECONDS] [CASE]..." ;;
    esac
done
shift $((OPTIND - 1))
[ -x "$PROGRAM" ] || die "$PROGRAM is missing: run make"
mkdir -p "$BUILD/long"
touch "$BUILD/long/dma.jsonl"
before=$(wc -l <"$BUILD/long/dma.jsonl")
[ $# -gt 0 ] || mapfile -t cases < <(list_cases)
[ $# = 0 ] || cases=("$@")
results=$(
    for one in "${cases[@]}"; do
        while [ "$(jobs -rp | wc -l)" -ge "$jobs" ]; do
            wait -n
        done
        run_case "$one" &
    done
    wait
)
echo "$results"
summarize "$before"
! grep -q '^FAIL' <<<"$results"
