#!/bin/bash
# SPDX-License-Identifier: Apache-2.0
# What the tools take this host's KVM for is true: "good" is one that Linux boots on, and none is without VMX or SVM.
set -uo pipefail
root=$(readlink -f "$(dirname "$(readlink -f "$0")")/../..")
INOX_CACHE=$(mktemp -d)
export INOX_CACHE
trap 'rm -rf "$INOX_CACHE"' EXIT
failed=0
probe='. "$1/tools/lib/common.sh"; . "$1/tools/lib/machine.sh"; probe_host; echo "$tsc_khz $kvm"'
for turn in 1 2 3 4 5; do
    read -r khz kvm < <(bash -c "$probe" bash "$root")
    echo "$turn: TSC $khz kHz, /dev/kvm $kvm"
    [ "${khz:-0}" -gt 100000 ] || { echo "FAIL the TSC's rate"; failed=1; }
    case $kvm in
        missing) [ ! -e /dev/kvm ] || { echo "FAIL there is a /dev/kvm"; failed=1; } ;;
        good) grep -qwE 'vmx|svm' /proc/cpuinfo || { echo "FAIL a good KVM on a CPU without VMX or SVM"; failed=1; } ;;
        interpreting | denied | broken) [ -e /dev/kvm ] || { echo "FAIL there is no /dev/kvm"; failed=1; } ;;
        *) echo "FAIL what is that?"; failed=1 ;;
    esac
done
exit $failed
