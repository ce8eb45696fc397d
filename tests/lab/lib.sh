# shellcheck shell=bash
# SPDX-License-Identifier: Apache-2.0
# What the lab's tests share. Sourced. Who sources it uses at_end instead of trap ... EXIT.
#
#   skip TEXT                ends the test as one that cannot run here
#   ok TEXT COMMAND...       a check: a line, and failed=1 when the command fails; $about: what goes before the text
#   said KEY                 what the guest said in lines "KEY VALUE" of /tmp/said
#   lab_test LAB-OPTION...   the lab machine with what follows; skips when it cannot start, else its status in $status

. "$(dirname "${BASH_SOURCE[0]}")/../../tools/lib/ends.sh"

skip() {
    echo "SKIP $1"
    exit 77
}

ok() {
    local text="${about:+$about: }$1"
    shift
    if "$@"; then
        echo "PASS $text"
    else
        echo "FAIL $text"
        failed=1
        return 1
    fi
}

said() { sed -n "s/^$1 //p" /tmp/said; }

# shellcheck disable=SC2034,SC2154  # the test's own
lab_test() {
    status=0
    "$root/tools/lab" "$@" </dev/null || status=$?
    [ $status != 126 ] || skip "the lab machine cannot start here"
}
