#!/bin/bash
# SPDX-License-Identifier: GPL-2.0-or-later
#
# Run all twelve cases of tests/vm/test-dma.c, N at a time, SECONDS each, and sum them up.
#
#     tests/long/run-dma.sh [-j N] [-s SECONDS] [-p PIECES] [CASE]...
#
# N is 2 and SECONDS 600 unless given: an hour in all. Build first, and have the test guest and QEMU 10
# (make guest). Each run of a case adds a line to $BUILD/long/dma.jsonl; its log is
# $BUILD/long/dma-CASE.log. On a machine that is shared, $LOCK names a file to flock for each N cases,
# and PIECES cuts the time into so many runs.
# Exit: 0 all is right, 1 something is not, 2 usage.
set -u

BUILD=${BUILD:-build}
LOCK=${LOCK:-/dev/null}
PROGRAM=$BUILD/tests/vm/test-dma
jobs=2
seconds=600
pieces=1

die() {
    echo "run-dma: $*" >&2
    exit 2
}

list_cases() {
    VMTIER_DMA_ALL=1 "$PROGRAM" -l | sed -n 's|^/dma/||p' | grep -v '^without-fence$'
}

run_case() {
    local log=$BUILD/long/dma-$1.log

    if VMTIER_DMA_ALL=1 VMTIER_DMA_SECONDS=$((seconds / pieces)) "$PROGRAM" --tap -p "/dma/$1" \
        >"$log" 2>&1; then
        echo "ok   $1"
    else
        cp "$log" "$log.failed"
        echo "FAIL $1: see $log.failed"
    fi
}

run_together() {
    local one

    {
        flock 9
        for one; do
            run_case "$one" 9>&- &
        done
        wait
    } 9>"$LOCK"
}

run_all() {
    local piece i

    for ((piece = 0; piece < pieces; piece++)); do
        for ((i = 0; i < ${#cases[@]}; i += jobs)); do
            run_together "${cases[@]:i:jobs}"
        done
    done
}

# Each line is one flat object; those that this run has added are summed up by case.
summarize() {
    tail -n "+$(($1 + 1))" "$BUILD/long/dma.jsonl" | tr -d '{}"' | awk -F', ' '
        {
            for (i = 1; i <= NF; i++) {
                split($i, pair, ": ")
                v[pair[1]] = pair[2]
            }
            c = v["case"]
            if (!(c in qemu)) order[++n] = c
            qemu[c] = v["qemu"]
            seconds[c] += v["seconds"]
            reads[c] += v["operations"]
            moved[c] += v["granules_moved"]
            deferred[c] += v["deferred"]
            bad[c] += v["bad"] + v["pages_bad"]
            stalls[c] += v["stalls"]
            if (v["hold_p99_us"] > p99[c]) p99[c] = v["hold_p99_us"]
            sectors += v["sectors"]
        }
        END {
            for (i = 1; i <= n; i++) {
                c = order[i]
                printf "%-26s QEMU %-7s %5d s %9d reads %10d granules moved %7d deferred %d bad %d stalls" \
                    " held p99 %d us\n", c, qemu[c], seconds[c], reads[c], moved[c], deferred[c], bad[c],
                    stalls[c], p99[c]
                all_moved += moved[c]
                all_bad += bad[c]
            }
            printf "%d cases, %.0f sectors checked, %.0f granules moved, %d bad\n", n, sectors, all_moved,
                all_bad
        }'
}

while getopts j:s:p: option; do
    case $option in
    j) jobs=$OPTARG ;;
    s) seconds=$OPTARG ;;
    p) pieces=$OPTARG ;;
    *) die "usage: run-dma.sh [-j N] [-s SECONDS] [-p PIECES] [CASE]..." ;;
    esac
done
shift $((OPTIND - 1))
[ -x "$PROGRAM" ] || die "$PROGRAM is missing: run make"
mkdir -p "$BUILD/long"
touch "$BUILD/long/dma.jsonl"
before=$(wc -l <"$BUILD/long/dma.jsonl")
[ $# -gt 0 ] || mapfile -t cases < <(list_cases)
[ $# = 0 ] || cases=("$@")
VMTIER_DMA_COMMIT=$(git rev-parse --short HEAD 2>/dev/null)
export VMTIER_DMA_COMMIT
results=$(run_all)
echo "$results"
summarize "$before"
! grep -q '^FAIL' <<<"$results"
