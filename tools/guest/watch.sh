#!/bin/sh
# SPDX-License-Identifier: Apache-2.0
# Finds a guest that the lab itself has stopped: with two CPUs QEMU's SVM may enter a guest with the state of the lab's
# own kernel. Each entry is then a page fault, thousands a second, and the guest gets no interrupt and does no I/O any
# more (docs/lab.md). A guest that stops for its own reasons has no such faults. Sourced by lab-run.sh.

# look_at_guests KVM SEEN: one look at KVM's directory in debugfs, ten seconds after the last one; SEEN is a directory
# for what the last looks saw. Prints the guests (PID-DESCRIPTOR) that were so for a minute, once.
look_at_guests() {
    mkdir -p "$2"
    for vm in "$1"/*-*; do
        [ -r "$vm/exits" ] || continue
        seen=$2/${vm##*/}
        exits=$(cat "$vm/exits") faults=$(cat "$vm/pf_taken")
        work=$(cd "$vm" && cat irq_injections nmi_injections io_exits mmio_exits halt_exits | tr '\n' ' ')
        last_exits=$exits last_faults=$faults last_work='' times=0
        # shellcheck disable=SC1090
        [ ! -e "$seen" ] || . "$seen"
        exits_since=$((exits - last_exits)) faults_since=$((faults - last_faults))
        if [ "$work" = "$last_work" ] && [ $exits_since -gt 10000 ] &&
            [ $((faults_since * 10)) -ge $((exits_since * 9)) ]; then
            times=$((times + 1))
        else
            times=0
        fi
        echo "last_exits=$exits last_faults=$faults last_work='$work' times=$times" >"$seen"
        [ $times != 6 ] || echo "${vm##*/}"
    done
}

# entries_of TRACING: what KVM's trace says of the next few exits
entries_of() {
    echo 1 >"$1/events/kvm/kvm_exit/enable" 2>/dev/null || return
    sleep 0.1
    echo 0 >"$1/events/kvm/kvm_exit/enable"
    grep kvm_exit "$1/trace" | tail -n 5
}
