#!/bin/bash
# SPDX-License-Identifier: Apache-2.0
# Clients that attack the API: slow, huge, nested, pipelined, half-closed, in thousands. Meanwhile one that behaves gets
# its answers, and memory and descriptors stay as they were. Before a start, and with a guest, confined.
. "$(dirname "$0")/lib.sh"

command -v python3 >/dev/null || { echo 'python3 is missing'; exit 77; }
guests=$(dirname "$inox")/tests/kvm/guests
ulimit -n "$(ulimit -Hn)"
mkdir "$scratch/own"
truncate -s 1M "$scratch/own/disk"
export PYTHONDONTWRITEBYTECODE=1

# attack ROUNDS TEXT OPTION...: inox with these options; what the attackers find goes to standard output
attack() {
    local rounds=$1 text=$2
    shift 2
    "$inox" "$@" --api-sock "$scratch/s" >"$scratch/out" 2>"$scratch/log" </dev/null &
    local vmm=$!
    trap 'kill "$vmm" 2>/dev/null; rm -rf "$scratch"' EXIT
    eventually test -S "$scratch/s"
    echo "$text:"
    checks=$((checks + 1))
    timeout 250 python3 "$(dirname "$0")/hostile_client.py" "$inox" "$scratch/s" "$vmm" "$rounds" "$scratch/own" ||
        code=$? out='' err=$(tail -n 3 "$scratch/log" | cut -c 1-300) fail "$text"
    checks=$((checks + 1))
    kill -TERM "$vmm"
    await "$vmm" 'the VMM'
    [ "$code" = 143 ] && [ ! -e "$scratch/s" ] || fail "$text: inox should end with 143 and remove its socket"
}

attack 3 'before a start'
[ -w /dev/kvm ] && [ -e "$guests/idle" ] || { echo 'not checked: a guest, for lack of /dev/kvm or guests'; finish; }
attack 1 'with a guest' run --kernel "$guests/idle" --memory 16M
finish
