#!/bin/bash
# SPDX-License-Identifier: GPL-2.0-or-later
#
# The test driver's own test: toy tests that end in every way a test can, in a build directory of
# their own, and a dmesg of our own.
#
# timeout: 60
set -u

top=$PWD
dir=$(mktemp -d)
trap 'rm -rf "$dir"' EXIT
mkdir "$dir/bin" "$dir/tests"
cd "$dir" || exit 1
export BUILD=$dir/build PATH=$dir/bin:$PATH
unset T

points=0

# toy NAME TEXT: the script that is run as tests/NAME.sh
toy() {
    printf '#!/bin/sh\n%s\n' "$2" >"tests/$1.sh"
    chmod +x "tests/$1.sh"
}

# has_ended FILE: the process whose id is in the file is no more, or waits for its parent.
has_ended() {
    ! grep -q '^State:[[:space:]][^Z]' "/proc/$(cat "$1")/status"
}

# The kernel log is what is in this file.
fake_dmesg() {
    printf '#!/bin/sh\ncat %s/kernel\n' "$dir" >bin/dmesg
    chmod +x bin/dmesg
    echo '[1.0] BUG: of yesterday' >kernel
}

drive() {
    "$top/tests/run-tests" "$@" >out 2>err
    status=$?
    last=$(tail -n 1 out)
}

# point DESCRIPTION COMMAND...: one TAP point, with what the driver said if it failed
point() {
    local description=$1

    shift
    points=$((points + 1))
    if "$@" >/dev/null 2>&1; then
        echo "ok $points - $description"
    else
        echo "not ok $points - $description"
        sed 's/^/# /' out err
        echo "# status $status, wanted: $*"
    fi
}

verdict() {
    [ "$last" = "$1" ] && [ $status = "$2" ]
}

says() {
    grep -qE -- "$1" out
}

says_not() {
    ! grep -qE -- "$1" out
}

toy pass 'echo 1..2; echo ok 1 - a; echo ok 2 - b'
drive tests/pass.sh
point 'all points of a test are counted' verdict '2 passed, 0 failed, 0 skipped' 0
point 'a line per test' says '^ok +tests/pass +2 passed, [0-9.]+ s$'
drive tests/pass.sh
point 'with the seconds of the time before' says 'passed, [0-9.]+ s \(before: [0-9.]+\)$'

toy fail 'echo 1..2; echo "what I saw"; echo not ok 1 - broken; echo ok 2'
drive tests/fail.sh tests/pass.sh
point 'a failed point fails the run' verdict '3 passed, 1 failed, 0 skipped' 1
point 'its log is shown' says '^what I saw$'
point 'it is listed by name' says '^    tests/fail 1 - broken$'

toy skip 'echo 1..2; echo "ok 1 - a # SKIP no /dev/zero"; echo ok 2'
drive tests/skip.sh
point 'a skipped point is neither' verdict '1 passed, 0 failed, 1 skipped' 0
point 'its reason is listed' says 'tests/skip 1 - a: no /dev/zero$'

toy skipall 'echo "1..0 # SKIP no such machine"'
drive tests/skipall.sh
point 'a test may skip as a whole' verdict '0 passed, 0 failed, 1 skipped' 0
point 'its reason is listed, too' says 'no such machine'

toy todo 'echo 1..1; echo "not ok 1 - a # TODO issue 7"'
drive tests/todo.sh
point 'an expected failure counts as skipped' verdict '0 passed, 0 failed, 1 skipped' 0

toy bail 'echo 1..3; echo ok 1; echo "Bail out! no more"; exit 1'
drive tests/bail.sh
point 'a bail-out is one failure' verdict '1 passed, 1 failed, 0 skipped' 1
point 'with its reason' says 'Bail out! no more'

toy crash 'echo 1..1; echo ok 1; kill -SEGV $$'
drive tests/crash.sh
point 'a crash after the last point is a failure' verdict '1 passed, 1 failed, 0 skipped' 1

toy status 'echo 1..1; echo ok 1; exit 3'
drive tests/status.sh
point 'so is an exit status' verdict '1 passed, 1 failed, 0 skipped' 1

toy short 'echo 1..3; echo ok 1'
drive tests/short.sh
point 'less than the plan is a failure' verdict '1 passed, 1 failed, 0 skipped' 1

toy noplan 'echo ok 1'
drive tests/noplan.sh
point 'no plan is a failure' verdict '1 passed, 1 failed, 0 skipped' 1

toy silent ':'
drive tests/silent.sh
point 'saying nothing is a failure' verdict '0 passed, 1 failed, 0 skipped' 1

drive tests/none.sh
point 'a test that is not there is a failure' says '^0 passed, [1-9][0-9]* failed, 0 skipped$'

toy stderr 'echo 1..1; echo "ok 2 - on stderr" >&2; echo ok 1'
drive tests/stderr.sh
point 'stderr is no TAP' verdict '1 passed, 0 failed, 0 skipped' 0

# shellcheck disable=SC2016  # for the toy
toy slow '# timeout: 1
echo 1..1; sleep 77 & echo $! >child; wait; echo ok 1'
drive tests/slow.sh
point 'a test ends when its time is over' says '^0 passed, [1-9] failed, 0 skipped$'
point 'which is said' says 'ran out of time: it may take 1 s'
point 'its children end with it' has_ended child

toy nap '# timeout: 1
echo 1..1; sleep 2; echo ok 1'
drive --slow 5 tests/nap.sh
point 'time limits can be stretched' verdict '1 passed, 0 failed, 0 skipped' 0

# Each waits for the other, so they end well only if both run at a time.
# shellcheck disable=SC2016  # for the toys
meet='for i in $(seq 100); do [ -e $other.here ] && echo ok 1 && exit; sleep 0.1; done; echo not ok 1'
toy one "echo 1..1; touch one.here; other=two; $meet"
toy two "echo 1..1; touch two.here; other=one; $meet"
drive --jobs 2 tests/one.sh tests/two.sh
point 'tests run in parallel' verdict '2 passed, 0 failed, 0 skipped' 0
point 'and are all counted' verdict '2 passed, 0 failed, 0 skipped' 0

fake_dmesg
toy oops "echo 1..1; echo '[2.0] WARNING: CPU: 1 at mm/memory.c' >>$dir/kernel; echo ok 1"
drive --kernel-log tests/pass.sh
point 'old complaints of the kernel are not ours' verdict '2 passed, 0 failed, 0 skipped' 0
drive --kernel-log tests/oops.sh
point 'a complaint is a failure of its own' verdict '1 passed, 1 failed, 0 skipped' 1
point 'and is shown' says 'WARNING: CPU: 1'
drive --stage vm --kernel-log tests/pass.sh --stage unit tests/oops.sh
point 'a stage ends what an option began' verdict '3 passed, 0 failed, 0 skipped' 0

drive
point 'nothing to run is an error' [ $status = 2 ]
drive --nonsense
point 'an unknown option is an error' [ $status = 2 ]
drive tests/pass.sh
point 'no lists without need' says_not '^(Skipped|Failed):'

echo "1..$points"
