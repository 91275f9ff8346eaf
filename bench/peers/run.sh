#!/bin/bash
# SPDX-License-Identifier: GPL-2.0-or-later
#
# Tiering of one guest by vmtier, and by what else there is, side by side: each load in a boot of L1 (tests/nested), in
# which the systems run one after the other. What they gave is left in $BUILD/lab/raw/LOAD/SYSTEM.json; made of it are
# report.json, table.md and peers.png in $BUILD/lab.
#
# Usage: run.sh [--brief] [LOAD]...   --brief: three loads, half as long. Environment: BUILD, SYSTEMS (all), SCALE.
# Exit: 0 ok, 1 a run failed (the report is made of the others), 3 something is missing.
set -u

BUILD=${BUILD:-build}
HERE=$(dirname "$0")
LAB=$BUILD/lab
PEERS=$BUILD/bench/peers/peers
# MiB of the two nodes: node 0 has room for all of the guest.
DRAM=768 CXL=640
# On ramfs nothing of L1's own root file system can be demoted to make room for the guest.
WORDS='root=/dev/ram0 transparent_hugepage=never'
LIMIT=1600

[ -x "$PEERS" ] || { echo "run.sh: $PEERS is not built" >&2 && exit 3; }
scale=${SCALE:-1}
if [ "${1-}" = --brief ]; then
    shift
    scale=0.5
    [ $# -gt 0 ] || set -- stable shift uniform
fi
# shellcheck disable=SC2046  # a word per load
[ $# -gt 0 ] || set -- $("$PEERS" loads)
systems=${SYSTEMS:-$("$PEERS" systems | tr '\n' ' ')}

# 125: L1 ended before the script did. Two processors that are emulated die of each other's code now and then (run-l1).
run_load() {
    local code=125

    for _ in 1 2 3; do
        [ $code = 125 ] || break
        tests/nested/run-l1 -0 $DRAM -1 $CXL -c "$WORDS" -t $LIMIT -o "$LAB/raw/$1" "$HERE/in-l1" "${files[@]}"
        code=$?
    done
    return $code
}

status=0
for load; do
    files=("$PEERS=build/bench/peers/peers" "$LAB/settings=.peers")
    if [ "$load" = redis ]; then
        "$HERE/mk-redis.sh" "$LAB/redis.cpio" || exit 3
        files+=("$LAB/redis.cpio=build/cache/redis.cpio")
    fi
    rm -rf "$LAB/raw/${load:?}"
    mkdir -p "$LAB/raw/$load"
    echo "$load $scale $systems" >"$LAB/settings"
    run_load "$load" || status=1
    for system in $systems; do
        [ -s "$LAB/raw/$load/$system.json" ] || status=1
    done
done
"$PEERS" tell "$LAB" || status=1
exit $status
