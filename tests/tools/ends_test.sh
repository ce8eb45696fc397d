#!/bin/bash
# SPDX-License-Identifier: Apache-2.0
# No script ends without a word: tools/lib/ends.sh says where set -e or set -u ended it, also with its output elsewhere.
set -uo pipefail
root=$(readlink -f "$(dirname "$(readlink -f "$0")")/../..")
failed=0
script=$(mktemp)
trap 'rm -f "$script"' EXIT

# expect TEXT WANTED-STATUS WANTED-WORDS SCRIPT: WANTED-WORDS '' for silence
expect() {
    local status=0 said
    printf '%s\n' ". '$root/tools/lib/ends.sh'" "$4" >"$script"
    said=$(bash "$script" 2>&1 >/dev/null) || status=$?
    if [ "$status" = "$2" ] && [[ $said == *"$3"* ]] && { [ -n "$3" ] || [ -z "$said" ]; }; then echo "PASS $1"
    else
        echo "FAIL $1: status $status, said '$said'"
        failed=1
    fi
}

expect "an end by set -e" 1 "ended by itself, status 1" 'set -e; false; true'
expect "inside a function, with its output thrown away" 3 "ended by itself, status 3" \
    'set -e; f() { (exit 3); }; f >/dev/null 2>&1; true'
expect "an end by set -u with its output thrown away" 1 "ended by itself" \
    'set -u; f() { local a=(1); [ "${a[4]}" = 2 ]; }; f >/dev/null 2>&1; true'
expect "in a command substitution" 1 "ended by itself, status 1" 'set -e; x=$(false); true'
expect "an exit that was meant says nothing" 3 "" 'set -e; f() { exit 3; }; f'
expect "a good end says nothing" 0 "" 'set -e; at_end true; ! false'
expect "what at_end holds runs, the latest first" 1 "second first" \
    'set -e; at_end "echo first >&2"; at_end "printf \"second \" >&2"; false'
said=$(bash -c ". '$root/tools/lib/common.sh'"$'\n''x=$(set -e; die "the reason"); exit 0' 2>&1)
[ "$said" = "bash: the reason" ] || { echo "FAIL die in a subshell says its reason: $said"; failed=1; }
said=$(bash -ec ". '$root/tools/lib/common.sh'"$'\n''x=$(die "the reason")' 2>&1)
if [ "$said" = "bash: the reason" ]; then echo "PASS and nothing else"
else
    echo "FAIL die in a subshell says nothing else: $said"
    failed=1
fi
exit $failed
