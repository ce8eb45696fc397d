#!/bin/bash
# SPDX-License-Identifier: Apache-2.0
# The tests that need a KVM, on a host that has none, or one that interprets: all of them in one start of the lab, whose
# parts ctest's entries then report (part.sh). A host with a good KVM runs them itself, but for those that want ENQCMD's
# opcodes: no CPU here has them, and the lab's KVM hands them to user space.
#   lab.sh PARTS RESULTS          PARTS: lines "NAME<TAB>kvm or enqcmd<TAB>SECONDS<TAB>COMMAND"
# leaves in RESULTS for each part NAME.here (the entry runs the command itself), NAME.skip (a reason), or NAME.log and
# NAME.status, and lab.log, what the lab machine said of itself.
set -euo pipefail
here=$(dirname "$(readlink -f "$0")")
root=$(readlink -f "$here/../..")

outside() {
    local parts=$1 results=$2 name need seconds command status=0
    . "$root/tools/lib/common.sh"
    . "$root/tools/lib/packages.sh"
    . "$root/tools/lib/machine.sh"
    rm -rf "$results"
    mkdir -p "$results"
    probe_host
    # shellcheck disable=SC2154  # probe_host sets it
    echo "this host's /dev/kvm: $kvm"
    while IFS=$'\t' read -r name need seconds command; do
        if [ "$need" = kvm ] && [ "$kvm" = good ]; then : >"$results/$name.here"; continue; fi
        printf '%s\t%s\t%s\t%s\n' "$name" "$need" "$seconds" "$command"
    done <"$parts" >"$results/lab.parts"
    [ -s "$results/lab.parts" ] || return 0
    # One part's client comes from npm: there is no network inside
    node_package "${node_client[@]}" >/dev/null 2>"$results/npm.log" ||
        cp "$results/npm.log" "$results/cli.firecrackerode_test.skip"
    # A pyenv's python3 is a shell script, which takes six seconds in the lab, each time
    PATH=$(python3 -c 'import os, sys; print(os.path.dirname(sys.executable))'):$PATH
    "$root/tools/lab" --nested --timeout 2400 --out "$results" -- "$here/lab.sh" --inside "$results" \
        </dev/null >"$results/lab.log" 2>&1 || status=$?
    cat "$results/lab.log"
    while IFS=$'\t' read -r name _; do
        if [ $status = 126 ]; then tail -n 1 "$results/lab.log" >"$results/$name.skip"; fi
        [ -e "$results/$name.status" ] || [ -e "$results/$name.skip" ] || echo "$name: no result"
    done <"$results/lab.parts"
}

# In the lab: each part with a limit of its own, one after the other
inside() {
    local results=$1 name need seconds command status begin
    while IFS=$'\t' read -r name need seconds command <&7; do
        # After a start of the lab's second machine, what the first one did stands
        [ ! -e "$results/$name.skip" ] && [ ! -e "$results/$name.status" ] || continue
        if [ "$need" = enqcmd ] && [ ! -e /sys/module/inox_ud ]; then
            echo "the lab's kernel has no inox_ud: the headers it is built with could not be had" >"$results/$name.skip"
            continue
        fi
        status=0 begin=$SECONDS
        timeout -k 5 "$seconds" bash -c "$command" </dev/null >"$results/$name.log" 2>&1 || status=$?
        [ $status != 124 ] || echo "$name: not over after $seconds s" >>"$results/$name.log"
        echo "$name: status $status after $((SECONDS - begin)) s"
        echo "$status" >"$results/$name.status"
    done 7<"$results/lab.parts"
}

case ${1:?which parts} in
    --inside) inside "$2" ;;
    *) outside "$1" "$2" ;;
esac
