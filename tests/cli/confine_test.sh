#!/bin/bash
# SPDX-License-Identifier: Apache-2.0
# The program's threads are confined while a guest runs, and a call that is not in a thread's list ends it.
. "$(dirname "$0")/lib.sh"

[ -w /dev/kvm ] || { echo 'skipped: /dev/kvm is not there'; exit 77; }
guests=$(dirname "$inox")/tests/kvm/guests
python=$(python3 -c 'import sys; print(sys.executable)')

vm=
# start OPTION...: a guest that runs until it is ended; its process is $vm
start() {
    : >"$scratch/vm.err"
    "$@" >"$scratch/vm.out" 2>"$scratch/vm.err" </dev/null &
    vm=$!
    eventually runs || fail "the guest of $* should run"
}
# The watchdog is the last thread of a start.
runs() { grep -qsx watchdog /proc/"$vm"/task/*/comm && grep -qsx vcpu0 /proc/"$vm"/task/*/comm; }
end() { kill -TERM "$vm"; await "$vm" 'a guest that was terminated'; vm=; }

# look FIELD TEXT: each thread's status has it, soon: the watchdog may be there first
have() {
    local task
    for task in /proc/"$vm"/task/*; do
        grep -qx "$1:[[:space:]]*$2" "$task/status" || return
    done
}
look() {
    checks=$((checks + 1))
    eventually have "$1" "$2" || fail "each thread should have $1 $2, not $(grep "^$1:" /proc/"$vm"/task/*/status)"
}

thread() {
    local task
    for task in /proc/"$vm"/task/*; do
        [ "$(cat "$task/comm")" != "$1" ] || basename "$task"
    done
}

truncate -s 1M "$scratch/disk"
all=(--kernel "$guests/spin" --cpus 2 --memory 64M --disk "$scratch/disk" --entropy --balloon size=4
    --vsock "cid=3,uds=$scratch/v" --iommu --dsa)
printf '{"boot-source": {"kernel_image_path": "%s/spin"}, "drives": [],
    "machine-config": {"vcpu_count": 1, "mem_size_mib": 16}}' "$guests" >"$scratch/vm.json"

start "$inox" run "${all[@]}" --exits "$scratch/exits"
look Seccomp 2
look NoNewPrivs 1
for task in /proc/"$vm"/task/*; do
    [[ $(cat "$task/comm") != kvm-* ]] || continue # the kernel's own
    effective=0x$(sed -n 's/^CapEff:\s*//p' "$task/status")
    blocked=0x$(sed -n 's/^SigBlk:\s*//p' "$task/status")
    checks=$((checks + 2))
    # DAC_OVERRIDE, NET_ADMIN and IPC_LOCK at most
    (( (effective & ~((1 << 1) | (1 << 12) | (1 << 14))) == 0 )) ||
        fail "$(cat "$task/comm") has capabilities $effective"
    (( (blocked & (1 << 30)) == 0 )) || fail "$(cat "$task/comm") blocks SIGSYS"
done
for name in vcpu0 vcpu1 watchdog dsa-engine; do
    checks=$((checks + 1))
    [ -n "$(thread $name)" ] || fail "a thread is called $name"
done
end
checks=$((checks + 1))
[ "$code" = 143 ] || fail 'a terminated guest ends with 143'
checks=$((checks + 1))
[ -s "$scratch/exits" ] || fail 'what is written at the end is written'

start "$inox" run "${all[@]}" --seccomp off
look Seccomp 0
end
start "$inox" run "${all[@]}" --seccomp log
look Seccomp 2
end

# A call that a thread has no use for: unshare is 272. With an API the loop has more to do.
for name in vcpu0 api watchdog inox inox,api; do
    options=("${all[@]}")
    [[ $name != *api ]] || options+=(--api-sock "$scratch/api")
    name=${name%,api}
    start "$inox" run "${options[@]}"
    "$python" "$source/tests/cli/make_call.py" "$(thread "$name")" 272 >"$scratch/call" 2>&1 &
    call=$!
    case $name in
        api) "$inox" ctl -s "$scratch/api" status >/dev/null 2>&1 & ;; # it waits for a client
        watchdog | inox) sleep 1; kill -WINCH "$vm" 2>/dev/null ;;
    esac
    await "$vm" "a guest whose $name made a forbidden call"
    wait "$call"
    err=$(cat "$scratch/vm.err" "$scratch/call")
    checks=$((checks + 2))
    [ "$code" = 149 ] || fail "a forbidden call of $name should end the run with 149"
    shows ' called unshare(0x'
    shows ', system call 272, which is not in its list [forbidden_call]'
done

start "$inox" --no-api --config-file "$scratch/vm.json" --log-path "$scratch/log"
look Seccomp 2
"$python" "$source/tests/cli/make_call.py" "$(thread vcpu0)" 272
await "$vm" 'a guest that made a forbidden call'
checks=$((checks + 2))
[ "$code" = 148 ] || fail 'with the flags of Firecracker, a forbidden call ends with 148'
grep -qx 'Shutting down VM after intercepting a bad syscall (272).' "$scratch/log" || fail 'the log tells of it'
start "$inox" --no-api --config-file "$scratch/vm.json" --no-seccomp
look Seccomp 0
end
start "$inox" --no-api --config-file "$scratch/vm.json" --seccomp-filter /nonexistent
look Seccomp 2
end
err=$(cat "$scratch/vm.err")
shows '--seccomp-filter is ignored: inox uses its own filters'
finish
