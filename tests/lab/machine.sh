#!/bin/bash
# SPDX-License-Identifier: Apache-2.0
# The lab keeps its promises: status, output, files, time limit, and a KVM and a VFIO that work.
set -uo pipefail
root=$(readlink -f "$(dirname "$(readlink -f "$0")")/../..")
. "$root/tests/lab/lib.sh"
work=$(mktemp -d /tmp/inox-lab-test.XXXXXX)
at_end 'grep -ho "/tmp/inox-lab\.[A-Za-z0-9]*" "$work/all" | xargs -r rm -rf; rm -rf "$work"'
failed=0

# lab ARGS...: runs it; sets status, and $work/stdout and $work/stderr
lab() {
    "$root/tools/lab" --nested "$@" >"$work/stdout" 2>"$work/stderr" </dev/null
    status=$?
    cat "$work/stderr" >>"$work/all"
    if [ $status = 126 ]; then
        echo "SKIP the lab machine cannot start here: $(tail -n 1 "$work/stderr")"
        exit 77
    fi
}

# check TEXT COMMAND...
check() {
    local text=$1
    shift
    if "$@"; then echo "PASS $text"; else echo "FAIL $text (status $status)"; tail -n 3 "$work/stdout" "$work/stderr"; failed=1; fi
}

cat >"$work/job" <<'EOS'
echo "to stdout: $1"
echo "to stderr" >&2
echo "by name" >/dev/stdout
seq 1 200000 | sha256sum
ls /dev/kvm /dev/vfio/vfio
for device in /sys/bus/pci/devices/*; do
    [ "$(cat "$device/vendor" "$device/device" | tr '\n' ' ')" = "0x1b36 0x0010 " ] || continue
    basename "$(readlink -f "$device/iommu_group")" | sed 's/^/nvme in group /'
    echo vfio-pci >"$device/driver_override"
    [ ! -e "$device/driver" ] || basename "$device" >"$device/driver/unbind"
    basename "$device" >/sys/bus/pci/drivers_probe
    basename "$(readlink -f "$device/driver")" | sed 's/^/driver /'
done
[ ! -e /sys/module/inox_ud ] || echo "has inox_ud"
[ ! -e /proc/modules ] || echo "has modules"
[ ! -e /sys/kernel/debug/kprobes ] || echo "has kprobes"
[ ! -e /proc/sys/kernel/seccomp/actions_avail ] || echo "has seccomp"
! grep -qw hugetlb /sys/fs/cgroup/cgroup.controllers || echo "has the hugetlb cgroup"
python3 -c 'import ctypes; print("has landlock" if ctypes.CDLL(None).syscall(444, None, 0, 1) > 0 else "no landlock")'
bash -c '. "$1/tools/lib/common.sh"; . "$1/tools/lib/machine.sh"; probe_host; echo "has a $kvm KVM"' bash "$3"
echo result >"$LAB_OUT/result"
touch "$2/file" 2>/dev/null && echo "the host's files can be written to"
touch /tmp/file && echo "fresh tmp"
sleep 1000 &
exit 203
EOS
lab --timeout 300 --device nvme --out "$work/out" -- bash "$work/job" "two words" "$work" "$root"
check "the command's status" [ "$status" = 203 ]
check "its words, unchanged" grep -qx 'to stdout: two words' "$work/stdout"
check "stdout and stderr apart" grep -qx 'to stderr' "$work/stderr"
check "stdout by its name" grep -qx 'by name' "$work/stdout"
check "every byte of the output" grep -q "$(seq 1 200000 | sha256sum)" "$work/stdout"
check "KVM and VFIO" [ "$(grep -c '^/dev' "$work/stdout")" = 2 ]
check "the NVMe disk in a group, bound to vfio-pci" [ "$(grep -cE '^nvme in group [0-9]+|^driver vfio-pci' "$work/stdout")" = 2 ]
for thing in inox_ud modules kprobes seccomp "the hugetlb cgroup" landlock "a good KVM"; do
    check "has $thing" grep -qx "has $thing" "$work/stdout"
done
check "a result in --out" [ "$(cat "$work/out/result" 2>/dev/null)" = result ]
check "the host's files read-only, /tmp fresh" [ "$(grep -xE "the host's files.*|fresh tmp" "$work/stdout")" = "fresh tmp" ]
check "logs kept on failure" [ -s "$(grep -o '/tmp/inox-lab\.[A-Za-z0-9]*' "$work/stderr" | tail -n 1)/dmesg.log" ]

lab --timeout 5 -- sleep 1000
check "the time limit" [ "$status" = 124 ]
lab --timeout 300 -- sh -c 'echo c >/proc/sysrq-trigger'
check "a machine that dies" [ "$status" = 125 ]
exit $failed
