#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""The lab keeps its promises: status, output, files, time limit, and a KVM and a VFIO that work."""
import atexit, hashlib, re, shutil, subprocess
import lab
from lab import check, checks, expect, expect_same, read

JOB = r"""
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
uname -r | sed "s/^/kernel /"
[ ! -e /dev/iommu ] || echo "has iommufd"
ls /dev/vfio/devices/vfio* >/dev/null 2>&1 && echo "has VFIO character devices"
mdev=4c3a4f5e-6f1a-4b0b-9a53-000000000001
echo $mdev >/sys/class/mdev_bus/mtty/mdev_supported_types/mtty-2/create
[ ! -e /sys/bus/mdev/devices/$mdev/iommu_group ] || echo "has a mediated device"
[ ! -e /sys/module/inox_ud ] || echo "has inox_ud"
[ ! -e /sys/module/inox_svm ] || echo "has inox_svm"
[ ! -e /proc/modules ] || echo "has modules"
[ ! -e /sys/kernel/debug/kprobes ] || echo "has kprobes"
[ ! -e /proc/sys/kernel/seccomp/actions_avail ] || echo "has seccomp"
[ "$(unshare --user --map-root-user --net id -u)" != 0 ] || echo "has user namespaces"
! grep -qw hugetlb /sys/fs/cgroup/cgroup.controllers || echo "has the hugetlb cgroup"
python3 -c 'import ctypes; print("has landlock" if ctypes.CDLL(None).syscall(444, None, 0, 1) > 0 else "no landlock")'
bash -c '. "$1/tools/lib/common.sh"; . "$1/tools/lib/machine.sh"; probe_host; echo "has a $kvm KVM"' bash "$3"
echo result >"$LAB_OUT/result"
touch "$2/file" 2>/dev/null && echo "the host's files can be written to"
touch /tmp/file && echo "fresh tmp"
sleep 1000 &
exit 203
"""


HAS = ["inox_ud", "modules", "kprobes", "seccomp", "the hugetlb cgroup", "landlock", "a good KVM",
       "a mediated device", "user namespaces"]
HAS_SINCE = [((6, 6), "iommufd"), ((6, 6), "VFIO character devices"), ((6, 14), "inox_svm")]


def outside():
    work = lab.work_directory("lab-test")
    lab.write(work / "job", JOB)
    busy = Run("--timeout", "300", "--device", "nvme", "--device", "mtty", "--out", work / "out", "--", "bash",
               work / "job", "two words", work, lab.ROOT)
    checks("", busy.keeps_the_status, busy.keeps_words_and_every_byte_of_the_output, busy.has_KVM_and_VFIO)
    for thing in HAS + [thing for since, thing in HAS_SINCE if busy.kernel() >= since]:
        check("", busy.has, thing)
    checks("", busy.has_the_hosts_files_read_only_and_a_fresh_tmp, busy.keeps_logs_on_failure)
    check("", a_result_is_in_its_out_directory, work / "out/result")
    check("", the_time_limit_ends_it)
    check("", a_machine_that_dies_is_told)


class Run:
    """What became of a command in the lab."""

    def __init__(self, *words):
        done = subprocess.run([lab.ROOT / "tools/lab", "--nested", *words], stdin=subprocess.DEVNULL,
                              capture_output=True, text=True)
        self.status, self.out, self.errors = done.returncode, done.stdout.splitlines(), done.stderr.splitlines()
        self.logs = re.findall("/tmp/inox-lab[.][A-Za-z0-9]*", done.stderr)
        for path in self.logs:
            atexit.register(shutil.rmtree, path, ignore_errors=True)
        if self.status == 126:
            raise lab.Skip(f"the lab machine cannot start here: {self.errors[-1:]}")

    def keeps_the_status(self):
        expect(self.status == 203, f"{self.status}: {self.errors}")

    def keeps_words_and_every_byte_of_the_output(self):
        """And standard output and error apart"""
        numbers = "".join(f"{number}\n" for number in range(1, 200001))
        for line in ("to stdout: two words", "by name", f"{hashlib.sha256(numbers.encode()).hexdigest()}  -"):
            expect(line in self.out, f"no line '{line}' in {self.out}")
        expect("to stderr" in self.errors and "to stderr" not in self.out, self.errors)

    def has_KVM_and_VFIO(self):
        expect({"/dev/kvm", "/dev/vfio/vfio"} <= set(self.out), self.out)
        nvme = [line for line in self.out if re.match("nvme in group [0-9]+$|driver vfio-pci$", line)]
        expect(len(nvme) == 2, nvme)

    def kernel(self):
        release = next(line.split()[1] for line in self.out if line.startswith("kernel "))
        return tuple(int(part) for part in release.split(".")[:2])

    def has(self, thing):
        expect(f"has {thing}" in self.out, self.out)

    def has_the_hosts_files_read_only_and_a_fresh_tmp(self):
        expect("fresh tmp" in self.out and "the host's files can be written to" not in self.out, self.out)

    def keeps_logs_on_failure(self):
        expect(read(f"{self.logs[-1]}/dmesg.log"), "dmesg.log is empty")


def a_result_is_in_its_out_directory(path):
    expect_same(read(path), "result\n")


def the_time_limit_ends_it():
    expect_same(Run("--timeout", "5", "--", "sleep", "1000").status, 124)


def a_machine_that_dies_is_told():
    expect_same(Run("--timeout", "300", "--", "sh", "-c", "echo c >/proc/sysrq-trigger").status, 125)


lab.main(outside, None)
