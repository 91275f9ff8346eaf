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
# Seconds, and seconds without a word: a system takes 15, or 60 where others work beside it.
LIMIT=1600 QUIET=240

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

# What has not told anything yet, of what is asked for.
left() {
    for system in $systems; do
        [ -s "$LAB/raw/$1/$system.json" ] || printf '%s ' "$system"
    done
}

# L1's processors are emulated, and die of each other's code now and then, or L2's kernel does (run-l1). What is left
# is done in another L1 then: after that nothing of the first one is to be relied on.
run_load() {
    local todo

    for _ in 1 2 3 4; do
        todo=$(left "$1")
        [ -n "$todo" ] || return 0
        echo "$1 $scale $todo" >"$LAB/settings"
        tests/nested/run-l1 -0 $DRAM -1 $CXL -c "$WORDS" -t $LIMIT -q $QUIET -o "$LAB/raw/$1" "$HERE/in-l1" "${files[@]}"
    done
    [ -z "$(left "$1")" ]
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
    run_load "$load" || status=1
done
"$PEERS" tell "$LAB" || status=1
exit $status
